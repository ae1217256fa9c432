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

/* ---- Backward --------------------------------------------------------------------------------- */

static void add_scaled(float factor, const float *values, size_t count, size_t value_stride, float *to) {
    for (size_t i = 0; i < count; i++) {
        to[i] = fmaf(factor, values[i * value_stride], to[i]);
    }
}

/* One token and one neuron: its number, the row and column stride of its input weights, its logit. */
static void define_neuron(const fff_layer_desc *desc, size_t neuron, const float *input_row, size_t column_stride,
                          float logit, const float *input, const float *output_gradient, float *input_gradient,
                          const struct defined_gradients *to) {
    size_t in = desc->input_width, out = desc->output_width;
    const float *output_row = (const float *)desc->output_weights.data + neuron * desc->output_weights.node_stride;
    float upstream = define_logit(output_row, desc->output_weights.column_stride, out, 0.0f, output_gradient);
    upstream = (desc->factor != NULL ? *desc->factor : 1.0f) * upstream;
    float slope = NAN;
    (void)fff_differentiate(FFF_ISA_GENERIC, desc->activation, FFF_SLEEF_ANY, 1, &logit, &upstream, &slope);
    add_scaled(slope, input, in, 1, to->input_weights + neuron * in);
    to->biases[neuron] += slope;
    add_scaled(define_factor(desc, logit), output_gradient, out, 1, to->output_weights + neuron * out);
    add_scaled(slope, input_row, in, column_stride, input_gradient);
}

/* One token in one tree of a part. Returns the number of its entries. */
static size_t define_tree_backward(const fff_layer_desc *desc, size_t tree, const float *input, const uint32_t *nodes,
                                   const float *logits, const float *output_gradient, float *input_gradient,
                                   const struct defined_gradients *to) {
    size_t leaves = (size_t)1 << desc->depth, width = desc->leaf_width;
    if (width == 0) {
        for (size_t level = 0; level <= desc->depth; level++) {
            size_t row = tree * (2 * leaves - 1) + nodes[level];
            const float *weights = (const float *)desc->input_weights.data + row * desc->input_weights.node_stride;
            define_neuron(desc, row, weights, desc->input_weights.column_stride, logits[level], input, output_gradient,
                          input_gradient, to);
        }
        return desc->depth + 1;
    }
    size_t stride = desc->leaf_stride != 0 ? desc->leaf_stride : width * desc->leaf_weights.node_stride;
    for (size_t j = 0; j < width; j++) {
        size_t neuron = tree * leaves * width + nodes[desc->depth + j] - (leaves - 1);
        const float *weights = (const float *)desc->leaf_weights.data + neuron / width * stride +
                               neuron % width * desc->leaf_weights.node_stride;
        define_neuron(desc, neuron, weights, desc->leaf_weights.column_stride, logits[desc->depth + j], input,
                      output_gradient, input_gradient, to);
        if (j == 0 && to->leaf_output_biases != NULL) {
            add_scaled(desc->factor != NULL ? *desc->factor : 1.0f, output_gradient, desc->output_width, 1,
                       to->leaf_output_biases + neuron / width * desc->output_width);
        }
    }
    return desc->depth + width;
}

void define_backward(const fff_layer_desc *desc, size_t batch, const float *input, const uint32_t *nodes,
                     const float *logits, const float *output_gradient, float *input_gradient,
                     struct defined_gradients *gradients, float *output_bias) {
    size_t in = desc->input_width, out = desc->output_width;
    for (size_t t = 0; t < batch; t++, input += in, output_gradient += out, input_gradient += in) {
        add_scaled(1.0f, output_gradient, out, 1, output_bias);
        const struct defined_gradients *to = gradients;
        for (const fff_layer_desc *part = desc; part != NULL; part = part->next, to++) {
            for (size_t tree = 0; tree < part->trees; tree++) {
                size_t entries =
                    define_tree_backward(part, tree, input, nodes, logits, output_gradient, input_gradient, to);
                nodes += entries;
                logits += entries;
            }
        }
    }
}
