#include "kernels/generic/dot_f32.h"
#include "kernels/generic/isa.h"

void fff_roots_f32_generic(const struct fff_trees_f32 *trees, size_t count, const float *inputs, size_t input_stride,
                           bool fetch_output, float *logits, size_t logit_stride) {
    (void)fetch_output;
    for (size_t tree = 0; tree < trees->tree_count; tree++) {
        for (size_t token = 0; token < count; token++) {
            logits[token * logit_stride + tree * trees->level_count] =
                fff_logit_f32_generic(trees, tree * trees->node_count, inputs + token * input_stride);
        }
    }
}
