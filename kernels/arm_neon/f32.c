/* Rows of float32. */
#include "kernels/kernels.h"

#define ROW_TYPE FFF_WEIGHT_F32

#include "kernels/arm_neon/rows.h"

const struct fff_row_kernels fff_f32_rows_arm_neon = {descend, node_dot, two_levels, roots, accumulate, add_roots};
