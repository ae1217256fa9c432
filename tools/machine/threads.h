/* A thread pool as a runner: how an engine hands its threads to libfff. */
#ifndef FFF_TOOLS_MACHINE_THREADS_H
#define FFF_TOOLS_MACHINE_THREADS_H

#include <fff/fff.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A pool of that many threads, the caller's among them, by pthreadpool. NULL if memory or threads are wanting, or if
 * this program was built without pthreadpool. The threads run where the caller is allowed to run at that time. */
void *thread_pool_create(size_t threads);
void thread_pool_destroy(void *pool); /* NULL is allowed */
fff_runner thread_pool_runner(void *pool);

#ifdef __cplusplus
}
#endif

#endif
