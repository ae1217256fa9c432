/* Windows. Its large pages want a privilege that programs do not have, so none are asked for. */
#include "layer/system.h"

#include "dispatch/dispatch.h"

#include <malloc.h>

void *fff_system_allocate(size_t size, size_t alignment) {
    return _aligned_malloc(size, alignment);
}

void fff_system_release(void *memory) {
    _aligned_free(memory);
}

size_t fff_system_l2_bytes(void) {
    return fff_cpu_l2_bytes();
}
