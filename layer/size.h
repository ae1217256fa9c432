/* Arithmetic on sizes; checked, where they come from callers. */
#ifndef FFF_SIZE_H
#define FFF_SIZE_H

#include "kernels/toolbox.h" /* fff_min() */

static inline size_t fff_max(size_t value, size_t limit) {
    return value > limit ? value : limit;
}

/* The first of task `index`'s even share of `count`; the last of its share is the first of the next one's. */
static inline size_t fff_share_start(size_t count, size_t tasks, size_t index) {
    size_t share = count / tasks, extra = count % tasks;
    return index * share + fff_min(index, extra);
}

/* *result = a * b or a + b; false, with *result meaningless, if that overflows. */
static inline bool fff_size_multiply(size_t a, size_t b, size_t *result) {
    return !__builtin_mul_overflow(a, b, result);
}
static inline bool fff_size_add(size_t a, size_t b, size_t *result) {
    return !__builtin_add_overflow(a, b, result);
}

/* The bytes from the first to past the last element of a strided matrix; false if that is more than
 * any object can have. rows and columns are at least 1. */
static inline bool fff_size_extent(size_t rows, size_t row_stride, size_t columns, size_t column_stride,
                                   size_t element_size, size_t *bytes) {
    size_t down, across, elements;
    return fff_size_multiply(rows - 1, row_stride, &down) && fff_size_multiply(columns - 1, column_stride, &across) &&
           fff_size_add(down, across, &elements) && fff_size_add(elements, 1, &elements) &&
           fff_size_multiply(elements, element_size, bytes) && *bytes <= PTRDIFF_MAX;
}

/* value rounded up to a multiple of quantum (a power of two); false if that overflows. */
static inline bool fff_size_round_up(size_t value, size_t quantum, size_t *result) {
    if (!fff_size_add(value, quantum - 1, result)) {
        return false;
    }
    *result &= ~(quantum - 1);
    return true;
}

#endif
