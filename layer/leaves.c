#include "layer/leaves.h"

#include "layer/size.h"

#include <string.h>

enum {
    FETCH_NEURONS = 8,      /* of a leaf to come, at most */
    LOGITS_TOGETHER = 2,    /* tokens at a leaf, at least, for each row to be loaded once for up to four of them */
    SUM_BY_ACCUMULATE = 32, /* neurons, at most: more are a matrix product */
};

/* The row of a leaf's neuron. */
static size_t neuron_row(const struct fff_part *part, size_t tree, size_t leaf, size_t neuron) {
    return (tree * part->leaves.count + leaf) * part->leaves.width + neuron;
}

/* The scale of its output row and of those behind it, if they are int8. */
static const float *scales_of(const struct fff_part *part, size_t row) {
    return part->output_scales != NULL ? part->output_scales + row : NULL;
}

/* The leaf of a token, when it is through the nodes of the walk's tree. */
static size_t leaf_of(const struct fff_walk *walk, uint32_t token) {
    return walk->nodes[token] - walk->trees.node_count;
}

/* How many tokens, from the first on, are at one leaf. */
static size_t count_together(const struct fff_walk *walk, size_t count, const uint32_t *tokens) {
    size_t together = 1;
    while (together < count && walk->nodes[tokens[together]] == walk->nodes[tokens[0]]) {
        together++;
    }
    return together;
}

static void fetch_leaf(const struct fff_walk *walk, size_t leaf) {
    const struct fff_leaves *leaves = &walk->part->leaves;
    if (leaves->neurons.near_levels > 0) {
        return;
    }
    size_t some = fff_min(leaves->width, FETCH_NEURONS);
    size_t first = neuron_row(walk->part, walk->first_tree, leaf, 0);
    const struct fff_trees *neurons = &leaves->neurons;
    for (size_t row = first; row < first + some; row++) {
        fff_fetch_l2(neurons->input_rows + row * neurons->row_stride, neurons->input_bytes);
        fff_fetch_l2(neurons->output_rows + row * neurons->output_row_stride, neurons->output_bytes);
    }
}

/* The logits of some neurons for each of the tokens, one token's side by side. `zeros` has room for as many nodes. */
static void leaf_logits(const struct fff_part *part, const struct fff_trees *neurons, size_t count,
                        const uint32_t *tokens, const void *input, size_t input_stride, float *logits,
                        uint32_t *zeros) {
    const struct fff_row_kernels *kernels = fff_input_kernels(part);
    if (count >= LOGITS_TOGETHER) {
        kernels->roots(neurons, count, tokens, input, input_stride, true, logits, neurons->tree_count);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        kernels->descend(neurons, (const unsigned char *)input + tokens[i] * input_stride, true, zeros,
                         logits + i * neurons->tree_count);
    }
}

/* Adds what some neurons of a leaf contribute, those from `first` on; `activations` are logits as yet. */
static void add_neurons(const struct fff_walk *walk, const struct fff_trees *neurons, size_t leaf, size_t first,
                        size_t count, const uint32_t *tokens, float *activations, uint32_t *zeros) {
    const struct fff_part *part = walk->part;
    const float *output_scales = scales_of(part, neuron_row(part, walk->first_tree, leaf, first));
    unsigned write = first > 0 ? walk->write | FFF_WRITE_CONTINUE : walk->write;
    const struct fff_row_kernels *kernels = fff_output_kernels(part);
    size_t some = neurons->tree_count;
    part->kernels->activate(part->activation, count * some, activations, activations);
    memset(zeros, 0, count * some * sizeof *zeros);
    for (size_t i = 0; i < count; i++) {
        fff_scale_factors(part, neurons, output_scales, zeros, activations + i * some);
    }
    if (some <= SUM_BY_ACCUMULATE) {
        kernels->accumulate(neurons, count, tokens, zeros, activations, write, walk->output, walk->output_stride);
    } else {
        kernels->add_roots(neurons, count, tokens, activations, some, write & FFF_WRITE_CONTINUE, walk->output,
                           walk->output_stride);
    }
}

/* Adds the leaf's output bias, if there is one. */
static void add_bias(const struct fff_walk *walk, size_t leaf, size_t count, const uint32_t *tokens, float *factors,
                     uint32_t *nodes) {
    const struct fff_part *part = walk->part;
    if (part->leaves.bias_rows == NULL) {
        return;
    }
    const struct fff_trees biases = {
        .output_rows = part->leaves.bias_rows,
        .output_row_stride = part->leaves.bias_stride,
        .output_width = part->leaves.neurons.output_width,
        .tree_count = 1,
        .level_count = 1,
    };
    for (size_t i = 0; i < count; i++) {
        nodes[i] = (uint32_t)(walk->first_tree * part->leaves.count + leaf);
        factors[i] = part->factor;
    }
    part->leaves.bias_kernels->accumulate(&biases, count, tokens, nodes, factors, FFF_WRITE_CONTINUE, walk->output,
                                          walk->output_stride);
}

/* Neurons of a leaf that are computed at once, from `first` on. */
static struct fff_trees next_neurons(const struct fff_walk *walk, size_t leaf, size_t first) {
    const struct fff_leaves *leaves = &walk->part->leaves;
    return fff_some_trees(&leaves->neurons, neuron_row(walk->part, walk->first_tree, leaf, first),
                          fff_min(leaves->width - first, leaves->at_once));
}

/* Outputs of tokens that are at one leaf. Each of the arrays has room for the logits of as many tokens, of the neurons
 * that are computed at once. */
static void leaf_forward(const struct fff_walk *walk, size_t leaf, size_t count, const uint32_t *tokens,
                         float *activations, uint32_t *zeros) {
    for (size_t first = 0; first < walk->part->leaves.width; first += walk->part->leaves.at_once) {
        const struct fff_trees some = next_neurons(walk, leaf, first);
        leaf_logits(walk->part, &some, count, tokens, walk->input, walk->input_stride, activations, zeros);
        add_neurons(walk, &some, leaf, first, count, tokens, activations, zeros);
    }
    add_bias(walk, leaf, count, tokens, activations, zeros);
}

void fff_leaf_accumulate(const struct fff_walk *walk, size_t leaf, const float *logits, float *activations,
                         uint32_t *zeros) {
    static const uint32_t ONLY = 0;
    for (size_t first = 0; first < walk->part->leaves.width; first += walk->part->leaves.at_once) {
        const struct fff_trees some = next_neurons(walk, leaf, first);
        memcpy(activations, logits + first, some.tree_count * sizeof *activations);
        add_neurons(walk, &some, leaf, first, 1, &ONLY, activations, zeros);
    }
    add_bias(walk, leaf, 1, &ONLY, activations, zeros);
}

/* Settles the routes of tokens where they are exact: then some may be at another leaf, out of order. */
static void settle_leaves(const struct fff_walk *walk, size_t count, const uint32_t *tokens, uint32_t *paths,
                          size_t stride, bool by_token) {
    size_t last = walk->trees.level_count - 1;
    for (size_t i = 0; i < count && walk->trees.level_count > 0; i++) {
        uint32_t node = paths[(by_token ? tokens[i] : i) * stride + last];
        walk->nodes[tokens[i]] =
            fff_child(node, walk->logits[tokens[i] * walk->logit_stride + last], fff_threshold_of(&walk->trees, node));
    }
}

void fff_finish_leaves_forward(const struct fff_walk *walk, size_t count, const uint32_t *tokens, float *activations,
                               uint32_t *paths) {
    if (walk->tokens != NULL) {
        size_t levels = walk->trees.level_count;
        fff_find_paths(walk, count, tokens, paths, levels, false);
        settle_leaves(walk, count, tokens, paths, levels, false);
    }
    for (size_t i = 0, together; i < count; i += together) {
        together = count_together(walk, count - i, tokens + i);
        if (i + together < count) {
            fetch_leaf(walk, leaf_of(walk, tokens[i + together]));
        }
        leaf_forward(walk, leaf_of(walk, tokens[i]), together, tokens + i, activations, paths);
    }
}

void fff_finish_leaves_route(const struct fff_walk *walk, size_t count, const uint32_t *tokens, float *activations,
                             uint32_t *paths) {
    const struct fff_leaves *leaves = &walk->part->leaves;
    size_t levels = walk->trees.level_count;
    fff_find_paths(walk, count, tokens, walk->routed_nodes, walk->routed_stride, true);
    if (walk->tokens != NULL) {
        settle_leaves(walk, count, tokens, walk->routed_nodes, walk->routed_stride, true);
    }
    for (size_t i = 0, together; i < count; i += together) {
        together = count_together(walk, count - i, tokens + i);
        size_t leaf = leaf_of(walk, tokens[i]);
        for (size_t first = 0; first < leaves->width; first += leaves->at_once) {
            const struct fff_trees some = next_neurons(walk, leaf, first);
            leaf_logits(walk->part, &some, together, tokens + i, walk->input, walk->input_stride, activations, paths);
            for (size_t t = i; t < i + together; t++) {
                uint32_t *nodes = walk->routed_nodes + tokens[t] * walk->routed_stride + levels + first;
                memcpy(walk->logits + tokens[t] * walk->logit_stride + levels + first,
                       activations + (t - i) * some.tree_count, some.tree_count * sizeof(float));
                for (size_t j = 0; j < some.tree_count; j++) {
                    nodes[j] = (uint32_t)(walk->trees.node_count + leaf * leaves->width + first + j);
                }
            }
        }
    }
}

void fff_finish_leaves_paths(const struct fff_walk *walk, size_t count, const uint32_t *tokens, float *activations,
                             uint32_t *paths) {
    size_t levels = walk->trees.level_count;
    fff_finish_leaves_route(walk, count, tokens, activations, paths);
    for (size_t i = 0; i < count; i++) {
        struct fff_walk only = *walk;
        only.output += tokens[i] * walk->output_stride;
        fff_leaf_accumulate(&only, leaf_of(walk, tokens[i]), walk->logits + tokens[i] * walk->logit_stride + levels,
                            activations, paths);
    }
}
