/* All kernels for rows of int8: integer dot products with quantised tokens; sums as for other rows. */
#ifndef FFF_KERNELS_X86_AVX2_I8_ROWS_H
#define FFF_KERNELS_X86_AVX2_I8_ROWS_H

#include "kernels/x86_avx2/accumulate.h"
#include "kernels/x86_avx2/add_roots.h"
#include "kernels/x86_avx2/integer_dots.h"

#include "kernels/descend.h"
#include "kernels/roots.h"
#include "kernels/two_levels.h"

#endif
