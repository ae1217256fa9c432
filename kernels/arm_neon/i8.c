/* Rows of int8. */
#include "kernels/kernels.h"

#define ROW_TYPE FFF_WEIGHT_I8
#define ROW_KERNELS_OF i8_arm_neon
#define USE_DOTPROD false

#include "kernels/arm_neon/i8_rows.h"

const struct fff_row_kernels fff_i8_rows_arm_neon = ROW_KERNELS;
