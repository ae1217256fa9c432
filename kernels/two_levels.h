/* The shape of two_levels, shared by the vector instruction sets: they differ in their tile and in their dot
 * product of one token.
 *
 * A node's row and both its children's against four tokens: half of the children's dot products are for nothing, but
 * inputs come from L2 once for two levels, and that takes longer on a core that has a cache line from L2 every second
 * cycle: 43 ns against 56 for two levels, at 768 columns (docs/trials.md).
 *
 * Everything here is inlined into the one function of a folder that uses it; no copy is left to the linker. */
#ifndef FFF_KERNELS_TWO_LEVELS_H
#define FFF_KERNELS_TWO_LEVELS_H

#include "kernels/dot_tile.h"

/* Four tokens. `ahead`, unless NULL, are four others, whose inputs are asked for. */
FFF_INLINE void fff_two_levels_of_four(const struct fff_trees *trees, size_t row, size_t left_row,
                                       const uint32_t *tokens, const uint32_t *ahead, const void *inputs,
                                       size_t input_stride, float *logits, size_t logit_stride) {
    const size_t rows[FFF_DOT_TILE_ROWS] = {row, left_row, left_row + 1};
    const void *input[FFF_DOT_TILE_TOKENS], *next[FFF_DOT_TILE_TOKENS];
    for (size_t t = 0; t < FFF_DOT_TILE_TOKENS; t++) {
        input[t] = token_at(inputs, input_stride, tokens[t]);
        next[t] = ahead != NULL ? token_at(inputs, input_stride, ahead[t]) : NULL;
    }
    float tile[FFF_DOT_TILE_ROWS][FFF_DOT_TILE_TOKENS], threshold = fff_threshold_of(trees, row);
    dot_tile(trees, rows, input, ahead != NULL ? next : NULL, tile);
    for (size_t t = 0; t < FFF_DOT_TILE_TOKENS; t++) {
        float *logit = logits + tokens[t] * logit_stride;
        logit[0] = tile[0][t];
        logit[1] = tile[1 + fff_goes_right(logit[0], threshold)][t];
    }
}

static void KERNEL(two_levels)(const struct fff_trees *trees, size_t row, size_t left_row, size_t count,
                               const uint32_t *tokens, const void *inputs, size_t input_stride, bool fetch_inputs,
                               float *logits, size_t logit_stride) {
    size_t i = 0;
    for (; fetch_inputs && i + 2 * FFF_DOT_TILE_TOKENS <= count; i += FFF_DOT_TILE_TOKENS) {
        fff_two_levels_of_four(trees, row, left_row, tokens + i, tokens + i + FFF_DOT_TILE_TOKENS, inputs, input_stride,
                               logits, logit_stride);
    }
    for (; i + FFF_DOT_TILE_TOKENS <= count; i += FFF_DOT_TILE_TOKENS) {
        fff_two_levels_of_four(trees, row, left_row, tokens + i, NULL, inputs, input_stride, logits, logit_stride);
    }
    if (count >= FFF_DOT_TILE_TOKENS && i + 1 < count) { /* two or three are left: the last four take less than they */
        fff_two_levels_of_four(trees, row, left_row, tokens + count - FFF_DOT_TILE_TOKENS, NULL, inputs, input_stride,
                               logits, logit_stride);
        return;
    }
    for (; i < count; i++) {
        const void *input = token_at(inputs, input_stride, tokens[i]);
        float *logit = logits + tokens[i] * logit_stride;
        float tail[FFF_PARTIAL_SUMS];
        if (ROW_TYPE != FFF_WEIGHT_I8) {
            fff_pad_tail(input, trees->input_width, tail);
        }
        logit[0] = row_logit(trees, row, input, tail);
        logit[1] = row_logit(trees, left_row + fff_goes_right(logit[0], fff_threshold_of(trees, row)), input, tail);
    }
}

#endif
