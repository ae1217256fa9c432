#include "kernels/generic/dot_f32.h"
#include "kernels/generic/isa.h"

void fff_descend_f32_generic(const struct fff_trees_f32 *trees, const float *input, bool fetch_output, uint32_t *nodes,
                             float *logits) {
    (void)fetch_output; /* a hint only */
    for (size_t tree = 0; tree < trees->tree_count; tree++) {
        uint32_t node = 0;
        for (size_t level = 0; level < trees->level_count; level++) {
            float logit = fff_logit_f32_generic(trees, tree * trees->node_count + node, input);
            nodes[tree * trees->level_count + level] = node;
            logits[tree * trees->level_count + level] = logit;
            node = fff_child(node, logit, trees->threshold);
        }
    }
}
