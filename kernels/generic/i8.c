/* Rows of int8. */
#include "kernels/kernels.h"

#define ROW_TYPE FFF_WEIGHT_I8

#include "kernels/generic/rows.h"

const struct fff_row_kernels fff_i8_rows_generic = {descend, node_dot, two_levels, roots, accumulate, add_roots};
