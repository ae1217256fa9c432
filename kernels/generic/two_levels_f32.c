#include "kernels/generic/dot_f32.h"
#include "kernels/generic/isa.h"

void fff_two_levels_f32_generic(const struct fff_trees_f32 *trees, size_t row, size_t left_row, size_t count,
                                const uint32_t *tokens, const float *inputs, size_t input_stride, bool fetch_inputs,
                                float *logits, size_t logit_stride) {
    (void)fetch_inputs;
    for (size_t i = 0; i < count; i++) {
        const float *input = inputs + tokens[i] * input_stride;
        float *logit = logits + tokens[i] * logit_stride;
        logit[0] = fff_logit_f32_generic(trees, row, input);
        logit[1] = fff_logit_f32_generic(trees, left_row + fff_goes_right(logit[0], trees->threshold), input);
    }
}
