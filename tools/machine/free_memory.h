/* How much memory may be taken. */
#ifndef FFF_TOOLS_MACHINE_FREE_MEMORY_H
#define FFF_TOOLS_MACHINE_FREE_MEMORY_H

#include <stddef.h>

/* Bytes that this process may take more without the system swapping or killing it: the least of what the system, the
 * process's control group and its limit on addresses leave. SIZE_MAX if nothing tells. */
size_t free_memory(void);

#endif
