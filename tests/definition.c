#include "tests/definition.h"

#include <math.h>

static float weight(const fff_weights *weights, size_t row, size_t column) {
    return ((const float *)weights->data)[row * weights->node_stride + column * weights->column_stride];
}

/* 32 interleaved chains; the last round of them is completed with zeros. */
static float define_logit(const fff_layer_desc *desc, size_t row, const float *input) {
    float chain[32];
    for (size_t c = 0; c < 32; c++) {
        chain[c] = 0.0f;
        for (size_t i = c; i < (desc->input_width + 31) / 32 * 32; i += 32) {
            chain[c] = i < desc->input_width ? fmaf(input[i], weight(&desc->input_weights, row, i), chain[c])
                                             : fmaf(0.0f, 0.0f, chain[c]);
        }
    }
    /* Sixteen sums of pairs 16 apart, eight of pairs 8 apart, and so on. */
    for (size_t c = 0; c < 16; c++) {
        chain[c] = chain[c] + chain[c + 16];
    }
    for (size_t c = 0; c < 8; c++) {
        chain[c] = chain[c] + chain[c + 8];
    }
    for (size_t c = 0; c < 4; c++) {
        chain[c] = chain[c] + chain[c + 4];
    }
    float even = chain[0] + chain[2], odd = chain[1] + chain[3];
    float bias = desc->biases != NULL ? desc->biases[row] : 0.0f;
    return (even + odd) + bias;
}

void define_token(const fff_layer_desc *desc, const float *input, uint32_t *nodes, float *logits, float *output) {
    size_t levels = desc->depth + 1, per_tree = ((size_t)1 << levels) - 1;
    for (size_t tree = 0; tree < desc->trees; tree++) {
        uint32_t node = 0;
        for (size_t level = 0; level < levels; level++) {
            float logit = define_logit(desc, tree * per_tree + node, input);
            nodes[tree * levels + level] = node;
            logits[tree * levels + level] = logit;
            int right = desc->routing == FFF_ROUTING_GREATER ? logit > 0.0f : logit >= 0.0f;
            node = right ? 2 * node + 2 : 2 * node + 1;
        }
    }
    for (size_t column = 0; column < desc->output_width; column++) {
        float sum = 0.0f;
        for (size_t entry = 0; entry < desc->trees * levels; entry++) {
            float activation = NAN;
            (void)fff_activate(FFF_ISA_GENERIC, desc->activation, FFF_SLEEF_ANY, 1, &logits[entry], &activation);
            size_t row = entry / levels * per_tree + nodes[entry];
            sum = fmaf(activation, weight(&desc->output_weights, row, column), sum);
        }
        output[column] = sum;
    }
}
