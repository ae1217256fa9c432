/* Random choices and numbers, and memory for them. */
#ifndef FFF_TESTS_SOAK_DRAW_H
#define FFF_TESTS_SOAK_DRAW_H

#include "tools/random.h"

#include <stdbool.h>
#include <stddef.h>

/* True once in so many times. */
static inline bool chance(uint64_t *state, unsigned of) {
    return random_below(state, of) == 0;
}

static inline size_t between(uint64_t *state, size_t least, size_t most) {
    return least + random_below(state, most - least + 1);
}

enum numbers {
    NUMBERS_NORMAL,
    NUMBERS_SMALL_INTEGERS, /* exact ties */
    NUMBERS_ANY_BITS,       /* infinities and NaNs among them */
    NUMBERS_TINY,           /* products and sums that underflow */
    NUMBERS_HUGE,           /* sums that overflow */
    NUMBERS_MIXED_SCALES,
    NUMBERS_ZEROS, /* of either sign */
    NUMBERS_KINDS,
};

/* Mostly the numbers that layers have. */
enum numbers soak_any_kind(uint64_t *state);
/* A kind whose numbers are all finite: for thresholds and factors. */
enum numbers soak_finite_kind(uint64_t *state);
float soak_number(enum numbers kind, uint64_t *state);
void soak_fill(float *numbers, size_t count, enum numbers kind, uint64_t *state);

/* `count` elements of `size` bytes, zeros; ends the program if there is no memory. */
void *soak_allocate(size_t count, size_t size);

#endif
