#include "layer/round.h"

enum { WAITING, BEGUN, ENDED };

/* Takes a task out of WAITING: true for one caller only, which is to run it, and sees all that was written before the
 * task was made to wait. */
static bool begin(atomic_uchar *state) {
    unsigned char expected = WAITING;
    return atomic_compare_exchange_strong_explicit(state, &expected, BEGUN, memory_order_acquire, memory_order_relaxed);
}

/* What the runner calls in place of the task. */
static void run_once(void *argument, size_t index) {
    struct fff_round *round = argument;
    if (index >= round->count || !begin(&round->states[index])) {
        atomic_store_explicit(&round->misused, true, memory_order_release);
        return;
    }
    round->task(round->argument, index);
    atomic_store_explicit(&round->states[index], ENDED, memory_order_release);
}

bool fff_run_round(struct fff_round *round, const fff_runner *runner, void (*task)(void *argument, size_t index),
                   void *argument) {
    round->task = task;
    round->argument = argument;
    atomic_store_explicit(&round->misused, false, memory_order_relaxed);
    for (size_t i = 0; i < round->count; i++) { /* for a call, too, that is left over from the round before */
        atomic_store_explicit(&round->states[i], WAITING, memory_order_release);
    }
    runner->run(runner->context, round->count, run_once, round);
    bool complete = !atomic_load_explicit(&round->misused, memory_order_acquire);
    for (size_t i = 0; i < round->count; i++) {
        complete &= atomic_load_explicit(&round->states[i], memory_order_acquire) == ENDED;
    }
    for (size_t i = 0; i < round->count && !complete; i++) {
        (void)begin(&round->states[i]); /* nothing begins any more */
    }
    return complete;
}
