/* The shape of descend, shared by the vector instruction sets: they differ only in their dot product.
 *
 * What bounds it: the rows come from L2, L3 or memory (a 768-wide row is 48 lines, a layer 25 MB), and
 * a tree's next row is known only when the last dot product is done. So:
 * - The child is computed, not branched to: a mispredicted branch a level would cost more than the
 *   reduction it waits for. A single tree keeps its node in a register.
 * - A single tree's next row is one of two, and the first lines of both are prefetched before the dot product, unless
 *   that level's rows are near.
 * - Several trees advance level by level, not one after another: their dot products are independent, and
 *   the out-of-order window overlaps their rows.
 * - Half of a node's output row is prefetched once its dot product has been issued, so the fetch fills the time the
 *   reduction takes. All of it would fill the core's queue of misses, and delay the row that everything waits for. The
 *   other halves, but of near levels, follow when a single tree's leaf is known, and come while activations are
 *   computed; for several trees, the hardware goes on when accumulate begins to read.
 * - Trees without branches are visited in the order in which their rows lie, so both rows of the third tree to come are
 *   prefetched instead, unless rows are near: none beyond the last tree, which of a leaf's few neurons would be much.
 * Tried and lost: prefetching both children's rows whole (twice the traffic), prefetching the output row
 * before the dot product, prefetching the row's own lines. docs/trials.md has the figures.
 *
 * Everything here is inlined into the one function of a folder that uses it; no copy is left to the
 * linker. */
#ifndef FFF_KERNELS_DESCEND_H
#define FFF_KERNELS_DESCEND_H

#include "kernels/row.h"

enum { FFF_ROWS_AHEAD = 3, FFF_BYTES_AT_ONCE = 512 };

/* One token's way, as descend is given it. */
struct fff_descent {
    const struct fff_trees *trees;
    const void *input;
    const float *tail;
    /* What to prefetch at row r: `fetched` bytes, from fetch_from + r * output_row_stride on. */
    const unsigned char *fetch_from;
    size_t fetched;
    uint32_t *nodes;
    float *logits;
};

/* One node: its logit, and the child that it leads to. */
FFF_INLINE uint32_t fff_visit(const struct fff_descent *descent, size_t tree, size_t level, uint32_t node) {
    const struct fff_trees *trees = descent->trees;
    size_t entry = tree * trees->level_count + level;
    size_t row = tree * trees->node_count + node;
    float logit = row_logit(trees, row, descent->input, descent->tail);
    descent->nodes[entry] = node;
    descent->logits[entry] = logit;
    fff_fetch_l1(descent->fetch_from + row * trees->output_row_stride, descent->fetched);
    return fff_child(node, logit, fff_threshold_of(trees, row));
}

/* The beginning of both children's input rows, which lie one after the other, of tree 0. */
FFF_INLINE void fff_fetch_children(const struct fff_trees *trees, uint32_t node) {
    const unsigned char *left = trees->input_rows + (2 * (size_t)node + 1) * trees->row_stride;
    size_t bytes = fff_min(trees->input_bytes, FFF_FIRST_BYTES);
    fff_fetch_l1(left, bytes);
    fff_fetch_l1(left + trees->row_stride, bytes);
}

/* What fff_visit has not fetched of tree 0's visited output rows, but those of levels that are near, in about the order
 * in which accumulate reads them: some columns of all rows, then the next. */
FFF_INLINE void fff_fetch_rest(const struct fff_descent *descent) {
    const struct fff_trees *trees = descent->trees;
    for (size_t first = descent->fetched; first < trees->output_bytes; first += FFF_BYTES_AT_ONCE) {
        size_t left = trees->output_bytes - first;
        for (size_t level = trees->near_levels; level < trees->level_count; level++) {
            fff_fetch_l1(trees->output_rows + descent->nodes[level] * trees->output_row_stride + first,
                         fff_min(left, FFF_BYTES_AT_ONCE));
        }
    }
}

static void KERNEL(descend)(const struct fff_trees *trees, const void *input, bool fetch_output, uint32_t *nodes,
                            float *logits) {
    float tail[FFF_PARTIAL_SUMS];
    if (ROW_TYPE != FFF_WEIGHT_I8) {
        fff_pad_tail(input, trees->input_width, tail);
    }
    struct fff_descent descent = {trees, input, tail, trees->output_rows, 0, nodes, logits};
    size_t ahead = 0; /* bytes that are prefetched of the input row that is FFF_ROWS_AHEAD trees on */
    if (fetch_output && trees->level_count > 1) {
        size_t half = trees->output_bytes / 2; /* in whole lines */
        descent.fetched = (half + FFF_LINE_BYTES - 1) / FFF_LINE_BYTES * FFF_LINE_BYTES;
    } else if (fetch_output && trees->near_levels == 0 && trees->tree_count > FFF_ROWS_AHEAD) {
        descent.fetch_from = trees->output_rows + FFF_ROWS_AHEAD * trees->output_row_stride;
        descent.fetched = trees->output_bytes;
        ahead = trees->input_bytes;
    }
    if (trees->tree_count == 1) {
        uint32_t node = 0;
        for (size_t level = 0; level < trees->level_count; level++) {
            if (level + 1 >= trees->near_levels && level + 1 < trees->level_count) {
                fff_fetch_children(trees, node);
            }
            node = fff_visit(&descent, 0, level, node);
        }
        if (fetch_output && trees->level_count > 1) {
            fff_fetch_rest(&descent);
        }
        return;
    }
    for (size_t tree = 0; tree < trees->tree_count; tree++) {
        nodes[tree * trees->level_count] = 0;
    }
    for (size_t level = 0; level < trees->level_count; level++) {
        for (size_t tree = 0; tree < trees->tree_count; tree++) {
            if (ahead > 0 && tree + FFF_ROWS_AHEAD >= trees->tree_count) {
                ahead = descent.fetched = 0;
            }
            uint32_t *node = &nodes[tree * trees->level_count + level];
            uint32_t child = fff_visit(&descent, tree, level, *node);
            fff_fetch_l1(trees->input_rows + (tree + FFF_ROWS_AHEAD) * trees->row_stride, ahead);
            if (level + 1 < trees->level_count) {
                node[1] = child;
            }
        }
    }
}

#endif
