#include "tools/machine/threads.h"

#if FFF_HAVE_PTHREADPOOL
#include <pthreadpool.h>

static void run(void *pool, size_t count, void (*task)(void *argument, size_t index), void *argument) {
    pthreadpool_parallelize_1d(pool, task, argument, count, 0);
}

void *thread_pool_create(size_t threads) {
    return pthreadpool_create(threads);
}

void thread_pool_destroy(void *pool) {
    pthreadpool_destroy(pool);
}

fff_runner thread_pool_runner(void *pool) {
    return (fff_runner){run, pool, pthreadpool_get_threads_count(pool)};
}

#else

void *thread_pool_create(size_t threads) {
    (void)threads;
    return NULL;
}

void thread_pool_destroy(void *pool) {
    (void)pool;
}

fff_runner thread_pool_runner(void *pool) {
    (void)pool;
    return (fff_runner){NULL, NULL, 1};
}

#endif
