/* Rows of int8. */
#include "kernels/kernels.h"

#define ROW_TYPE FFF_WEIGHT_I8
#define ROW_KERNELS_OF i8_x86_avx512
#define USE_VNNI false

#include "kernels/x86_avx512/i8_rows.h"

const struct fff_row_kernels fff_i8_rows_x86_avx512 = ROW_KERNELS;
