/* For fuzz targets of the library's functions: an input as a list of choices, and matrices in an arena that whoever
 * calls might have laid out wrongly. */
#ifndef FFF_TESTS_FUZZ_ARENA_H
#define FFF_TESTS_FUZZ_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is left of an input; zeros when there is nothing left. */
struct choices {
    const uint8_t *bytes;
    size_t left;
};

/* One of `count`, at most 256. */
size_t choose(struct choices *choices, size_t count);
/* One of 65536. */
size_t choose_two_bytes(struct choices *choices);
/* Any size: mostly small; some near a power of two or a fraction of the largest, for products that overflow. */
size_t choose_size(struct choices *choices);

/* a * b and a + b; what is no size becomes SIZE_MAX. */
size_t size_times(size_t a, size_t b);
size_t size_plus(size_t a, size_t b);

/* The caller's memory, with nothing of the program's before or behind it. arena_restore() makes it the same numbers
 * again: floats of several scales, and NaN for the last ARENA_NANS bytes. */
enum { ARENA = 1 << 15, ARENA_NANS = 256 };
extern unsigned char *arena;
void arena_restore(void);

/* A matrix in the arena; or it is not, and the caller lies. Sizes and strides in elements of `element` bytes. Of no
 * rows or columns, it is nothing. */
struct matrix {
    const void *data;
    size_t element, rows, row_stride, columns, column_stride;
    bool written;
};

/* Of any matrix, even one that is not there: aligned, no larger than an object can be, and without two rows (or two
 * columns) that step over each other. */
bool matrix_is_possible(const struct matrix *matrix);
/* All of it is in the arena. Only then can a call that reads it be tried. */
bool matrix_is_there(const struct matrix *matrix);

/* Adds a flag to all bytes of matrices that are possible and there: what is read, written, or a workspace, which is of
 * bytes. Returns whether anything that is written or a workspace meets another one. */
enum { READ = 1, WRITTEN = 2, WORKSPACE = 4 };
bool mark_matrices(const struct matrix *matrices, size_t count, unsigned char marks[ARENA]);

/* Aborts, after a message. */
void fuzz_fail(const char *what, int status);

#endif
