/* Rows of float16. */
#include "kernels/kernels.h"

#define ROW_TYPE FFF_WEIGHT_F16

#include "kernels/x86_avx2/rows.h"

const struct fff_row_kernels fff_f16_rows_x86_avx2 = {descend, node_dot, two_levels, roots, accumulate, add_roots};
