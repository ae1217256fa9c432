/* Rows of float32. */
#include "kernels/kernels.h"

#define ROW_TYPE FFF_WEIGHT_F32
#define ROW_KERNELS_OF f32_x86_avx512

#include "kernels/x86_avx512/rows.h"

const struct fff_row_kernels fff_f32_rows_x86_avx512 = ROW_KERNELS;
