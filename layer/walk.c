#include "layer/walk.h"

#include "kernels/toolbox.h"
#include "layer/size.h"

#include <string.h>

/* ---- Fetching ahead ---------------------------------------------------------------------------
 *
 * What a walk will touch is known before it does, or nearly: what follows asks for it early, if rows come from beyond
 * L2, and into L2 only, since L1 would lose it again. Inlined by force, as fff_fetch_l2 is.
 */

enum {
    FETCH_CHILDREN = 4,   /* tokens at a node, at least, for both its children to be fetched whole before any moves */
    TWO_LEVELS = 8,       /* and for two levels at once */
    FINISH_TOGETHER = 12, /* at most, of the tokens at a node, unless they stand at one leaf */
};

/* Bytes `first` to `end` of a node's input row, as far as it has them, unless its level's rows stay in L2. */
FFF_INLINE void fetch_part(const struct fff_walk *walk, size_t tree, size_t level, uint32_t node, size_t first,
                           size_t end) {
    const struct fff_trees *trees = &walk->trees;
    end = fff_min(end, trees->input_bytes);
    if (level >= trees->near_levels && first < end) {
        fff_fetch_l2(trees->input_rows + (tree * trees->node_count + node) * trees->row_stride + first, end - first);
    }
}

FFF_INLINE void fetch_row(const struct fff_walk *walk, size_t tree, size_t level, uint32_t node) {
    fetch_part(walk, tree, level, node, 0, walk->trees.input_bytes);
}

/* What accumulate will read and write of these tokens that are at a node: its output row and, at one level of the
 * walk, the tokens' outputs. */
FFF_INLINE void fetch_for_sums(const struct fff_walk *walk, size_t tree, size_t level, uint32_t node, size_t count,
                               const uint32_t *tokens) {
    const struct fff_trees *trees = &walk->trees;
    if (trees->output_bytes > 0) { /* else they route only */
        fff_fetch_l2(trees->output_rows + (tree * trees->node_count + node) * trees->output_row_stride,
                     trees->output_bytes);
    }
    if (level == walk->output_level) {
        for (size_t i = 0; i < count; i++) {
            fff_fetch_l2(walk->output + tokens[i] * walk->output_stride, trees->output_width * sizeof(float));
        }
    }
}

/* ---- Down one tree --------------------------------------------------------------------------- */

/* Moves a group whose logits are known to the node's children, partitioned stably: those that go left first, whose
 * number is returned. */
static size_t move_to_children(const struct fff_walk *walk, size_t tree, size_t level, uint32_t node, size_t count,
                               uint32_t *order, uint32_t *scratch) {
    const struct fff_trees *trees = &walk->trees;
    const float *logits = walk->logits + tree * trees->level_count + level;
    float threshold = fff_threshold_of(trees, tree * trees->node_count + node);
    size_t left = 0, right = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t token = order[i];
        uint32_t child = fff_child(node, logits[token * walk->logit_stride], threshold);
        walk->nodes[token * trees->tree_count + tree] = child;
        /* Write to both sides and advance one: no branch to mispredict. */
        bool goes_left = child == 2 * node + 1;
        order[left] = token;
        scratch[right] = token;
        left += goes_left;
        right += !goes_left;
    }
    if (count > 1) { /* copying 0 or 1 element would be a branch on where a single token goes, and wait for its logit */
        memcpy(order + left, scratch, right * sizeof *order);
    }
    return left;
}

/* A group of tokens, order[0..count-1], all at one node of a level. */
struct group {
    size_t level;
    bool known; /* their logits there are known already */
    size_t count;
    uint32_t *order, *scratch;
};

/* The input rows that a group's next visits will need, before its own dot products: they arrive meanwhile. Groups that
 * are large enough for two levels at once need the next level's with their own, so theirs come a level earlier; those
 * of level 1 now, if roots was given the roots. Of the smallest groups' children only the beginning: visit_node
 * asks for the rest of those that tokens go to. */
FFF_INLINE void fetch_rows_below(const struct fff_walk *walk, size_t tree, size_t to, const struct group *group,
                                 uint32_t node) {
    size_t level = group->level;
    bool deep = group->count >= TWO_LEVELS;
    bool children = deep ? group->known && level == 0 : !group->known;
    if (children && level + 1 < to) {
        size_t end = group->count < FETCH_CHILDREN ? FFF_FIRST_BYTES : walk->trees.input_bytes;
        fetch_part(walk, tree, level + 1, 2 * node + 1, 0, end);
        fetch_part(walk, tree, level + 1, 2 * node + 2, 0, end);
    }
    if (deep && level + 2 < to) {
        for (uint32_t grandchild = 4 * node + 3; grandchild <= 4 * node + 6; grandchild++) {
            fetch_row(walk, tree, level + 2, grandchild);
        }
    }
}

/* Computes a group's logits unless they are known, with `two` those of the next level, too, then moves it to the node's
 * children, those on the left first, whose number is returned. At a level that does not route they stay. Nothing is
 * fetched for level `to` and beyond. */
static size_t visit_node(const struct fff_walk *walk, size_t tree, size_t to, const struct group *group, bool two) {
    const struct fff_trees *trees = &walk->trees;
    size_t level = group->level, count = group->count, root = tree * trees->node_count;
    uint32_t node = walk->nodes[group->order[0] * trees->tree_count + tree];
    float *logits = walk->logits + tree * trees->level_count + level;
    fetch_rows_below(walk, tree, to, group, node);
    if (two) {
        fff_input_kernels(walk->part)
            ->two_levels(trees, root + node, root + 2 * node + 1, count, group->order, walk->input, walk->input_stride,
                         walk->inputs_beyond_l2 && level == walk->first_level, logits, walk->logit_stride);
    } else if (!group->known) {
        fff_input_kernels(walk->part)
            ->node_dot(trees, root + node, count, group->order, walk->input, walk->input_stride, logits,
                       walk->logit_stride);
    }
    if (fff_beyond_l2(trees) && walk->output != NULL) {
        fetch_for_sums(walk, tree, level, node, count, group->order);
    }
    if (level == fff_routing_levels(walk->part)) {
        return count;
    }
    size_t left = move_to_children(walk, tree, level, node, count, group->order, group->scratch);
    if (count < FETCH_CHILDREN && level + 1 < to) {
        uint32_t child = walk->nodes[group->order[0] * trees->tree_count + tree];
        size_t fetched = group->known ? 0 : FFF_FIRST_BYTES;
        fetch_part(walk, tree, level + 1, child, fetched, trees->input_bytes);
        if (count > 1 && left > 0 && left < count) { /* again, none of a single token's left and right */
            fetch_part(walk, tree, level + 1, child + 1, fetched, trees->input_bytes);
        }
    }
    return left;
}

/* Down to before level `to`, level by level. */
static void walk_levels(const struct fff_walk *walk, size_t tree, size_t to, struct group all) {
    const uint32_t *nodes = walk->nodes + tree;
    size_t trees = walk->trees.tree_count;
    for (; all.level < to; all.level++, all.known = false) {
        for (size_t start = 0, end; start < all.count; start = end) {
            end = start + 1;
            while (end < all.count && nodes[all.order[end] * trees] == nodes[all.order[start] * trees]) {
                end++;
            }
            if (end < all.count) {
                /* asked for long ago, most likely, and perhaps lost since */
                fetch_row(walk, tree, all.level, nodes[all.order[end] * trees]);
            }
            const struct group group = {all.level, all.known, end - start, all.order + start, all.scratch};
            visit_node(walk, tree, to, &group, false);
        }
    }
}

/* Down to before level `to`, depth first as long as a group is large enough for two levels at once. */
static void walk_down(const struct fff_walk *walk, size_t tree, size_t to, struct group group, float *activations,
                      uint32_t *paths) {
    if (activations != NULL && group.count <= FINISH_TOGETHER) {
        walk_down(walk, tree, to, group, NULL, NULL);
        fff_walk_finish(walk, group.count, group.order, activations, paths);
        return;
    }
    while (group.count >= TWO_LEVELS && group.level < to) {
        bool two = !group.known && group.level + 1 < to;
        size_t left = visit_node(walk, tree, to, &group, two);
        group.level++;
        group.known = two;
        if (group.level < to && left > 0 && left < group.count) {
            struct group right = group;
            right.count -= left;
            right.order += left;
            group.count = left;
            walk_down(walk, tree, to, group, activations, paths);
            walk_down(walk, tree, to, right, activations, paths);
            return;
        }
    }
    walk_levels(walk, tree, to, group);
    if (activations != NULL) {
        fff_walk_finish(walk, group.count, group.order, activations, paths);
    }
}

void fff_walk_down(const struct fff_walk *walk, size_t tree, size_t from, size_t to, size_t count, uint32_t *order,
                   uint32_t *scratch, float *activations, uint32_t *paths) {
    const struct group group = {from, from == 0 && walk->roots_known, count, order, scratch};
    walk_down(walk, tree, to, group, activations, paths);
}

/* ---- At the leaves --------------------------------------------------------------------------- */

void fff_walk_finish(const struct fff_walk *walk, size_t count, const uint32_t *tokens, float *activations,
                     uint32_t *paths) {
    for (size_t i = 0; i < count; i += walk->finish_tokens) {
        size_t some = fff_min(count - i, walk->finish_tokens);
        walk->finish(walk, some, tokens + i, activations, paths);
    }
}

/* The nodes on a token's way, from its leaves: in heap order, a node's parent is half of it. */
static void find_path(const struct fff_walk *walk, uint32_t token, uint32_t *path) {
    size_t trees = walk->trees.tree_count, levels = walk->trees.level_count, below = fff_routing_levels(walk->part);
    for (size_t tree = 0; tree < trees; tree++) {
        uint32_t leaf = walk->nodes[token * trees + tree] + 1;
        for (size_t level = 0; level < levels; level++) {
            path[tree * levels + level] = (leaf >> (below - level)) - 1;
        }
    }
}

void fff_scale_factors(const struct fff_part *part, const struct fff_trees *trees, const float *output_scales,
                       const uint32_t *nodes, float *factors) {
    size_t entries = trees->tree_count * trees->level_count;
    for (size_t entry = 0; output_scales != NULL && entry < entries; entry++) {
        size_t node = nodes != NULL ? nodes[entry] : 0;
        factors[entry] *= output_scales[entry / trees->level_count * trees->node_count + node];
    }
    for (size_t entry = 0; part->factor != 1.0f && entry < entries; entry++) {
        factors[entry] *= part->factor;
    }
}

void fff_find_paths(const struct fff_walk *walk, size_t count, const uint32_t *tokens, uint32_t *paths, size_t stride,
                    bool by_token) {
    size_t trees = walk->trees.tree_count;
    for (size_t i = 0; i < count; i++) {
        uint32_t *path = paths + (by_token ? tokens[i] : i) * stride;
        find_path(walk, tokens[i], path);
        if (walk->tokens != NULL) {
            (void)fff_fetch_undecided(walk->part, walk->first_tree, trees, &walk->tokens[tokens[i]], path,
                                      walk->logits + tokens[i] * walk->logit_stride);
        }
    }
    for (size_t i = 0; i < count && walk->tokens != NULL; i++) {
        const unsigned char *input = (const unsigned char *)walk->input + tokens[i] * walk->input_stride;
        fff_settle(walk->part, walk->first_tree, trees, &walk->tokens[tokens[i]], input,
                   paths + (by_token ? tokens[i] : i) * stride, walk->logits + tokens[i] * walk->logit_stride);
    }
}

void fff_finish_route(const struct fff_walk *walk, size_t count, const uint32_t *tokens, float *activations,
                      uint32_t *paths) {
    (void)activations;
    (void)paths;
    fff_find_paths(walk, count, tokens, walk->routed_nodes, walk->routed_stride, true);
}

void fff_finish_forward(const struct fff_walk *walk, size_t count, const uint32_t *tokens, float *activations,
                        uint32_t *paths) {
    size_t entries = walk->trees.tree_count * walk->trees.level_count;
    fff_find_paths(walk, count, tokens, paths, entries, false);
    for (size_t i = 0; i < count; i++) {
        memcpy(activations + i * entries, walk->logits + tokens[i] * walk->logit_stride, entries * sizeof(float));
    }
    walk->part->kernels->activate(walk->part->activation, count * entries, activations, activations);
    for (size_t i = 0; i < count; i++) {
        fff_scale_factors(walk->part, &walk->trees, walk->output_scales, paths + i * entries,
                          activations + i * entries);
    }
    fff_output_kernels(walk->part)
        ->accumulate(&walk->trees, count, tokens, paths, activations, walk->write, walk->output, walk->output_stride);
}

void fff_finish_paths(const struct fff_walk *walk, size_t count, const uint32_t *tokens, float *activations,
                      uint32_t *paths) {
    size_t entries = walk->trees.tree_count * walk->trees.level_count;
    fff_finish_forward(walk, count, tokens, activations, paths);
    for (size_t i = 0; i < count; i++) {
        memcpy(walk->routed_nodes + tokens[i] * walk->routed_stride, paths + i * entries, entries * sizeof *paths);
    }
}
