/* Rows of int8, with the dot product extension. */
#include "kernels/kernels.h"

#define ROW_TYPE FFF_WEIGHT_I8
#define USE_DOTPROD true

#include "kernels/arm_neon/i8_rows.h"

const struct fff_row_kernels fff_i8_rows_arm_neon_dotprod = {descend, node_dot,   two_levels,
                                                             roots,   accumulate, add_roots};
