/* Several tokens against one row, two at a time, for instruction sets whose dot.h says why two. */
#ifndef FFF_KERNELS_NODE_DOT_PAIRS_H
#define FFF_KERNELS_NODE_DOT_PAIRS_H

#include "kernels/dot_tile.h"

/* The folder's: the logits of `tokens` (1 or 2) tokens against one row; tail[t] is fff_pad_tail() of input[t]. */
FFF_INLINE void token_logits(const struct fff_trees *trees, size_t row, int tokens, const float *const *input,
                             const float *const *tail, float *logits);

static void KERNEL(node_dot)(const struct fff_trees *trees, size_t row, size_t count, const uint32_t *tokens,
                             const void *inputs, size_t input_stride, float *logits, size_t logit_stride) {
    size_t width = trees->input_width;
    float padded[2][FFF_PARTIAL_SUMS];
    const float *tail[2] = {padded[0], padded[1]};
    size_t i = 0;
    for (; i + 2 <= count; i += 2) {
        const float *input[2] = {token_at(inputs, input_stride, tokens[i]),
                                 token_at(inputs, input_stride, tokens[i + 1])};
        float pair[2];
        if (width % FFF_PARTIAL_SUMS != 0) {
            fff_pad_tail(input[0], width, padded[0]);
            fff_pad_tail(input[1], width, padded[1]);
        }
        token_logits(trees, row, 2, input, tail, pair);
        logits[tokens[i] * logit_stride] = pair[0];
        logits[tokens[i + 1] * logit_stride] = pair[1];
    }
    if (i < count) {
        const float *input = token_at(inputs, input_stride, tokens[i]);
        fff_pad_tail(input, width, padded[0]);
        logits[tokens[i] * logit_stride] = row_logit(trees, row, input, padded[0]);
    }
}

#endif
