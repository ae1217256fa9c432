/* Several tokens' outputs from the roots of all trees: a matrix product whose every element is a fused chain over the
 * trees.
 *
 * Four tokens by four registers of columns at a time: 16 accumulators, 4 registers of a row and the activation, so 8
 * loads for 16 FMAs. The rows come from L2, once for four tokens. */
#include "kernels/arm_neon/isa.h"

#include <string.h>

enum { TOKENS = 4, VECTORS = 4 };

/* The outputs of TOKENS tokens, `vectors` registers of the columns from `column` on;
 * output[t] is where the first of these columns is. */
static inline __attribute__((always_inline)) void tile_arm_neon(const struct fff_trees_f32 *trees,
                                                                const float *const activations[TOKENS], unsigned how,
                                                                float *const output[TOKENS], size_t column,
                                                                int vectors) {
    float32x4_t sums[TOKENS][VECTORS];
    for (int t = 0; t < TOKENS; t++) {
        for (int v = 0; v < vectors; v++) {
            sums[t][v] = (how & FFF_CONTINUE) != 0 ? vld1q_f32(output[t] + 4 * v) : vdupq_n_f32(0.0f);
        }
    }
    const float *weights = trees->output_rows + column;
    for (size_t tree = 0; tree < trees->trees; tree++, weights += trees->row_stride) {
        float32x4_t row[VECTORS];
        for (int v = 0; v < vectors; v++) {
            row[v] = vld1q_f32(weights + 4 * v);
        }
        for (int t = 0; t < TOKENS; t++) {
            float32x4_t activation = vld1q_dup_f32(activations[t] + tree);
            for (int v = 0; v < vectors; v++) {
                sums[t][v] = vfmaq_f32(sums[t][v], activation, row[v]);
            }
        }
    }
    for (int t = 0; t < TOKENS; t++) {
        for (int v = 0; v < vectors; v++) {
            vst1q_f32(output[t] + 4 * v, sums[t][v]);
        }
    }
}

/* The last columns, fewer than a register. */
static void last_columns_arm_neon(const struct fff_trees_f32 *trees, const float *const activations[TOKENS],
                                  unsigned how, float *const output[TOKENS], size_t column) {
    float last[TOKENS][4] = {{0}};
    float *to[TOKENS];
    size_t bytes = (trees->output_width - column) * sizeof(float);
    for (int t = 0; t < TOKENS; t++) {
        to[t] = last[t];
        if ((how & FFF_CONTINUE) != 0) {
            memcpy(last[t], output[t], bytes);
        }
    }
    tile_arm_neon(trees, activations, how, to, column, 1);
    for (size_t t = 0; t < TOKENS; t++) {
        memcpy(output[t], last[t], bytes);
    }
}

void fff_add_roots_f32_arm_neon(const struct fff_trees_f32 *trees, size_t count, const float *activations,
                                size_t activation_stride, unsigned how, float *output, size_t output_stride) {
    size_t width = trees->output_width;
    for (size_t first = 0; first < count; first += TOKENS) {
        size_t tokens = count - first < TOKENS ? count - first : TOKENS;
        const float *of_token[TOKENS];
        for (size_t t = 0; t < TOKENS; t++) { /* where there are fewer, the last is computed again */
            of_token[t] = activations + (first + (t < tokens ? t : tokens - 1)) * activation_stride;
        }
        for (size_t column = 0, columns; column < width; column += columns) {
            float *to[TOKENS];
            for (size_t t = 0; t < TOKENS; t++) {
                to[t] = output + (first + (t < tokens ? t : tokens - 1)) * output_stride + column;
            }
            size_t left = width - column;
            columns = left >= 4 * VECTORS ? 4 * VECTORS : left >= 4 ? 4 : left;
            if (left >= 4 * VECTORS) {
                tile_arm_neon(trees, of_token, how, to, column, VECTORS);
            } else if (left >= 4) {
                tile_arm_neon(trees, of_token, how, to, column, 1);
            } else {
                last_columns_arm_neon(trees, of_token, how, to, column);
            }
        }
    }
}
