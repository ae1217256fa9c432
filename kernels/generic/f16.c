/* Rows of float16. */
#include "kernels/kernels.h"

#define ROW_TYPE FFF_WEIGHT_F16
#define ROW_KERNELS_OF f16_generic

#include "kernels/generic/rows.h"

const struct fff_row_kernels fff_f16_rows_generic = ROW_KERNELS;
