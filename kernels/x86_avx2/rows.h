/* All kernels for rows of floats, whatever their width. */
#ifndef FFF_KERNELS_X86_AVX2_ROWS_H
#define FFF_KERNELS_X86_AVX2_ROWS_H

#include "kernels/x86_avx2/accumulate.h"
#include "kernels/x86_avx2/add_roots.h"
#include "kernels/x86_avx2/dot_tile.h"

#include "kernels/descend.h"
#include "kernels/node_dot_pairs.h"
#include "kernels/roots.h"
#include "kernels/two_levels.h"

#endif
