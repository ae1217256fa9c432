/* All kernels for rows of floats, whatever their width. */
#ifndef FFF_KERNELS_ARM_NEON_ROWS_H
#define FFF_KERNELS_ARM_NEON_ROWS_H

#include "kernels/arm_neon/accumulate.h"
#include "kernels/arm_neon/add_roots.h"
#include "kernels/arm_neon/dot_tile.h"

#include "kernels/descend.h"
#include "kernels/node_dot_pairs.h"
#include "kernels/roots.h"
#include "kernels/two_levels.h"

#endif
