/* Which CPUs the calling thread may run on. */
#ifndef FFF_TOOLS_MACHINE_CORES_H
#define FFF_TOOLS_MACHINE_CORES_H

#include <sched.h>
#include <stddef.h>

/* Stays on the present CPU: moving to another in the middle would lose the caches. *before gets what was allowed, for
 * allow_cores(). */
void stay_on_this_core(cpu_set_t *before);
void allow_cores(const cpu_set_t *cores);

/* How many there are in it; if the system did not tell, how many are online. */
size_t count_cores(const cpu_set_t *cores);

#endif
