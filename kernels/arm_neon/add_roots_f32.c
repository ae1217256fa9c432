/* Several tokens' outputs from the roots of all trees: a matrix product whose every element is a fused chain over the
 * trees.
 *
 * Four tokens by four registers of columns at a time: 16 accumulators, 4 registers of a row and the activation, so 8
 * loads for 16 FMAs. The rows come from L2, once for four tokens. */
#include "kernels/add_roots_f32.h"
#include "kernels/arm_neon/isa.h"

#include <string.h>

enum { TOKENS = 4, VECTORS = 4 };

/* As fff_sum_tile_function, for whole registers; output[t] is where the first of these columns is. */
FFF_INLINE void whole_sum_tile_arm_neon(const struct fff_trees_f32 *trees, const float *const *activations,
                                        unsigned write, float *const *output, size_t column, int vectors) {
    float32x4_t sums[TOKENS][VECTORS];
    FFF_UNROLL
    for (int t = 0; t < TOKENS; t++) {
        FFF_UNROLL
        for (int v = 0; v < vectors; v++) {
            sums[t][v] = (write & FFF_WRITE_CONTINUE) != 0 ? vld1q_f32(output[t] + 4 * v) : vdupq_n_f32(0.0f);
        }
    }
    const float *weights = trees->output_rows + column;
    for (size_t tree = 0; tree < trees->tree_count; tree++, weights += trees->row_stride) {
        float32x4_t row[VECTORS];
        FFF_UNROLL
        for (int v = 0; v < vectors; v++) {
            row[v] = vld1q_f32(weights + 4 * v);
        }
        FFF_UNROLL
        for (int t = 0; t < TOKENS; t++) {
            float32x4_t activation = vld1q_dup_f32(activations[t] + tree);
            FFF_UNROLL
            for (int v = 0; v < vectors; v++) {
                sums[t][v] = vfmaq_f32(sums[t][v], activation, row[v]);
            }
        }
    }
    FFF_UNROLL
    for (int t = 0; t < TOKENS; t++) {
        FFF_UNROLL
        for (int v = 0; v < vectors; v++) {
            vst1q_f32(output[t] + 4 * v, sums[t][v]);
        }
    }
}

FFF_INLINE void sum_tile_arm_neon(const struct fff_trees_f32 *trees, const float *const *activations, unsigned write,
                                  float *const *output, size_t column, int vectors) {
    size_t left = trees->output_width - column;
    float last[TOKENS][4] = {{0}}; /* the last columns, fewer than a register, go through the stack */
    float *to[TOKENS];
    FFF_UNROLL
    for (int t = 0; t < TOKENS; t++) {
        to[t] = left < 4 ? last[t] : output[t] + column;
        if (left < 4 && (write & FFF_WRITE_CONTINUE) != 0) {
            memcpy(last[t], output[t] + column, left * sizeof(float));
        }
    }
    whole_sum_tile_arm_neon(trees, activations, write, to, column, vectors);
    for (int t = 0; t < TOKENS && left < 4; t++) {
        memcpy(output[t] + column, last[t], left * sizeof(float));
    }
}

void fff_add_roots_f32_arm_neon(const struct fff_trees_f32 *trees, size_t count, const float *activations,
                                size_t activation_stride, unsigned write, float *output, size_t output_stride) {
    const struct fff_sum_tile tile = {TOKENS, 4, VECTORS};
    fff_add_roots(trees, count, activations, activation_stride, write, output, output_stride, tile, sum_tile_arm_neon);
}
