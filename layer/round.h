/* A round of tasks on the caller's threads, of which it is certain afterwards that each has run once. */
#ifndef FFF_ROUND_H
#define FFF_ROUND_H

#include <fff/fff.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

/* Lies in the workspace, not on the stack: a runner that returns too early may call tasks later. What serves for
 * several rounds in turn keeps its count and states, which such a call reads at any time; the task and its argument are
 * read only by who has got one to run. */
struct fff_round {
    void (*task)(void *argument, size_t index);
    void *argument;
    size_t count;
    atomic_bool misused;  /* a task was called twice, or with an index of `count` or more */
    atomic_uchar *states; /* one a task */
};

/* Has `runner` call task(argument, i) for each i below round->count, and returns whether every one has run once. Those
 * calls of the runner that would run one again, or one that there is not, do nothing; so do all that come after this
 * has returned, as long as the round's memory is left alone; or, where it serves for another round, until that begins:
 * then they are calls like any other of that one. round->states has room for round->count. */
bool fff_run_round(struct fff_round *round, const fff_runner *runner, void (*task)(void *argument, size_t index),
                   void *argument);

#endif
