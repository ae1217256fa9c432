#include "tests/soak/run.h"
#include "tests/threads.h"

#include <stdio.h>
#include <stdlib.h>

enum { MOST_TASKS = 8, MOST_THREADS = 7 };

static void run_backwards(void *context, size_t count, void (*task)(void *argument, size_t index), void *argument) {
    (void)context;
    for (size_t i = count; i-- > 0;) {
        task(argument, i);
    }
}

static void run_on_threads(void *context, size_t count, void (*task)(void *argument, size_t index), void *argument) {
    (void)context;
    if (!threads_run(count, task, argument)) {
        fputs("soak: no thread\n", stderr);
        exit(2);
    }
}

fff_runner soak_draw_runner(uint64_t *state) {
    uint64_t choice = random_below(state, 16);
    if (choice < 8) {
        return (fff_runner){.run = NULL};
    }
    bool threads = choice == 15;
    return (fff_runner){.run = threads ? run_on_threads : run_backwards,
                        .concurrency = between(state, 1, threads ? MOST_THREADS : MOST_TASKS)};
}
