#include "tests/soak/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CANARY = 0xa5 };

/* Under the address sanitizer there are no zones of ours, so that it sees reads beyond the rows, too. */
#if FFF_UNDER_ASAN
enum { ZONE_BEFORE = 0, MOST_SHIFTED = 0, ZONE_AFTER = 0 };
#else
enum { ZONE_BEFORE = 256, MOST_SHIFTED = 15, ZONE_AFTER = 1024 };
#endif

struct soak_rows soak_make_rows(size_t rows, size_t width, size_t element_size, uint64_t *state) {
    size_t stride = width + random_below(state, 4);
    struct soak_rows made = {
        .stride = stride,
        .rows = rows,
        .row_bytes = width * element_size,
        .stride_bytes = stride * element_size,
        .before = ZONE_BEFORE + element_size * between(state, 0, MOST_SHIFTED),
        .after = ZONE_AFTER,
    };
    size_t size = made.before + rows * made.stride_bytes + made.after;
    made.memory = malloc(size);
    if (made.memory == NULL) {
        fputs("soak: no memory\n", stderr);
        exit(2);
    }
    memset(made.memory, CANARY, size);
    made.data = made.memory + made.before;
    return made;
}

struct soak_rows soak_make_workspace(size_t size, uint64_t *state) {
    return soak_make_rows(1, size, 1, state);
}

void soak_fill_rows(struct soak_rows *rows, const float *from) {
    for (size_t row = 0; row < rows->rows; row++) {
        memcpy((unsigned char *)rows->data + row * rows->stride_bytes,
               (const unsigned char *)from + row * rows->row_bytes, rows->row_bytes);
    }
}

static bool is_whole(const unsigned char *bytes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (bytes[i] != CANARY) {
            return false;
        }
    }
    return true;
}

void soak_free_rows(struct soak_run *run, const char *what, struct soak_rows *rows) {
    const unsigned char *data = rows->data;
    size_t gap = rows->stride_bytes - rows->row_bytes;
    bool whole = is_whole(rows->memory, rows->before) && is_whole(data + rows->rows * rows->stride_bytes, rows->after);
    for (size_t row = 0; row < rows->rows; row++) {
        whole = whole && is_whole(data + row * rows->stride_bytes + rows->row_bytes, gap);
    }
    if (!whole) {
        soak_fail(run, what);
    }
    free(rows->memory);
}
