#include "tests/definition.h"

#include <math.h>

static float weight(const fff_weights *weights, size_t row, size_t column) {
    return ((const float *)weights->data)[row * weights->node_stride + column * weights->column_stride];
}

/* 32 interleaved chains; the last round of them is completed with zeros. `row` is the first of the row's elements. */
static float define_logit(const float *row, size_t column_stride, size_t width, float bias, const float *input) {
    float chain[32];
    for (size_t c = 0; c < 32; c++) {
        chain[c] = 0.0f;
        for (size_t i = c; i < (width + 31) / 32 * 32; i += 32) {
            chain[c] = i < width ? fmaf(input[i], row[i * column_stride], chain[c]) : fmaf(0.0f, 0.0f, chain[c]);
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
    return (even + odd) + bias;
}

static float node_logit(const fff_layer_desc *desc, size_t row, const float *input) {
    const float *weights = (const float *)desc->input_weights.data + row * desc->input_weights.node_stride;
    return define_logit(weights, desc->input_weights.column_stride, desc->input_width,
                        desc->biases != NULL ? desc->biases[row] : 0.0f, input);
}

static float neuron_logit(const fff_layer_desc *desc, size_t leaf, size_t neuron, const float *input) {
    const fff_weights *weights = &desc->leaf_weights;
    size_t stride = desc->leaf_stride != 0 ? desc->leaf_stride : desc->leaf_width * weights->node_stride;
    const float *row = (const float *)weights->data + leaf * stride + neuron * weights->node_stride;
    return define_logit(row, weights->column_stride, desc->input_width,
                        desc->leaf_biases != NULL ? desc->leaf_biases[leaf * desc->leaf_width + neuron] : 0.0f, input);
}

static uint32_t define_child(const fff_layer_desc *desc, size_t row, uint32_t node, float logit) {
    float threshold = desc->thresholds != NULL ? desc->thresholds[row] : 0.0f;
    int right = desc->routing == FFF_ROUTING_GREATER ? logit > threshold : logit >= threshold;
    return right ? 2 * node + 2 : 2 * node + 1;
}

static void add_row(const fff_layer_desc *desc, float factor, const fff_weights *weights, size_t row, float *output) {
    for (size_t column = 0; column < desc->output_width; column++) {
        output[column] = fmaf(factor, weight(weights, row, column), output[column]);
    }
}

static float define_factor(const fff_layer_desc *desc, float logit) {
    float activation = NAN;
    (void)fff_activate(FFF_ISA_GENERIC, desc->activation, FFF_SLEEF_ANY, 1, &logit, &activation);
    return desc->factor != NULL ? activation * *desc->factor : activation;
}

/* One tree of a part; returns the number of its entries. */
static size_t define_tree(const fff_layer_desc *desc, size_t tree, const float *input, uint32_t *nodes, float *logits,
                          float *output) {
    size_t routing = desc->depth, leaves = (size_t)1 << routing, entries = 0;
    size_t per_tree = desc->leaf_width > 0 ? leaves - 1 : 2 * leaves - 1;
    uint32_t node = 0;
    for (; entries < routing; entries++) {
        size_t row = tree * per_tree + node;
        nodes[entries] = node;
        logits[entries] = node_logit(desc, row, input);
        if (desc->leaf_width == 0) {
            add_row(desc, define_factor(desc, logits[entries]), &desc->output_weights, row, output);
        }
        node = define_child(desc, row, node, logits[entries]);
    }
    if (desc->leaf_width == 0) {
        nodes[entries] = node;
        logits[entries] = node_logit(desc, tree * per_tree + node, input);
        add_row(desc, define_factor(desc, logits[entries]), &desc->output_weights, tree * per_tree + node, output);
        return entries + 1;
    }
    size_t in_tree = node - per_tree, leaf = tree * leaves + in_tree;
    for (size_t j = 0; j < desc->leaf_width; j++, entries++) {
        nodes[entries] = (uint32_t)(per_tree + in_tree * desc->leaf_width + j);
        logits[entries] = neuron_logit(desc, leaf, j, input);
        add_row(desc, define_factor(desc, logits[entries]), &desc->output_weights, leaf * desc->leaf_width + j, output);
    }
    if (desc->leaf_output_biases.data != NULL) {
        add_row(desc, desc->factor != NULL ? *desc->factor : 1.0f, &desc->leaf_output_biases, leaf, output);
    }
    return entries;
}

void define_token(const fff_layer_desc *desc, const float *input, uint32_t *nodes, float *logits, float *output) {
    for (size_t column = 0; column < desc->output_width; column++) {
        output[column] = desc->output_bias != NULL ? desc->output_bias[column] : 0.0f;
    }
    for (; desc != NULL; desc = desc->next) {
        for (size_t tree = 0; tree < desc->trees; tree++) {
            size_t entries = define_tree(desc, tree, input, nodes, logits, output);
            nodes += entries;
            logits += entries;
        }
    }
}
