/* Rows of float32 in the caller's memory, of which nothing is read but what they hold. */
#include "kernels/kernels.h"

#define ROW_TYPE FFF_WEIGHT_F32
#define ROW_READS_EXACTLY 1
#define ROW_KERNELS_OF f32_exact_x86_avx2

#include "kernels/x86_avx2/rows.h"

const struct fff_row_kernels fff_f32_exact_rows_x86_avx2 = ROW_KERNELS;
