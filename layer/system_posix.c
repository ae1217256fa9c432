/* Linux with any C library, macOS, the BSDs. */
#include "layer/system.h"

#include "dispatch/dispatch.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#if defined(__APPLE__)
#include <sys/sysctl.h>
#endif

void *fff_system_allocate(size_t size, size_t alignment) {
    void *memory;
    if (posix_memalign(&memory, alignment, size) != 0) {
        return NULL;
    }
#ifdef MADV_HUGEPAGE
    if (alignment >= FFF_HUGE_PAGE) {
        (void)madvise(memory, size, MADV_HUGEPAGE); /* advice: refusal changes nothing but speed */
    }
#endif
    return memory;
}

void fff_system_release(void *memory) {
    free(memory);
}

size_t fff_system_l2_bytes(void) {
#if defined(_SC_LEVEL2_CACHE_SIZE) /* glibc's alone */
    long bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
    return bytes > 0 ? (size_t)bytes : 0;
#elif defined(__APPLE__)
    size_t bytes = 0, size = sizeof bytes;
    return sysctlbyname("hw.l2cachesize", &bytes, &size, NULL, 0) == 0 ? bytes : 0;
#else
    return fff_cpu_l2_bytes();
#endif
}
