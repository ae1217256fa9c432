/* The tile that the vector instruction sets' blocked dot products share: three rows by four tokens. Each folder's
 * tile_f32.h has its own; kernels/roots_f32.h and kernels/two_levels_f32.h are made of it. */
#ifndef FFF_KERNELS_TILE_F32_H
#define FFF_KERNELS_TILE_F32_H

#include "kernels/toolbox.h"

/* dots[r][t] is the dot product of row r with token t. `ahead`, if not NULL, is as many other inputs, which are asked
 * for piece by piece between the multiply-adds, and into L2, but for the last width % FFF_PARTIAL_SUMS columns: asked
 * for all at once, they would be all that the core does. */
typedef void fff_dot_tile(const float *const weights[FFF_DOT_TILE_ROWS], const float *const input[FFF_DOT_TILE_TOKENS],
                          const float *const *ahead, size_t width, float dots[FFF_DOT_TILE_ROWS][FFF_DOT_TILE_TOKENS]);

/* fff_pad_tail() of a tile's inputs, which are of no use if there is no tail. */
FFF_INLINE void fff_pad_tails(const float *const input[FFF_DOT_TILE_TOKENS], size_t width,
                              float padded[FFF_DOT_TILE_TOKENS][FFF_PARTIAL_SUMS]) {
    for (size_t t = 0; width % FFF_PARTIAL_SUMS != 0 && t < FFF_DOT_TILE_TOKENS; t++) {
        fff_pad_tail(input[t], width, padded[t]);
    }
}

#endif
