#include "kernels/generic/dot_f32.h"
#include "kernels/generic/isa.h"

void fff_node_dot_f32_generic(const struct fff_trees_f32 *trees, size_t row, size_t count, const uint32_t *tokens,
                              const float *inputs, size_t input_stride, float *logits, size_t logit_stride) {
    for (size_t i = 0; i < count; i++) {
        logits[tokens[i] * logit_stride] = fff_logit_f32_generic(trees, row, inputs + tokens[i] * input_stride);
    }
}
