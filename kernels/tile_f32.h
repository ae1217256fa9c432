/* The tile that the vector instruction sets' blocked dot products share: three rows by four tokens. Each folder's
 * tile_f32.h has its own; kernels/roots_f32.h and kernels/two_levels_f32.h are made of it. */
#ifndef FFF_KERNELS_TILE_F32_H
#define FFF_KERNELS_TILE_F32_H

#include "kernels/kernels.h"

enum { FFF_TILE_ROWS = 3, FFF_TILE_TOKENS = 4 };

/* dots[r][t] is the dot product of row r with token t. `ahead`, if not NULL, is as many other inputs, which are asked
 * for piece by piece between the multiply-adds, and into L2: asked for all at once, they would be all that the core
 * does. */
typedef void fff_dots_tile(const float *const weights[FFF_TILE_ROWS], const float *const input[FFF_TILE_TOKENS],
                           const float *const *ahead, size_t width, float dots[FFF_TILE_ROWS][FFF_TILE_TOKENS]);

#endif
