#include "kernels/generic/isa.h"

#include <math.h>

void fff_accumulate_f32_generic(const struct fff_trees_f32 *trees, size_t count, const uint32_t *tokens,
                                const uint32_t *nodes, const float *activations, unsigned write, float *output,
                                size_t output_stride) {
    size_t entries = trees->tree_count * trees->level_count;
    for (size_t i = 0; i < count; i++, nodes += entries, activations += entries) {
        float *y = output + tokens[i] * output_stride;
        for (size_t column = 0; column < trees->output_width && (write & FFF_WRITE_CONTINUE) == 0; column++) {
            y[column] = 0.0f;
        }
        for (size_t entry = 0; entry < entries; entry++) {
            size_t tree = entry / trees->level_count;
            const float *weights = trees->output_rows + (tree * trees->node_count + nodes[entry]) * trees->row_stride;
            for (size_t column = 0; column < trees->output_width; column++) {
                y[column] = fmaf(activations[entry], weights[column], y[column]);
            }
        }
    }
}
