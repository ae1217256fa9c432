#ifndef FFF_KERNELS_GENERIC_DOT_H
#define FFF_KERNELS_GENERIC_DOT_H

#include "kernels/generic/row.h"

#include <math.h>

/* Rows of floats: FFF_PARTIAL_SUMS interleaved chains of fused multiply-adds, as if row and input were padded with
 * zeros to a multiple of that number; the chains added pairwise, the upper half to the lower; then the bias. */
static inline float float_logit(const struct fff_trees *trees, size_t row, const float *input) {
    const unsigned char *weights = trees->input_rows + row * trees->row_stride;
    float sums[FFF_PARTIAL_SUMS] = {0};
    for (size_t start = 0; start < trees->input_width; start += FFF_PARTIAL_SUMS) {
        for (size_t s = 0; s < FFF_PARTIAL_SUMS; s++) {
            bool there = start + s < trees->input_width;
            float x = there ? input[start + s] : 0.0f, weight = there ? weight_of(weights, start + s) : 0.0f;
            sums[s] = fmaf(x, weight, sums[s]);
        }
    }
    for (size_t half = FFF_PARTIAL_SUMS / 2; half > 0; half /= 2) {
        for (size_t s = 0; s < half; s++) {
            sums[s] += sums[s + half];
        }
    }
    return sums[0] + trees->biases[row];
}

/* Rows of integers: their exact sum of products with the token's, rounded once to a float; then the scales. */
static inline float integer_logit(const struct fff_trees *trees, size_t row, const int8_t *token) {
    const unsigned char *weights = trees->input_rows + row * trees->row_stride;
    int64_t sum = 0;
    for (size_t column = 0; column < trees->input_width; column++) {
        sum += token[column] * (int8_t)weights[column];
    }
    return fff_scale_dot(trees, row, (float)sum, fff_scale_of_quantised(token, trees->input_width));
}

/* The logit of one row for one token. */
static inline float row_logit(const struct fff_trees *trees, size_t row, const void *token) {
    return ROW_TYPE == FFF_WEIGHT_I8 ? integer_logit(trees, row, token) : float_logit(trees, row, token);
}

#endif
