/* Whether OpenBLAS does what it could: it chooses kernels by the CPU's name, and an unknown name gets old ones. */
#ifndef FFF_TOOLS_MACHINE_BLAS_KERNELS_H
#define FFF_TOOLS_MACHINE_BLAS_KERNELS_H

#include "bert/blas.h"

#include <stdbool.h>

/* One sentence if the dense side is slower than this CPU could have it: OpenBLAS's kernels are for a lesser CPU, or the
 * library is another, which may be slow. Empty, and false, if nothing is to be said. */
bool blas_shortcoming(const struct fff_blas *blas, char *text, size_t size);

#endif
