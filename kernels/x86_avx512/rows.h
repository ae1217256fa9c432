/* All kernels for rows of floats, whatever their width. */
#ifndef FFF_KERNELS_X86_AVX512_ROWS_H
#define FFF_KERNELS_X86_AVX512_ROWS_H

#include "kernels/x86_avx512/accumulate.h"
#include "kernels/x86_avx512/add_roots.h"
#include "kernels/x86_avx512/dot_tile.h"
#include "kernels/x86_avx512/node_dot.h"

#include "kernels/descend.h"
#include "kernels/roots.h"
#include "kernels/two_levels.h"

#endif
