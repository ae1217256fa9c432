/* The caller's floating-point mode, which must neither matter nor change. */
#ifndef FFF_TESTS_SOAK_MODE_H
#define FFF_TESTS_SOAK_MODE_H

#include <stdbool.h>
#include <stdint.h>

struct mode {
    int rounding;
    bool flush; /* denormals to zero, both ways */
    bool trap;  /* on x86-64: any exception, even an inexact result, ends the program */
};

/* The usual one half of the time. */
struct mode mode_draw(uint64_t *state);

/* Returns what mode_leave() wants. */
uint64_t mode_enter(struct mode mode);
/* Whether the mode was still the same; then the usual one is back. */
bool mode_leave(uint64_t entered);

#endif
