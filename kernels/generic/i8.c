/* Rows of int8. */
#include "kernels/kernels.h"

#define ROW_TYPE FFF_WEIGHT_I8
#define ROW_KERNELS_OF i8_generic

#include "kernels/generic/rows.h"

const struct fff_row_kernels fff_i8_rows_generic = ROW_KERNELS;
