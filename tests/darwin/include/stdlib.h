#pragma once
#include <stddef.h>
void free(void *memory);
char *getenv(const char *name);
int posix_memalign(void **memory, size_t alignment, size_t size);
