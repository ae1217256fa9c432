#pragma once
#include <stddef.h>
/* macOS has madvise(), and no MADV_HUGEPAGE */
int madvise(void *memory, size_t size, int advice);
