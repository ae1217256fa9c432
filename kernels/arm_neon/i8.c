/* Rows of int8. */
#include "kernels/kernels.h"

#define ROW_TYPE FFF_WEIGHT_I8
#define USE_DOTPROD false

#include "kernels/arm_neon/i8_rows.h"

const struct fff_row_kernels fff_i8_rows_arm_neon = {descend, node_dot, two_levels, roots, accumulate, add_roots};
