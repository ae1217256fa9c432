#ifndef FFF_KERNELS_GENERIC_ACCUMULATE_H
#define FFF_KERNELS_GENERIC_ACCUMULATE_H

#include "kernels/generic/row.h"

#include <math.h>

static void KERNEL(accumulate)(const struct fff_trees *trees, size_t count, const uint32_t *tokens,
                               const uint32_t *nodes, const float *factors, unsigned write, float *output,
                               size_t output_stride) {
    size_t entries = trees->tree_count * trees->level_count;
    for (size_t i = 0; i < count; i++, nodes += entries, factors += entries) {
        float *y = output + tokens[i] * output_stride;
        for (size_t column = 0; column < trees->output_width && (write & FFF_WRITE_CONTINUE) == 0; column++) {
            y[column] = 0.0f;
        }
        for (size_t entry = 0; entry < entries; entry++) {
            size_t row = entry / trees->level_count * trees->node_count + nodes[entry];
            const unsigned char *weights = trees->output_rows + row * trees->row_stride;
            for (size_t column = 0; column < trees->output_width; column++) {
                y[column] = fmaf(factors[entry], weight_of(weights, column), y[column]);
            }
        }
    }
}

#endif
