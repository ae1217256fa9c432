/* One token down all trees.
 *
 * What bounds it: the rows come from L2, L3 or memory (a 768-wide row is 48 lines, a layer 25 MB), and
 * a tree's next row is known only when the last dot product is done. So:
 * - Trees advance level by level, not one after another: their dot products are independent, and the
 *   out-of-order window overlaps the rows of several trees.
 * - The child is computed, not branched to: a mispredicted branch a level would cost more than the
 *   reduction it waits for.
 * - A node's output row is prefetched once its dot product has been issued, so the fetch fills the
 *   time the reduction takes and never delays the row that everything waits for.
 * Tried and lost: prefetching both children's rows (twice the traffic), prefetching the output row
 * before the dot product, prefetching the row's own lines. docs/design.md has the figures. */
#include "kernels/x86_avx512/dot_f32.h"
#include "kernels/x86_avx512/isa.h"

/* One node: its logit, and the child that it leads to. */
static inline uint32_t visit_x86_avx512(const struct fff_trees_f32 *trees, size_t tree, size_t level, uint32_t node,
                                        const float *input, size_t fetched, uint32_t *nodes, float *logits) {
    size_t entry = tree * trees->levels + level;
    size_t row = tree * trees->nodes + node;
    float logit = logit_x86_avx512(trees, row, input);
    nodes[entry] = node;
    logits[entry] = logit;
    const float *output_row = trees->output_rows + row * trees->row_stride;
    for (size_t i = 0; i < fetched; i += FFF_LINE_FLOATS) {
        _mm_prefetch((const char *)(output_row + i), _MM_HINT_T0);
    }
    return fff_child(node, logit, trees->right_above);
}

void fff_descend_f32_x86_avx512(const struct fff_trees_f32 *trees, const float *input, bool fetch_output,
                                uint32_t *nodes, float *logits) {
    size_t fetched = fetch_output ? trees->output_width : 0;
    if (trees->trees == 1) {
        uint32_t node = 0;
        for (size_t level = 0; level < trees->levels; level++) {
            node = visit_x86_avx512(trees, 0, level, node, input, fetched, nodes, logits);
        }
        return;
    }
    for (size_t tree = 0; tree < trees->trees; tree++) {
        nodes[tree * trees->levels] = 0;
    }
    for (size_t level = 0; level < trees->levels; level++) {
        for (size_t tree = 0; tree < trees->trees; tree++) {
            uint32_t *node = &nodes[tree * trees->levels + level];
            uint32_t child = visit_x86_avx512(trees, tree, level, *node, input, fetched, nodes, logits);
            if (level + 1 < trees->levels) {
                node[1] = child;
            }
        }
    }
}
