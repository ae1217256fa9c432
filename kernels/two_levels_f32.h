/* The shape of two_levels_f32, shared by the vector instruction sets: they differ in their tile and in their dot
 * product of one token.
 *
 * A node's row and both its children's against four tokens: half of the children's dot products are for nothing, but
 * inputs come from L2 once for two levels, and that takes longer on a core that has a cache line from L2 every second
 * cycle: 43 ns against 56 for two levels, at 768 columns (docs/trials.md).
 *
 * Everything here is inlined into the one function of a folder that uses it; no copy is left to the linker. */
#ifndef FFF_KERNELS_TWO_LEVELS_F32_H
#define FFF_KERNELS_TWO_LEVELS_F32_H

#include "kernels/tile_f32.h"

/* Four tokens. `ahead`, unless NULL, are four others, whose inputs are asked for. */
FFF_INLINE void fff_two_levels_of_four(const struct fff_trees_f32 *trees, size_t row, size_t left_row,
                                       const uint32_t *tokens, const uint32_t *ahead, const float *inputs,
                                       size_t input_stride, float *logits, size_t logit_stride, fff_dot_tile *dots_of) {
    const float *left = trees->input_rows + left_row * trees->row_stride;
    const float *const weights[FFF_DOT_TILE_ROWS] = {trees->input_rows + row * trees->row_stride, left,
                                                     left + trees->row_stride};
    const float *input[FFF_DOT_TILE_TOKENS], *next[FFF_DOT_TILE_TOKENS];
    for (size_t t = 0; t < FFF_DOT_TILE_TOKENS; t++) {
        input[t] = inputs + tokens[t] * input_stride;
        next[t] = ahead != NULL ? inputs + ahead[t] * input_stride : NULL;
    }
    float dots[FFF_DOT_TILE_ROWS][FFF_DOT_TILE_TOKENS];
    dots_of(weights, input, ahead != NULL ? next : NULL, trees->input_width, dots);
    for (size_t t = 0; t < FFF_DOT_TILE_TOKENS; t++) {
        float *logit = logits + tokens[t] * logit_stride;
        logit[0] = dots[0][t] + trees->biases[row];
        uint32_t right = fff_goes_right(logit[0], trees->threshold);
        logit[1] = dots[1 + right][t] + trees->biases[left_row + right];
    }
}

FFF_INLINE void fff_two_levels(const struct fff_trees_f32 *trees, size_t row, size_t left_row, size_t count,
                               const uint32_t *tokens, const float *inputs, size_t input_stride, bool fetch_inputs,
                               float *logits, size_t logit_stride, fff_dot_tile *dots_of,
                               fff_logit_function *logit_of) {
    size_t i = 0;
    for (; fetch_inputs && i + 2 * FFF_DOT_TILE_TOKENS <= count; i += FFF_DOT_TILE_TOKENS) {
        fff_two_levels_of_four(trees, row, left_row, tokens + i, tokens + i + FFF_DOT_TILE_TOKENS, inputs, input_stride,
                               logits, logit_stride, dots_of);
    }
    for (; i + FFF_DOT_TILE_TOKENS <= count; i += FFF_DOT_TILE_TOKENS) {
        fff_two_levels_of_four(trees, row, left_row, tokens + i, NULL, inputs, input_stride, logits, logit_stride,
                               dots_of);
    }
    if (count >= FFF_DOT_TILE_TOKENS && i + 1 < count) { /* two or three are left: the last four take less than they */
        fff_two_levels_of_four(trees, row, left_row, tokens + count - FFF_DOT_TILE_TOKENS, NULL, inputs, input_stride,
                               logits, logit_stride, dots_of);
        return;
    }
    for (; i < count; i++) {
        const float *input = inputs + tokens[i] * input_stride;
        float *logit = logits + tokens[i] * logit_stride;
        float tail[FFF_PARTIAL_SUMS];
        fff_pad_tail(input, trees->input_width, tail);
        logit[0] = logit_of(trees, row, input, tail);
        logit[1] = logit_of(trees, left_row + fff_goes_right(logit[0], trees->threshold), input, tail);
    }
}

#endif
