/* Rows of float32. */
#include "kernels/kernels.h"

#define ROW_TYPE FFF_WEIGHT_F32
#define ROW_KERNELS_OF f32_generic

#include "kernels/generic/rows.h"

const struct fff_row_kernels fff_f32_rows_generic = ROW_KERNELS;
