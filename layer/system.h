/* What a layer asks of the operating system: memory, and the size of a cache. meson.build takes the file that
 * implements it: system_posix.c or system_windows.c. */
#ifndef FFF_SYSTEM_H
#define FFF_SYSTEM_H

#include <stddef.h>

/* Memory of this alignment and more asks for pages of 2 MB, where a program can have them without a privilege. */
enum { FFF_HUGE_PAGE = 2 << 20 };

/* `size` bytes at a multiple of `alignment`, a power of two of at least a pointer's; NULL if there are none.
 * fff_system_release() gives them back. */
void *fff_system_allocate(size_t size, size_t alignment);
void fff_system_release(void *memory);

/* The bytes of the second-level cache; 0 if neither the system nor the CPU tells. */
size_t fff_system_l2_bytes(void);

#endif
