#include "kernels/generic/dot_f32.h"
#include "kernels/generic/isa.h"

void fff_descend_f32_generic(const struct fff_trees_f32 *trees, const float *input, bool fetch_output, uint32_t *nodes,
                             float *logits) {
    (void)fetch_output; /* a hint only */
    for (size_t tree = 0; tree < trees->trees; tree++) {
        uint32_t node = 0;
        for (size_t level = 0; level < trees->levels; level++) {
            float logit = fff_logit_f32_generic(trees, tree * trees->nodes + node, input);
            nodes[tree * trees->levels + level] = node;
            logits[tree * trees->levels + level] = logit;
            node = fff_child(node, logit, trees->threshold);
        }
    }
}
