/* Matrices in the caller's memory: whether one can be used, and whether two share memory. */
#ifndef FFF_ROWS_H
#define FFF_ROWS_H

#include <fff/fff.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Some bytes at regular distances; all sizes in bytes. Between the rows may lie anything. */
struct fff_rows {
    uintptr_t start, end;
    size_t count;  /* at least 1 */
    size_t size;   /* of a row, at least 1 */
    size_t stride; /* from row to row, at least `size` */
};

/* A matrix of 4-byte elements, from its sizes in elements. Anything but FFF_OK says what is wrong with it. */
fff_status fff_check_rows(const void *data, size_t rows, size_t columns, size_t stride, struct fff_rows *checked);

/* Likewise, of elements of 1, 2 or 4 bytes, which are aligned to that. */
fff_status fff_check_elements(const void *data, size_t element, size_t rows, size_t columns, size_t stride,
                              struct fff_rows *checked);

/* `size` bytes on end, at any alignment. */
fff_status fff_check_bytes(const void *data, size_t size, struct fff_rows *checked);

/* Whether any byte is in both: exact, whatever the strides. Of both, either function above has said FFF_OK. */
bool fff_rows_overlap(const struct fff_rows *a, const struct fff_rows *b);

/* Whether one of the first `written` of `count` matrices shares a byte with any other. */
bool fff_any_overlap(const struct fff_rows *matrices, size_t written, size_t count);

#endif
