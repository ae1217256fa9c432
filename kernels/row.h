/* Rows of one type. A folder has one source file for each type, which says
 *
 *     #define ROW_TYPE FFF_WEIGHT_BF16
 *     #define ROW_KERNELS_OF bf16_x86_avx512
 *
 * and then includes the kernels: all of them are written once, and only a folder's load_row() looks at ROW_TYPE, to
 * return weights as floats. Every function of such a file is static or inlined.
 *
 * With ROW_READS_EXACTLY 1 these are the kernels for float32 rows behind which there may be no memory: of a row's last,
 * incomplete register they load the columns that are there. All else is the same code. */
#ifndef FFF_KERNELS_ROW_H
#define FFF_KERNELS_ROW_H

#include "kernels/toolbox.h"

#ifndef ROW_READS_EXACTLY
#define ROW_READS_EXACTLY 0
#endif

/* A kernel's whole name, by which profilers and scripts/check_library.sh know it: KERNEL(descend) is
 * descend_bf16_x86_avx512. */
#define KERNEL(name) FFF_JOIN(name, ROW_KERNELS_OF)
#define FFF_JOIN(name, suffix) FFF_JOIN_EXPANDED(name, suffix)
#define FFF_JOIN_EXPANDED(name, suffix) name##_##suffix

/* All of them. */
#define ROW_KERNELS                                                                                                    \
    { KERNEL(descend), KERNEL(node_dot), KERNEL(two_levels), KERNEL(roots), KERNEL(accumulate), KERNEL(add_roots) }

/* Where the columns from `column` on, a multiple of a register's, begin in a row. */
FFF_INLINE size_t row_offset(size_t column) {
    switch (ROW_TYPE) {
    case FFF_WEIGHT_BF16: return 2 * fff_bf16_place(column) / 4 * 4;
    case FFF_WEIGHT_F16: return 2 * column;
    case FFF_WEIGHT_I8: return column;
    case FFF_WEIGHT_F32: break;
    }
    return 4 * column;
}

/* Token t's input. */
FFF_INLINE const void *token_at(const void *inputs, size_t input_stride, uint32_t token) {
    return (const char *)inputs + token * input_stride;
}

/* In which half of a step of BF16 columns they begin, for load_row(). */
FFF_INLINE int row_half(size_t column) {
    return ROW_TYPE == FFF_WEIGHT_BF16 ? (int)(column / (FFF_ROW_STEP / 2) % 2) : 0;
}

#endif
