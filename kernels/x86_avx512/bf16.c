/* Rows of bfloat16. */
#include "kernels/kernels.h"

#define ROW_TYPE FFF_WEIGHT_BF16

#include "kernels/x86_avx512/rows.h"

const struct fff_row_kernels fff_bf16_rows_x86_avx512 = {descend, node_dot, two_levels, roots, accumulate, add_roots};
