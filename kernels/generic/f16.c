/* Rows of float16. */
#include "kernels/kernels.h"

#define ROW_TYPE FFF_WEIGHT_F16

#include "kernels/generic/rows.h"

const struct fff_row_kernels fff_f16_rows_generic = {descend, node_dot, two_levels, roots, accumulate, add_roots};
