#ifndef FFF_KERNELS_GENERIC_DOT_F32_H
#define FFF_KERNELS_GENERIC_DOT_F32_H

#include "kernels/toolbox.h"

#include <math.h>

/* The logit of one row for one token: FFF_PARTIAL_SUMS interleaved chains of fused multiply-adds, as
 * if row and input were padded with zeros to a multiple of that number; the chains added pairwise,
 * the upper half to the lower; then the bias. */
static inline float fff_logit_f32_generic(const struct fff_trees_f32 *trees, size_t row, const float *input) {
    const float *weights = trees->input_rows + row * trees->row_stride;
    float sums[FFF_PARTIAL_SUMS] = {0};
    for (size_t start = 0; start < trees->input_width; start += FFF_PARTIAL_SUMS) {
        for (size_t s = 0; s < FFF_PARTIAL_SUMS; s++) {
            bool there = start + s < trees->input_width;
            float x = there ? input[start + s] : 0.0f, weight = there ? weights[start + s] : 0.0f;
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

#endif
