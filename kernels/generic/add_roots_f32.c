#include "kernels/generic/isa.h"

#include <math.h>

void fff_add_roots_f32_generic(const struct fff_trees_f32 *trees, size_t count, const float *activations,
                               size_t activation_stride, unsigned write, float *output, size_t output_stride) {
    for (size_t token = 0; token < count; token++) {
        float *to = output + token * output_stride;
        for (size_t column = 0; column < trees->output_width && (write & FFF_WRITE_CONTINUE) == 0; column++) {
            to[column] = 0.0f;
        }
        for (size_t tree = 0; tree < trees->tree_count; tree++) {
            float activation = activations[token * activation_stride + tree];
            const float *weights = trees->output_rows + tree * trees->row_stride;
            for (size_t column = 0; column < trees->output_width; column++) {
                to[column] = fmaf(activation, weights[column], to[column]);
            }
        }
    }
}
