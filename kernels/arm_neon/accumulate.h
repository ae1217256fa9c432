/* Several tokens' outputs, in blocks of 16 registers (64 columns) that stay in registers over all of a token's
 * rows: one load an FMA, output written once. Eight chains would cover the FMA's latency on most
 * cores; with 32 registers sixteen are free, and halve the passes over the path. */
#ifndef FFF_KERNELS_ARM_NEON_ACCUMULATE_H
#define FFF_KERNELS_ARM_NEON_ACCUMULATE_H

#include "kernels/accumulate.h"
#include "kernels/arm_neon/integer_sums.h"
#include "kernels/arm_neon/isa.h"
#include "kernels/arm_neon/row.h"

#include <string.h>

enum { BLOCK = 16 };

/* One token's columns. */
FFF_INLINE void columns(const struct fff_trees *trees, int tokens, const uint32_t *nodes, const float *factors,
                        unsigned write, float *const *outputs, size_t column, int vectors) {
    (void)tokens;
    float *output = outputs[0];
    float32x4_t sums[BLOCK];
    float last[4] = {0}; /* an incomplete register's columns */
    size_t left = trees->output_width - column;
    bool whole = left >= 4;
    float *to = output + column;
    if (!whole) {
        if ((write & FFF_WRITE_CONTINUE) != 0) {
            memcpy(last, to, left * sizeof(float));
        }
        to = last;
    }
    FFF_UNROLL
    for (int v = 0; v < vectors; v++) {
        sums[v] = (write & FFF_WRITE_CONTINUE) != 0 ? vld1q_f32(to + 4 * v) : vdupq_n_f32(0.0f);
    }
    const unsigned char *tree_rows = trees->output_rows + row_offset(column);
    int half = vectors > 1 ? 0 : row_half(column);
    for (size_t tree = 0; tree < trees->tree_count; tree++, tree_rows += trees->node_count * trees->output_row_stride) {
        for (size_t level = 0; level < trees->level_count; level++, nodes++, factors++) {
            const unsigned char *weights = tree_rows + *nodes * trees->output_row_stride;
            FFF_OPAQUE(weights);
            float32x4_t factor = vdupq_n_f32(*factors);
            FFF_UNROLL
            for (int v = 0; v < vectors; v++) {
                float32x4_t row = load_output_row(weights, column, trees->output_width, v, vectors, half);
                sums[v] = vfmaq_f32(sums[v], factor, row);
            }
        }
    }
    FFF_UNROLL
    for (int v = 0; v < vectors; v++) {
        vst1q_f32(to + 4 * v, sums[v]);
    }
    if (!whole) {
        memcpy(output + column, last, left * sizeof(float));
    }
}

static void KERNEL(accumulate)(const struct fff_trees *trees, size_t count, const uint32_t *tokens,
                               const uint32_t *nodes, const float *factors, unsigned write, float *output,
                               size_t output_stride) {
    if (ROW_TYPE == FFF_WEIGHT_I8 && fff_has_integer_sums(trees->level_count)) {
        fff_sum_integers(trees, count, tokens, nodes, factors, write, output, output_stride, INTEGER_STEPS);
        return;
    }
    fff_accumulate_one_by_one(trees, count, tokens, nodes, factors, write, output, output_stride, 4, BLOCK);
}

#endif
