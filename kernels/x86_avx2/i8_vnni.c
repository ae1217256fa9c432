/* Rows of int8, with the VNNI instruction. */
#include "kernels/kernels.h"

#define ROW_TYPE FFF_WEIGHT_I8
#define ROW_KERNELS_OF i8_vnni_x86_avx2
#define USE_VNNI true

#include "kernels/x86_avx2/i8_rows.h"

const struct fff_row_kernels fff_i8_rows_x86_avx2_vnni = ROW_KERNELS;
