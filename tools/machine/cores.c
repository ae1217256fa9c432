#include "tools/machine/cores.h"

#include <unistd.h>

void stay_on_this_core(cpu_set_t *before) {
    int core = sched_getcpu();
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_ZERO(before);
    if (sched_getaffinity(0, sizeof *before, before) == 0 && core >= 0 && core < CPU_SETSIZE) {
        CPU_SET((size_t)core, &one);
        (void)sched_setaffinity(0, sizeof one, &one);
    }
}

void allow_cores(const cpu_set_t *cores) {
    if (CPU_COUNT(cores) > 0) {
        (void)sched_setaffinity(0, sizeof *cores, cores);
    }
}

size_t count_cores(const cpu_set_t *cores) {
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    size_t count = (size_t)CPU_COUNT(cores);
    return count > 0 ? count : online > 0 ? (size_t)online : 1;
}
