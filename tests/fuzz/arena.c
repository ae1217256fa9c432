#include "tests/fuzz/arena.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

unsigned char *arena;

size_t choose(struct choices *choices, size_t count) {
    if (choices->left == 0) {
        return 0;
    }
    choices->left--;
    return *choices->bytes++ % count;
}

size_t choose_two_bytes(struct choices *choices) {
    size_t first = choose(choices, 256);
    return first << 8 | choose(choices, 256);
}

size_t choose_size(struct choices *choices) {
    enum { SMALL = 32, OTHERS = 4, KINDS = 256 };
    size_t kind = choose(choices, KINDS);
    if (kind < KINDS - OTHERS * 16) {
        return kind % SMALL;
    }
    size_t first = choose(choices, 256), second = choose(choices, 256);
    switch (kind % OTHERS) {
    case 0: return first;
    case 1: return first << 8 | second;
    case 2: return ((size_t)1 << first % 64) + second - 128;
    default: return SIZE_MAX / (1 + first) + second - 128;
    }
}

void arena_restore(void) {
    static unsigned char numbers[ARENA];
    if (arena == NULL) {
        uint32_t state = 1;
        for (size_t at = 0; at < ARENA; at += sizeof state) {
            state = state * 1664525u + 1013904223u;
            uint32_t exponent = 120 + (state >> 24) % 16, bits = (state & 0x80000000u) | exponent << 23 | state >> 9;
            memcpy(numbers + at, &bits, sizeof bits);
        }
        memset(numbers + ARENA - ARENA_NANS, 0xff, ARENA_NANS);
        arena = malloc(ARENA);
        if (arena == NULL) {
            abort();
        }
    }
    memcpy(arena, numbers, ARENA);
}

size_t size_times(size_t a, size_t b) {
    return b > 0 && a > SIZE_MAX / b ? SIZE_MAX : a * b;
}

size_t size_plus(size_t a, size_t b) {
    return a > SIZE_MAX - b ? SIZE_MAX : a + b;
}

/* In bytes, from its first element to past its last one. */
static size_t extent(const struct matrix *m) {
    size_t down = size_times(m->rows - 1, m->row_stride), across = size_times(m->columns - 1, m->column_stride);
    return size_times(size_plus(size_plus(down, across), 1), m->element);
}

static bool is_empty(const struct matrix *m) {
    return m->rows == 0 || m->columns == 0;
}

bool matrix_is_possible(const struct matrix *m) {
    if (is_empty(m)) {
        return true;
    }
    size_t across = size_times(m->columns - 1, m->column_stride), down = size_times(m->rows - 1, m->row_stride);
    bool apart = (m->rows == 1 || m->row_stride > across) && (m->columns == 1 || m->column_stride > 0);
    bool transposed = (m->columns == 1 || m->column_stride > down) && (m->rows == 1 || m->row_stride > 0);
    return m->data != NULL && (uintptr_t)m->data % m->element == 0 && extent(m) <= PTRDIFF_MAX && (apart || transposed);
}

bool matrix_is_there(const struct matrix *m) {
    if (is_empty(m)) {
        return true;
    }
    uintptr_t data = (uintptr_t)m->data, start = (uintptr_t)arena;
    return data >= start && data - start <= ARENA && extent(m) <= ARENA - (data - start);
}

/* Byte by byte, as the library does not do it. */
static bool mark(const struct matrix *m, unsigned char *marks) {
    unsigned char flag = !m->written ? READ : m->element == 1 ? WORKSPACE : WRITTEN;
    size_t size = m->columns * m->element, start = (size_t)((const unsigned char *)m->data - arena);
    bool met = false;
    for (size_t row = 0; row < m->rows && size > 0; row++) {
        for (size_t at = start + row * m->row_stride * m->element, end = at + size; at < end; at++) {
            met = met || (marks[at] & ~READ) != 0 || (flag != READ && marks[at] != 0);
            marks[at] |= flag;
        }
    }
    return met;
}

bool mark_matrices(const struct matrix *matrices, size_t count, unsigned char marks[ARENA]) {
    bool met = false;
    for (size_t i = 0; i < count; i++) {
        if (matrix_is_possible(&matrices[i]) && matrix_is_there(&matrices[i])) {
            met = mark(&matrices[i], marks) || met;
        }
    }
    return met;
}

void fuzz_fail(const char *what, int status) {
    fprintf(stderr, "%s: status %d\n", what, status);
    abort();
}
