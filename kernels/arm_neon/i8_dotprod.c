/* Rows of int8, with the dot product extension. */
#include "kernels/kernels.h"

#define ROW_TYPE FFF_WEIGHT_I8
#define ROW_KERNELS_OF i8_dotprod_arm_neon
#define USE_DOTPROD true

#include "kernels/arm_neon/i8_rows.h"

const struct fff_row_kernels fff_i8_rows_arm_neon_dotprod = ROW_KERNELS;
