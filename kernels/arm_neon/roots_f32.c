/* Several tokens against the roots of all trees: a matrix product whose every element is a dot product of
 * FFF_PARTIAL_SUMS partial sums.
 *
 * Three rows by four tokens at a time, in eight passes over the widths, each for four of the partial sums: 7 loads
 * for 12 FMAs, whose 12 chains cover their latency. */
#include "kernels/roots_f32.h"
#include "kernels/arm_neon/dot_f32.h"
#include "kernels/arm_neon/isa.h"

enum { ROWS = FFF_TILE_ROWS, TOKENS = FFF_TILE_TOKENS };

/* Partial sums 4v to 4v + 3 of every row with every token. */
static inline __attribute__((always_inline)) void pass_arm_neon(const float *const weights[ROWS],
                                                                const float *const input[TOKENS],
                                                                const float *const tail[TOKENS], size_t width, int v,
                                                                sums_arm_neon sums[ROWS][TOKENS]) {
    float32x4_t part[ROWS][TOKENS];
    for (int r = 0; r < ROWS; r++) {
        for (int t = 0; t < TOKENS; t++) {
            part[r][t] = vdupq_n_f32(0.0f);
        }
    }
    size_t i = 0, whole = width / FFF_PARTIAL_SUMS * FFF_PARTIAL_SUMS;
    for (; i < width; i += FFF_PARTIAL_SUMS) {
        float32x4_t row[ROWS];
        for (int r = 0; r < ROWS; r++) {
            row[r] = vld1q_f32(weights[r] + i + 4 * v);
        }
        for (int t = 0; t < TOKENS; t++) {
            float32x4_t x = vld1q_f32((i < whole ? input[t] + i : tail[t]) + 4 * v);
            for (int r = 0; r < ROWS; r++) {
                part[r][t] = vfmaq_f32(part[r][t], x, row[r]);
            }
        }
    }
    for (int r = 0; r < ROWS; r++) {
        for (int t = 0; t < TOKENS; t++) {
            sums[r][t].part[v] = part[r][t];
        }
    }
}

static inline __attribute__((always_inline)) void tile_arm_neon(const float *const weights[ROWS],
                                                                const float *const input[TOKENS], size_t width,
                                                                float dots[ROWS][TOKENS]) {
    const float *tail[TOKENS];
    float padded[TOKENS][FFF_PARTIAL_SUMS];
    for (int t = 0; t < TOKENS; t++) {
        tail[t] = padded[t];
        if (width % FFF_PARTIAL_SUMS != 0) {
            fff_pad_tail(input[t], width, padded[t]);
        }
    }
    sums_arm_neon sums[ROWS][TOKENS];
    for (int v = 0; v < DOT_VECTORS_ARM_NEON; v++) {
        pass_arm_neon(weights, input, tail, width, v, sums);
    }
    for (int r = 0; r < ROWS; r++) {
        for (int t = 0; t < TOKENS; t++) {
            dots[r][t] = halve_to_1_arm_neon(sums[r][t]);
        }
    }
}

void fff_roots_f32_arm_neon(const struct fff_trees_f32 *trees, size_t count, const float *inputs, size_t input_stride,
                            float *logits, size_t logit_stride) {
    fff_roots(trees, count, inputs, input_stride, logits, logit_stride, tile_arm_neon);
}
