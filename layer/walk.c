#include "layer/walk.h"

#include <string.h>

/* ---- Down one tree --------------------------------------------------------------------------- */

/* One group: the tokens order[0..count-1], all at node `node` of level `level`. Computes their logits, then moves them
 * to the node's children, partitioned stably: those that go left first, whose number is returned. At the last level
 * they stay. */
static size_t visit_node(const struct fff_walk *walk, size_t tree, size_t level, uint32_t node, size_t count,
                         uint32_t *order, uint32_t *scratch) {
    const struct fff_trees_f32 *trees = &walk->trees;
    float *logits = walk->logits + tree * trees->levels + level;
    if (level > 0 || !walk->roots_known) {
        walk->kernels->node_dot_f32(trees, tree * trees->nodes + node, count, order, walk->input, walk->input_stride,
                                    logits, walk->logit_stride);
    }
    if (level + 1 == trees->levels) {
        return count;
    }
    size_t left = 0, right = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t token = order[i];
        uint32_t child = fff_child(node, logits[token * walk->logit_stride], trees->right_above);
        walk->nodes[token * trees->trees + tree] = child;
        /* Write to both sides and advance one: no branch to mispredict. */
        bool goes_left = child == 2 * node + 1;
        order[left] = token;
        scratch[right] = token;
        left += goes_left;
        right += !goes_left;
    }
    memcpy(order + left, scratch, right * sizeof *order);
    return left;
}

void fff_walk_levels(const struct fff_walk *walk, size_t tree, size_t from, size_t to, size_t count, uint32_t *order,
                     uint32_t *scratch) {
    const uint32_t *nodes = walk->nodes + tree;
    size_t trees = walk->trees.trees;
    for (size_t level = from; level < to; level++) {
        for (size_t start = 0, end; start < count; start = end) {
            uint32_t node = nodes[order[start] * trees];
            end = start + 1;
            while (end < count && nodes[order[end] * trees] == node) {
                end++;
            }
            visit_node(walk, tree, level, node, end - start, order + start, scratch);
        }
    }
}

void fff_walk_subtree(const struct fff_walk *walk, size_t tree, size_t from, size_t count, uint32_t *order,
                      uint32_t *scratch, float *activations, uint32_t *path) {
    size_t levels = walk->trees.levels, level = from;
    while (count > FFF_SMALL_GROUP && level < levels) {
        size_t left =
            visit_node(walk, tree, level, walk->nodes[order[0] * walk->trees.trees + tree], count, order, scratch);
        level++;
        if (level < levels && left > 0 && left < count) {
            fff_walk_subtree(walk, tree, level, left, order, scratch, activations, path);
            order += left;
            count -= left;
        }
    }
    fff_walk_levels(walk, tree, level, levels, count, order, scratch);
    if (activations != NULL) {
        fff_walk_finish(walk, count, order, activations, path);
    }
}

/* ---- At the leaves --------------------------------------------------------------------------- */

void fff_walk_finish(const struct fff_walk *walk, size_t count, const uint32_t *tokens, float *activations,
                     uint32_t *path) {
    for (size_t i = 0; i < count; i += walk->finish_tokens) {
        size_t some = count - i < walk->finish_tokens ? count - i : walk->finish_tokens;
        walk->finish(walk, some, tokens + i, activations, path);
    }
}

/* The nodes on a token's way, from its leaves: in heap order, a node's parent is half of it. */
static void find_path(const struct fff_walk *walk, uint32_t token, uint32_t *path) {
    size_t trees = walk->trees.trees, levels = walk->trees.levels;
    for (size_t tree = 0; tree < trees; tree++) {
        uint32_t leaf = walk->nodes[token * trees + tree] + 1;
        for (size_t level = 0; level < levels; level++) {
            path[tree * levels + level] = (leaf >> (levels - 1 - level)) - 1;
        }
    }
}

void fff_finish_route(const struct fff_walk *walk, size_t count, const uint32_t *tokens, float *activations,
                      uint32_t *path) {
    (void)activations;
    (void)path;
    for (size_t i = 0; i < count; i++) {
        find_path(walk, tokens[i], walk->routed_nodes + tokens[i] * walk->routed_stride);
    }
}

void fff_finish_forward(const struct fff_walk *walk, size_t count, const uint32_t *tokens, float *activations,
                        uint32_t *path) {
    size_t entries = walk->trees.trees * walk->trees.levels;
    for (size_t i = 0; i < count; i++) {
        memcpy(activations + i * entries, walk->logits + tokens[i] * walk->logit_stride, entries * sizeof(float));
    }
    walk->kernels->activate_f32(walk->activation, count * entries, activations, activations);
    for (size_t i = 0; i < count; i++) {
        find_path(walk, tokens[i], path);
        walk->kernels->accumulate_f32(&walk->trees, path, activations + i * entries, walk->how,
                                      walk->output + tokens[i] * walk->output_stride);
    }
}
