/* All kernels for rows of int8: integer dot products with quantised tokens; sums as for other rows. */
#ifndef FFF_KERNELS_ARM_NEON_I8_ROWS_H
#define FFF_KERNELS_ARM_NEON_I8_ROWS_H

#include "kernels/arm_neon/accumulate.h"
#include "kernels/arm_neon/add_roots.h"
#include "kernels/arm_neon/integer_dots.h"

#include "kernels/descend.h"
#include "kernels/roots.h"
#include "kernels/two_levels.h"

#endif
