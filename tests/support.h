/* What all tests share: seeds, nasty numbers, and memory that catches stray accesses. */
#ifndef FFF_TESTS_SUPPORT_H
#define FFF_TESTS_SUPPORT_H

/* cmocka wants these before its header */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/**/
#include <cmocka.h>
#if !defined(assert_uint_in_range) /* cmocka 2's name for it */
#define assert_uint_in_range assert_in_range
#endif
#include <fff/fff.h>
#include <stdbool.h>

#include "tools/random.h"

/* The seed of this run: the environment's FFF_TEST_SEED, else from the clock. Printed once by
 * test_start(), so that a failure can be repeated. */
void test_start(const char *program);
/* A fresh state for one test, derived from the run's seed and the test's name. */
uint64_t test_random(const char *test);
/* Whether FFF_TEST_SHORT asks for a part of what a test repeats, as under emulators. */
bool is_short(void);
/* True once in so many times. */
bool chance(uint64_t *state, unsigned of);

/* The kinds of numbers that kernels are fed. */
enum fill {
    FILL_NORMAL,
    FILL_ANY_BITS, /* every pattern: denormals, infinities, NaNs */
    FILL_SIGNED_ZEROS,
    FILL_FEW_VALUES, /* -1, 0, 1: exact ties */
    FILL_TINY,       /* products and sums that underflow */
    FILL_HUGE,       /* sums that overflow */
    FILL_MIXED_SCALES,
    FILL_LARGEST,
    FILL_KINDS,
};

/* What a kind is called in messages. */
const char *fill_name(enum fill kind);
void fill_floats(enum fill kind, float *values, size_t count, uint64_t *state);

/* `size` bytes that end at a page nobody may touch; what lies before them, to the start of their page,
 * is filled with a canary. Aligned to whatever size leaves. */
struct guarded {
    void *data;
    size_t size;
    unsigned char *mapping;
    size_t mapping_size;
};
struct guarded guarded_allocate(size_t size);
/* Fails the test if the canary before the data has changed. */
void guarded_free(struct guarded *memory);

/* Fails the test unless all bits agree; NaNs agree with each other. */
void assert_same_floats(const float *actual, const float *expected, size_t count, const char *what);

/* `count` elements of `size` bytes, zeros, for free(); fails the test if there is no memory. */
void *test_allocate(size_t count, size_t size);
/* `size` bytes at a multiple of `alignment`, for test_free_aligned(). */
void *test_allocate_aligned(size_t alignment, size_t size);
void test_free_aligned(void *memory);
/* Sets an environment variable; NULL takes it away. Windows has none that is empty, and takes it away then, too. */
void test_set_environment(const char *name, const char *value);
/* A layer for this instruction set, whichever desc names; fails the test if it cannot be made. */
fff_layer *test_create_layer(const fff_layer_desc *desc, fff_isa isa);

/* A runner's `run` that starts a thread a task, at most THREADS_MOST (tests/threads.h): as much at once as can be. */
void test_run_on_threads(void *context, size_t count, void (*task)(void *argument, size_t index), void *argument);

/* Whether this instruction set can run here; cmocka's skip() otherwise. */
#define SKIP_UNLESS_USABLE(isa)                                                                                        \
    do {                                                                                                               \
        if (fff_isa_usable(isa) != FFF_OK) {                                                                           \
            skip();                                                                                                    \
        }                                                                                                              \
    } while (0)

#endif
