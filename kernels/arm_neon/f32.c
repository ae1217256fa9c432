/* Rows of float32. */
#include "kernels/kernels.h"

#define ROW_TYPE FFF_WEIGHT_F32
#define ROW_KERNELS_OF f32_arm_neon

#include "kernels/arm_neon/rows.h"

const struct fff_row_kernels fff_f32_rows_arm_neon = ROW_KERNELS;
