#ifndef FFF_KERNELS_GENERIC_NODE_DOT_H
#define FFF_KERNELS_GENERIC_NODE_DOT_H

#include "kernels/generic/dot.h"

static void KERNEL(node_dot)(const struct fff_trees *trees, size_t row, size_t count, const uint32_t *tokens,
                             const void *inputs, size_t input_stride, float *logits, size_t logit_stride) {
    for (size_t i = 0; i < count; i++) {
        logits[tokens[i] * logit_stride] = row_logit(trees, row, token_at(inputs, input_stride, tokens[i]));
    }
}

#endif
