/* One token down all trees. The shape is that of kernels/x86_avx512/descend_f32.c, for the same
 * reasons: the rows' way from L2 or beyond bounds it, so the width of the registers hardly matters. */
#include "kernels/arm_neon/dot_f32.h"
#include "kernels/arm_neon/isa.h"

/* One node: its logit, and the child that it leads to. */
static inline uint32_t visit_arm_neon(const struct fff_trees_f32 *trees, size_t tree, size_t level, uint32_t node,
                                      const float *input, const float *tail, size_t fetched, uint32_t *nodes,
                                      float *logits) {
    size_t entry = tree * trees->levels + level;
    size_t row = tree * trees->nodes + node;
    float logit;
    logits_arm_neon(trees, row, 1, &input, &tail, &logit);
    nodes[entry] = node;
    logits[entry] = logit;
    const float *output_row = trees->output_rows + row * trees->row_stride;
    for (size_t i = 0; i < fetched; i += FFF_LINE_FLOATS) {
        __builtin_prefetch(output_row + i);
    }
    return fff_child(node, logit, trees->right_above);
}

void fff_descend_f32_arm_neon(const struct fff_trees_f32 *trees, const float *input, bool fetch_output, uint32_t *nodes,
                              float *logits) {
    size_t fetched = fetch_output ? trees->output_width : 0;
    float tail[FFF_PARTIAL_SUMS];
    fff_pad_tail(input, trees->input_width, tail);
    if (trees->trees == 1) {
        uint32_t node = 0;
        for (size_t level = 0; level < trees->levels; level++) {
            node = visit_arm_neon(trees, 0, level, node, input, tail, fetched, nodes, logits);
        }
        return;
    }
    for (size_t tree = 0; tree < trees->trees; tree++) {
        nodes[tree * trees->levels] = 0;
    }
    for (size_t level = 0; level < trees->levels; level++) {
        for (size_t tree = 0; tree < trees->trees; tree++) {
            uint32_t *node = &nodes[tree * trees->levels + level];
            uint32_t child = visit_arm_neon(trees, tree, level, *node, input, tail, fetched, nodes, logits);
            if (level + 1 < trees->levels) {
                node[1] = child;
            }
        }
    }
}
