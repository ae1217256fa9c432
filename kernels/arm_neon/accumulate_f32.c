/* Several tokens' outputs, in blocks of 16 registers (64 columns) that stay in registers over all of a token's
 * rows: one load an FMA, output written once. Eight chains would cover the FMA's latency on most
 * cores; with 32 registers sixteen are free, and halve the passes over the path. */
#include "kernels/accumulate_f32.h"
#include "kernels/arm_neon/isa.h"

#include <string.h>

enum { BLOCK = 16 };

/* One token's columns. */
FFF_INLINE void columns_arm_neon(const struct fff_trees_f32 *trees, int tokens, const uint32_t *nodes,
                                 const float *activations, unsigned write, float *const *outputs, size_t column,
                                 int vectors) {
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
    const float *tree_rows = trees->output_rows + column;
    for (size_t tree = 0; tree < trees->tree_count; tree++, tree_rows += trees->node_count * trees->row_stride) {
        for (size_t level = 0; level < trees->level_count; level++, nodes++, activations++) {
            const float *weights = tree_rows + *nodes * trees->row_stride;
            FFF_OPAQUE(weights);
            float32x4_t activation = vdupq_n_f32(*activations);
            FFF_UNROLL
            for (int v = 0; v < vectors; v++) {
                /* the last one is loaded whole, too: what is beyond the row is not stored */
                sums[v] = vfmaq_f32(sums[v], activation, vld1q_f32(weights + 4 * v));
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

void fff_accumulate_f32_arm_neon(const struct fff_trees_f32 *trees, size_t count, const uint32_t *tokens,
                                 const uint32_t *nodes, const float *activations, unsigned write, float *output,
                                 size_t output_stride) {
    fff_accumulate_one_by_one(trees, count, tokens, nodes, activations, write, output, output_stride, 4, BLOCK,
                              columns_arm_neon);
}
