#ifndef FFF_KERNELS_ARM_NEON_DOT_H
#define FFF_KERNELS_ARM_NEON_DOT_H

#include "kernels/arm_neon/isa.h"
#include "kernels/arm_neon/row.h"

/* The 32 partial sums of one token are eight q registers: register v holds sums 4v to 4v + 3. */
enum { DOT_VECTORS_ARM_NEON = FFF_PARTIAL_SUMS / 4 };

typedef struct sums_arm_neon {
    float32x4_t part[DOT_VECTORS_ARM_NEON];
} sums_arm_neon;

/* Weights 4v to 4v + 3 of a row's last step, that from `column` on; zeros beyond its width. */
FFF_INLINE float32x4_t last_weights_arm_neon(const unsigned char *row, size_t column, size_t width, int v) {
    if (ROW_READS_EXACTLY) {
        return load_row_below(row, column + 4 * (size_t)v, width);
    }
    const unsigned char *at = row + row_offset(column);
    static const uint32_t FIRST_LANES[4] = {0, 1, 2, 3};
    uint32x4_t lane = vaddq_u32(vld1q_u32(FIRST_LANES), vdupq_n_u32(4 * (uint32_t)v));
    uint32x4_t there = vcltq_u32(lane, vdupq_n_u32((uint32_t)(width - column)));
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(load_row(at, v, 0)), there));
}

/* One step: FFF_PARTIAL_SUMS weights of a row from `column` on against as many inputs of each token, from `offset` on.
 * In the last, fewer, and inputs that are zeros beyond. */
FFF_INLINE void step_arm_neon(int tokens, const unsigned char *row, size_t column, bool last, size_t width,
                              const float *const *input, size_t offset, sums_arm_neon *sums) {
    const unsigned char *at = row + row_offset(column);
    FFF_UNROLL
    for (int v = 0; v < DOT_VECTORS_ARM_NEON; v++) {
        float32x4_t w = !last ? load_row(at, v, 0) : last_weights_arm_neon(row, column, width, v);
        FFF_UNROLL
        for (int t = 0; t < tokens; t++) {
            sums[t].part[v] = vfmaq_f32(sums[t].part[v], vld1q_f32(input[t] + offset + 4 * v), w);
        }
    }
}

/* The whole halving tree: 32 sums to 16, 8, 4 by whole registers, to 2 by halves of one, to 1. */
static inline float halve_to_1_arm_neon(sums_arm_neon sums) {
    FFF_UNROLL
    for (int half = DOT_VECTORS_ARM_NEON / 2; half > 0; half /= 2) {
        FFF_UNROLL
        for (int v = 0; v < half; v++) {
            sums.part[v] = vaddq_f32(sums.part[v], sums.part[v + half]);
        }
    }
    float32x2_t two = vadd_f32(vget_low_f32(sums.part[0]), vget_high_f32(sums.part[0]));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

/* The logits of `tokens` (1 or 2) tokens against one row, into logits[0..tokens-1]; unrolled for each
 * number at compile time. tail[t] is fff_pad_tail() of input[t].
 *
 * Two tokens are 16 accumulators, 8 registers of the row and 8 of inputs: all 32. */
FFF_INLINE void token_logits(const struct fff_trees *trees, size_t row, int tokens, const float *const *input,
                             const float *const *tail, float *logits) {
    const unsigned char *weights = trees->input_rows + row * trees->row_stride;
    size_t width = trees->input_width;
    sums_arm_neon sums[2];
    FFF_UNROLL
    for (int t = 0; t < tokens; t++) {
        FFF_UNROLL
        for (int v = 0; v < DOT_VECTORS_ARM_NEON; v++) {
            sums[t].part[v] = vdupq_n_f32(0.0f);
        }
    }
    size_t i = 0;
    for (; i + 2 * FFF_PARTIAL_SUMS <= width; i += 2 * FFF_PARTIAL_SUMS) {
        size_t next = i + FFF_PARTIAL_SUMS;
        step_arm_neon(tokens, weights, i, false, width, input, i, sums);
        step_arm_neon(tokens, weights, next, false, width, input, next, sums);
    }
    for (; i + FFF_PARTIAL_SUMS <= width; i += FFF_PARTIAL_SUMS) {
        step_arm_neon(tokens, weights, i, false, width, input, i, sums);
    }
    if (i < width) {
        step_arm_neon(tokens, weights, i, true, width, tail, 0, sums);
    }
    FFF_UNROLL
    for (int t = 0; t < tokens; t++) {
        logits[t] = halve_to_1_arm_neon(sums[t]) + trees->biases[row];
    }
}

/* The logit of one row for one token. */
FFF_INLINE float row_logit(const struct fff_trees *trees, size_t row, const void *token, const float *tail) {
    const float *input = token;
    float logit;
    token_logits(trees, row, 1, &input, &tail, &logit);
    return logit;
}

#endif
