/* Several tokens against one row, two at a time (dot_f32.h says why two). */
#include "kernels/x86_avx2/dot_f32.h"
#include "kernels/x86_avx2/isa.h"

void fff_node_dot_f32_x86_avx2(const struct fff_trees_f32 *trees, size_t row, size_t count, const uint32_t *tokens,
                               const float *inputs, size_t input_stride, float *logits, size_t logit_stride) {
    size_t width = trees->input_width;
    float padded[2][FFF_PARTIAL_SUMS];
    const float *tail[2] = {padded[0], padded[1]};
    size_t i = 0;
    for (; i + 2 <= count; i += 2) {
        const float *input[2] = {inputs + tokens[i] * input_stride, inputs + tokens[i + 1] * input_stride};
        float pair[2];
        if (width % FFF_PARTIAL_SUMS != 0) {
            fff_pad_tail(input[0], width, padded[0]);
            fff_pad_tail(input[1], width, padded[1]);
        }
        logits_x86_avx2(trees, row, 2, input, tail, pair);
        logits[tokens[i] * logit_stride] = pair[0];
        logits[tokens[i + 1] * logit_stride] = pair[1];
    }
    if (i < count) {
        const float *input = inputs + tokens[i] * input_stride;
        fff_pad_tail(input, width, padded[0]);
        logits[tokens[i] * logit_stride] = logit_x86_avx2(trees, row, input, padded[0]);
    }
}
