#include "kernels/generic/isa.h"

#include <math.h>

void fff_accumulate_f32_generic(const struct fff_trees_f32 *trees, const uint32_t *nodes, const float *activations,
                                unsigned how, float *output) {
    for (size_t column = 0; column < trees->output_width && (how & FFF_CONTINUE) == 0; column++) {
        output[column] = 0.0f;
    }
    for (size_t tree = 0; tree < trees->trees; tree++) {
        for (size_t level = 0; level < trees->levels; level++) {
            size_t entry = tree * trees->levels + level;
            const float *weights = trees->output_rows + (tree * trees->nodes + nodes[entry]) * trees->row_stride;
            for (size_t column = 0; column < trees->output_width; column++) {
                output[column] = fmaf(activations[entry], weights[column], output[column]);
            }
        }
    }
}
