/* Rows of int8. */
#include "kernels/kernels.h"

#define ROW_TYPE FFF_WEIGHT_I8
#define USE_VNNI false

#include "kernels/x86_avx2/i8_rows.h"

const struct fff_row_kernels fff_i8_rows_x86_avx2 = {descend, node_dot, two_levels, roots, accumulate, add_roots};
