#ifndef FFF_KERNELS_GENERIC_ADD_ROOTS_H
#define FFF_KERNELS_GENERIC_ADD_ROOTS_H

#include "kernels/generic/row.h"

#include <math.h>

static void KERNEL(add_roots)(const struct fff_trees *trees, size_t count, const uint32_t *tokens, const float *factors,
                              size_t factor_stride, unsigned write, float *output, size_t output_stride) {
    for (size_t i = 0; i < count; i++) {
        float *y = output + tokens[i] * output_stride;
        for (size_t column = 0; column < trees->output_width && (write & FFF_WRITE_CONTINUE) == 0; column++) {
            y[column] = 0.0f;
        }
        for (size_t tree = 0; tree < trees->tree_count; tree++) {
            float factor = factors[i * factor_stride + tree];
            const unsigned char *weights = trees->output_rows + tree * trees->output_row_stride;
            for (size_t column = 0; column < trees->output_width; column++) {
                y[column] = fmaf(factor, weight_of(weights, column), y[column]);
            }
        }
    }
}

#endif
