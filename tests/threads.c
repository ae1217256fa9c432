#include "tests/threads.h"

#include <pthread.h>

struct thread_task {
    pthread_t thread;
    void (*task)(void *argument, size_t index);
    void *argument;
    size_t index;
};

static void *run_task(void *given) {
    struct thread_task *of = given;
    of->task(of->argument, of->index);
    return NULL;
}

bool threads_run(size_t count, void (*task)(void *argument, size_t index), void *argument) {
    struct thread_task tasks[THREADS_MOST];
    size_t started = 0;
    while (count <= THREADS_MOST && started < count) {
        tasks[started] = (struct thread_task){.task = task, .argument = argument, .index = started};
        if (pthread_create(&tasks[started].thread, NULL, run_task, &tasks[started]) != 0) {
            break;
        }
        started++;
    }
    for (size_t i = 0; i < started; i++) {
        pthread_join(tasks[i].thread, NULL);
    }
    return started == count;
}
