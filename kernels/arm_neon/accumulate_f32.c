/* One token's output, in blocks of 16 registers (64 columns) that stay in registers over all visited
 * rows: one load an FMA, output written once. Eight chains would cover the FMA's latency on most
 * cores; with 32 registers sixteen are free, and halve the passes over the path. */
#include "kernels/arm_neon/isa.h"

#include <string.h>

enum { BLOCK = 16 };

/* `vectors` registers of output columns from `column` on, written to `output`. */
static inline __attribute__((always_inline)) void columns_arm_neon(const struct fff_trees_f32 *trees,
                                                                   const uint32_t *nodes, const float *activations,
                                                                   unsigned how, size_t column, int vectors,
                                                                   float *output) {
    float32x4_t sums[BLOCK];
    for (int v = 0; v < vectors; v++) {
        sums[v] = (how & FFF_CONTINUE) != 0 ? vld1q_f32(output + 4 * v) : vdupq_n_f32(0.0f);
    }
    for (size_t tree = 0; tree < trees->trees; tree++) {
        const float *tree_rows = trees->output_rows + tree * trees->nodes * trees->row_stride + column;
        for (size_t level = 0; level < trees->levels; level++) {
            size_t entry = tree * trees->levels + level;
            const float *weights = tree_rows + nodes[entry] * trees->row_stride;
            float32x4_t activation = vdupq_n_f32(activations[entry]);
            for (int v = 0; v < vectors; v++) {
                /* a row is padded to whole vectors, so its last one is loaded whole */
                sums[v] = vfmaq_f32(sums[v], activation, vld1q_f32(weights + 4 * v));
            }
        }
    }
    for (int v = 0; v < vectors; v++) {
        vst1q_f32(output + 4 * v, sums[v]);
    }
}

void fff_accumulate_f32_arm_neon(const struct fff_trees_f32 *trees, const uint32_t *nodes, const float *activations,
                                 unsigned how, float *output) {
    size_t width = trees->output_width;
    size_t column = 0;
    for (; column + 4 * BLOCK <= width; column += 4 * BLOCK) {
        columns_arm_neon(trees, nodes, activations, how, column, BLOCK, output + column);
    }
    for (; column + 4 <= width; column += 4) {
        columns_arm_neon(trees, nodes, activations, how, column, 1, output + column);
    }
    if (column < width) {
        float last[4] = {0};
        if ((how & FFF_CONTINUE) != 0) {
            memcpy(last, output + column, (width - column) * sizeof(float));
        }
        columns_arm_neon(trees, nodes, activations, how, column, 1, last);
        memcpy(output + column, last, (width - column) * sizeof(float));
    }
}
