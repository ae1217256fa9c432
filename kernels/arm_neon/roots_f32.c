/* Several tokens against the roots of all trees: a matrix product whose every element is a dot product of
 * FFF_PARTIAL_SUMS partial sums.
 *
 * Three rows by four tokens at a time, in eight passes over the widths, each for four of the partial sums: 7 loads
 * for 12 FMAs, whose 12 chains cover their latency. Eight tokens' inputs stay in L1 while all rows pass by. */
#include "kernels/arm_neon/dot_f32.h"
#include "kernels/arm_neon/isa.h"

enum { ROWS = 3, TOKENS = 4, TOKENS_IN_L1 = 8 };

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

void fff_roots_f32_arm_neon(const struct fff_trees_f32 *trees, size_t count, const float *inputs, size_t input_stride,
                            float *logits, size_t logit_stride) {
    for (size_t first = 0; first < count; first += TOKENS_IN_L1) {
        size_t end = count - first < TOKENS_IN_L1 ? count : first + TOKENS_IN_L1;
        for (size_t tree = 0; tree < trees->trees; tree += ROWS) {
            size_t rows = trees->trees - tree < ROWS ? trees->trees - tree : ROWS;
            const float *weights[ROWS];
            for (size_t r = 0; r < ROWS; r++) { /* where there are fewer, the last is used again */
                size_t row = (tree + (r < rows ? r : rows - 1)) * trees->nodes;
                weights[r] = trees->input_rows + row * trees->row_stride;
            }
            for (size_t token = first; token < end; token += TOKENS) {
                size_t tokens = end - token < TOKENS ? end - token : TOKENS;
                const float *input[TOKENS], *tail[TOKENS];
                float padded[TOKENS][FFF_PARTIAL_SUMS];
                for (size_t t = 0; t < TOKENS; t++) {
                    input[t] = inputs + (token + (t < tokens ? t : tokens - 1)) * input_stride;
                    tail[t] = padded[t];
                    if (trees->input_width % FFF_PARTIAL_SUMS != 0) {
                        fff_pad_tail(input[t], trees->input_width, padded[t]);
                    }
                }
                sums_arm_neon sums[ROWS][TOKENS];
                for (int v = 0; v < DOT_VECTORS_ARM_NEON; v++) {
                    pass_arm_neon(weights, input, tail, trees->input_width, v, sums);
                }
                for (size_t r = 0; r < rows; r++) {
                    float bias = trees->biases[(tree + r) * trees->nodes];
                    for (size_t t = 0; t < tokens; t++) {
                        logits[(token + t) * logit_stride + (tree + r) * trees->levels] =
                            halve_to_1_arm_neon(sums[r][t]) + bias;
                    }
                }
            }
        }
    }
}
