#ifndef FFF_KERNELS_GENERIC_TWO_LEVELS_H
#define FFF_KERNELS_GENERIC_TWO_LEVELS_H

#include "kernels/generic/dot.h"

static void KERNEL(two_levels)(const struct fff_trees *trees, size_t row, size_t left_row, size_t count,
                               const uint32_t *tokens, const void *inputs, size_t input_stride, bool fetch_inputs,
                               float *logits, size_t logit_stride) {
    (void)fetch_inputs;
    for (size_t i = 0; i < count; i++) {
        const void *input = token_at(inputs, input_stride, tokens[i]);
        float *logit = logits + tokens[i] * logit_stride;
        logit[0] = row_logit(trees, row, input);
        logit[1] = row_logit(trees, left_row + fff_goes_right(logit[0], fff_threshold_of(trees, row)), input);
    }
}

#endif
