/* A thread for each task, for tests of either kind: with cmocka (tests/support.h) and without (tests/soak/). */
#ifndef FFF_TESTS_THREADS_H
#define FFF_TESTS_THREADS_H

#include <stdbool.h>
#include <stddef.h>

enum { THREADS_MOST = 16 };

/* Calls task(argument, i) for each i below `count`, each on a new thread, and waits for all. A new thread has the
 * floating-point mode of the one that makes it. False, with nothing run, if count is above THREADS_MOST; false, too,
 * with some tasks left out, if the system gives no thread. */
bool threads_run(size_t count, void (*task)(void *argument, size_t index), void *argument);

#endif
