#ifndef FFF_KERNELS_GENERIC_DESCEND_H
#define FFF_KERNELS_GENERIC_DESCEND_H

#include "kernels/generic/dot.h"

static void KERNEL(descend)(const struct fff_trees *trees, const void *input, bool fetch_output, uint32_t *nodes,
                            float *logits) {
    (void)fetch_output; /* a hint only */
    for (size_t tree = 0; tree < trees->tree_count; tree++) {
        uint32_t node = 0;
        for (size_t level = 0; level < trees->level_count; level++) {
            size_t row = tree * trees->node_count + node;
            float logit = row_logit(trees, row, input);
            nodes[tree * trees->level_count + level] = node;
            logits[tree * trees->level_count + level] = logit;
            node = fff_child(node, logit, fff_threshold_of(trees, row));
        }
    }
}

#endif
