/* The tile that the vector instruction sets' blocked dot products share: three rows by four tokens. Each folder's
 * dot_tile.h has its own; kernels/roots.h and kernels/two_levels.h are made of it. */
#ifndef FFF_KERNELS_DOT_TILE_H
#define FFF_KERNELS_DOT_TILE_H

#include "kernels/row.h"

/* The folder's: the logit of one row for one token, `tail` being fff_pad_tail() of the input, of no use for I8 rows. */
FFF_INLINE float row_logit(const struct fff_trees *trees, size_t row, const void *input, const float *tail);

/* The folder's: logits[r][t] is the logit of rows[r] for token t. `ahead`, if not NULL, is as many other inputs, which
 * are asked for piece by piece between the multiply-adds, and into L2, but for the last columns that fill no step:
 * asked for all at once, they would be all that the core does. */
FFF_INLINE void dot_tile(const struct fff_trees *trees, const size_t rows[FFF_DOT_TILE_ROWS],
                         const void *const input[FFF_DOT_TILE_TOKENS], const void *const *ahead,
                         float logits[FFF_DOT_TILE_ROWS][FFF_DOT_TILE_TOKENS]);

/* fff_pad_tail() of a tile's inputs, which are of no use if there is no tail. */
FFF_INLINE void fff_pad_tails(const float *const input[FFF_DOT_TILE_TOKENS], size_t width,
                              float padded[FFF_DOT_TILE_TOKENS][FFF_PARTIAL_SUMS]) {
    for (size_t t = 0; width % FFF_PARTIAL_SUMS != 0 && t < FFF_DOT_TILE_TOKENS; t++) {
        fff_pad_tail(input[t], width, padded[t]);
    }
}

#endif
