#ifndef FFF_KERNELS_GENERIC_ROOTS_H
#define FFF_KERNELS_GENERIC_ROOTS_H

#include "kernels/generic/dot.h"

static void KERNEL(roots)(const struct fff_trees *trees, size_t count, const uint32_t *tokens, const void *inputs,
                          size_t input_stride, bool fetch_output, float *logits, size_t logit_stride) {
    (void)fetch_output;
    for (size_t tree = 0; tree < trees->tree_count; tree++) {
        for (size_t i = 0; i < count; i++) {
            logits[i * logit_stride + tree * trees->level_count] =
                row_logit(trees, tree * trees->node_count, token_at(inputs, input_stride, tokens[i]));
        }
    }
}

#endif
