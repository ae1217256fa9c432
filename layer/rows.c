#include "layer/rows.h"

#include "layer/size.h"

fff_status fff_check_elements(const void *data, size_t element, size_t rows, size_t columns, size_t stride,
                              struct fff_rows *checked) {
    if (data == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    if ((uintptr_t)data % element != 0) {
        return FFF_ERROR_ALIGNMENT;
    }
    if (stride < columns) {
        return FFF_ERROR_STRIDE;
    }
    size_t bytes, end;
    if (!fff_size_extent(rows, stride, columns, 1, element, &bytes) || !fff_size_add((uintptr_t)data, bytes, &end)) {
        return FFF_ERROR_OVERFLOW;
    }
    size_t size = columns * element;
    /* Of a single row, the stride means nothing, and may be too large to count in bytes. */
    *checked = (struct fff_rows){(uintptr_t)data, end, rows, size, rows > 1 ? stride * element : size};
    return FFF_OK;
}

fff_status fff_check_rows(const void *data, size_t rows, size_t columns, size_t stride, struct fff_rows *checked) {
    return fff_check_elements(data, sizeof(float), rows, columns, stride, checked);
}

fff_status fff_check_bytes(const void *data, size_t size, struct fff_rows *checked) {
    if (data == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    size_t end;
    if (size > PTRDIFF_MAX || !fff_size_add((uintptr_t)data, size, &end)) {
        return FFF_ERROR_OVERFLOW;
    }
    *checked = (struct fff_rows){(uintptr_t)data, end, 1, size, size};
    return FFF_OK;
}

/* Whether any row has a byte of the `size` bytes at `start`. The last row to begin before their end decides: those
 * before it end before it begins. */
static bool rows_meet(const struct fff_rows *rows, uintptr_t start, size_t size) {
    uintptr_t last_byte = start + size - 1;
    if (last_byte < rows->start) {
        return false;
    }
    size_t row = fff_min((last_byte - rows->start) / rows->stride, rows->count - 1);
    return rows->start + row * rows->stride + rows->size > start;
}

bool fff_rows_overlap(const struct fff_rows *a, const struct fff_rows *b) {
    if (a->start >= b->end || b->start >= a->end) {
        return false;
    }
    /* One row after the other of the matrix that has fewer of them here. */
    const struct fff_rows *few = a->stride >= b->stride ? a : b, *many = few == a ? b : a;
    size_t first = few->start < many->start ? (many->start - few->start) / few->stride : 0;
    /* If strides are equal, all rows lie alike; but the first may end before the other matrix begins. */
    size_t last = a->stride == b->stride ? fff_min(few->count - 1, first + 1) : few->count - 1;
    for (size_t row = first; row <= last; row++) {
        uintptr_t start = few->start + row * few->stride;
        if (start >= many->end) {
            return false;
        }
        if (rows_meet(many, start, few->size)) {
            return true;
        }
    }
    return false;
}

bool fff_any_overlap(const struct fff_rows *matrices, size_t written, size_t count) {
    for (size_t i = 0; i < written; i++) {
        for (size_t j = i + 1; j < count; j++) {
            if (fff_rows_overlap(&matrices[i], &matrices[j])) {
                return true;
            }
        }
    }
    return false;
}
