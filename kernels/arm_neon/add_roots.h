/* Several tokens' outputs from the roots of all trees: a matrix product whose every element is a fused chain over the
 * trees.
 *
 * Four tokens by four registers of columns at a time: 16 accumulators, 4 registers of a row and the activation, so 8
 * loads for 16 FMAs. The rows come from L2, once for four tokens. */
#ifndef FFF_KERNELS_ARM_NEON_ADD_ROOTS_H
#define FFF_KERNELS_ARM_NEON_ADD_ROOTS_H

#include "kernels/add_roots.h"
#include "kernels/arm_neon/isa.h"
#include "kernels/arm_neon/row.h"

#include <string.h>

enum { ROOT_TOKENS = 4, ROOT_VECTORS = 4 };

/* As sum_tile(), for whole registers; output[t] is where the first of these columns is. */
FFF_INLINE void whole_sum_tile(const struct fff_trees *trees, const float *const *factors, unsigned write,
                               float *const *output, size_t column, int vectors) {
    float32x4_t sums[ROOT_TOKENS][ROOT_VECTORS];
    FFF_UNROLL
    for (int t = 0; t < ROOT_TOKENS; t++) {
        FFF_UNROLL
        for (int v = 0; v < vectors; v++) {
            sums[t][v] = (write & FFF_WRITE_CONTINUE) != 0 ? vld1q_f32(output[t] + 4 * v) : vdupq_n_f32(0.0f);
        }
    }
    const unsigned char *weights = trees->output_rows + row_offset(column);
    int half = row_half(column);
    for (size_t tree = 0; tree < trees->tree_count; tree++, weights += trees->output_row_stride) {
        float32x4_t row[ROOT_VECTORS];
        FFF_UNROLL
        for (int v = 0; v < vectors; v++) {
            row[v] = load_output_row(weights, column, trees->output_width, v, vectors, half);
        }
        FFF_UNROLL
        for (int t = 0; t < ROOT_TOKENS; t++) {
            float32x4_t factor = vld1q_dup_f32(factors[t] + tree);
            FFF_UNROLL
            for (int v = 0; v < vectors; v++) {
                sums[t][v] = vfmaq_f32(sums[t][v], factor, row[v]);
            }
        }
    }
    FFF_UNROLL
    for (int t = 0; t < ROOT_TOKENS; t++) {
        FFF_UNROLL
        for (int v = 0; v < vectors; v++) {
            vst1q_f32(output[t] + 4 * v, sums[t][v]);
        }
    }
}

FFF_INLINE void sum_tile(const struct fff_trees *trees, const float *const *factors, unsigned write,
                         float *const *output, size_t column, int vectors) {
    size_t left = trees->output_width - column;
    float last[ROOT_TOKENS][4] = {{0}}; /* the last columns, fewer than a register, go through the stack */
    float *to[ROOT_TOKENS];
    FFF_UNROLL
    for (int t = 0; t < ROOT_TOKENS; t++) {
        to[t] = left < 4 ? last[t] : output[t] + column;
        if (left < 4 && (write & FFF_WRITE_CONTINUE) != 0) {
            memcpy(last[t], output[t] + column, left * sizeof(float));
        }
    }
    whole_sum_tile(trees, factors, write, to, column, vectors);
    for (int t = 0; t < ROOT_TOKENS && left < 4; t++) {
        memcpy(output[t] + column, last[t], left * sizeof(float));
    }
}

static void KERNEL(add_roots)(const struct fff_trees *trees, size_t count, const uint32_t *tokens, const float *factors,
                              size_t factor_stride, unsigned write, float *output, size_t output_stride) {
    const struct fff_sum_tile tile = {ROOT_TOKENS, 4, ROOT_VECTORS};
    add_roots_by_tiles(trees, count, tokens, factors, factor_stride, write, output, output_stride, tile);
}

#endif
