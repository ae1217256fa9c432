#include "layer/route.h"

#include <string.h>

/* Below this many tokens few share more than the top nodes, and a token at a time is faster. */
enum { FEWEST_TO_GROUP = 4 };

/* One group: the tokens order[0..count-1], all at node `node` of tree `tree` at level `level`. Computes
 * their logits, then partitions them stably: those that go left first. */
static void visit_node(const struct fff_layer *layer, size_t tree, size_t level, uint32_t node, size_t count,
                       uint32_t *order, uint32_t *scratch, const float *input, size_t input_stride, uint32_t *nodes,
                       size_t node_stride, float *logits, size_t logit_stride) {
    const struct fff_trees_f32 *trees = &layer->trees;
    size_t entry = tree * trees->levels + level;
    layer->kernels->node_dot_f32(trees, tree * trees->nodes + node, count, order, input, input_stride, logits + entry,
                                 logit_stride);
    if (level + 1 == trees->levels) {
        return;
    }
    size_t left = 0, right = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t token = order[i];
        uint32_t child = fff_child(node, logits[token * logit_stride + entry], trees->right_above);
        nodes[token * node_stride + entry + 1] = child;
        /* Write to both sides and advance one: no branch to mispredict. */
        bool goes_left = child == 2 * node + 1;
        order[left] = token;
        scratch[right] = token;
        left += goes_left;
        right += !goes_left;
    }
    memcpy(order + left, scratch, right * sizeof *order);
}

/* All tokens down one tree together. At every level the tokens are in order of their nodes, so each
 * node's row is fetched once for all its tokens; the stable partition keeps them so for the next. */
static void descend_together(const struct fff_layer *layer, size_t tree, size_t count, const float *input,
                             size_t input_stride, uint32_t *nodes, size_t node_stride, float *logits,
                             size_t logit_stride, uint32_t *order, uint32_t *scratch) {
    size_t first_entry = tree * layer->trees.levels;
    for (size_t token = 0; token < count; token++) {
        order[token] = (uint32_t)token;
        nodes[token * node_stride + first_entry] = 0;
    }
    for (size_t level = 0; level < layer->trees.levels; level++) {
        size_t entry = first_entry + level;
        for (size_t start = 0, end; start < count; start = end) {
            uint32_t node = nodes[order[start] * node_stride + entry];
            end = start + 1;
            while (end < count && nodes[order[end] * node_stride + entry] == node) {
                end++;
            }
            visit_node(layer, tree, level, node, end - start, order + start, scratch, input, input_stride, nodes,
                       node_stride, logits, logit_stride);
        }
    }
}

void fff_route_block(const struct fff_layer *layer, size_t count, const float *input, size_t input_stride,
                     bool fetch_output, uint32_t *nodes, size_t node_stride, float *logits, size_t logit_stride,
                     uint32_t *order, uint32_t *scratch) {
    if (count < FEWEST_TO_GROUP) {
        for (size_t token = 0; token < count; token++) {
            layer->kernels->descend_f32(&layer->trees, input + token * input_stride, fetch_output,
                                        nodes + token * node_stride, logits + token * logit_stride);
        }
        return;
    }
    for (size_t tree = 0; tree < layer->trees.trees; tree++) {
        descend_together(layer, tree, count, input, input_stride, nodes, node_stride, logits, logit_stride, order,
                         scratch);
    }
}
