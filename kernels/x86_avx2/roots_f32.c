/* Several tokens against the roots of all trees: a matrix product whose every element is a dot product of
 * FFF_PARTIAL_SUMS partial sums.
 *
 * Three rows by four tokens at a time, in four passes over the widths, each for eight of the partial sums: 12
 * accumulators, 3 registers of rows and one of an input, all 16. A pass takes 7 loads for 12 FMAs, so a core with two
 * of each a cycle is bound by FMAs. Eight tokens' inputs stay in L1 while all rows pass by. */
#include "kernels/x86_avx2/dot_f32.h"
#include "kernels/x86_avx2/isa.h"

enum { ROWS = 3, TOKENS = 4, TOKENS_IN_L1 = 8 };

/* Partial sums 8v to 8v + 7 of every row with every token. */
static inline __attribute__((always_inline)) void pass_x86_avx2(const float *const weights[ROWS],
                                                                const float *const input[TOKENS],
                                                                const float *const tail[TOKENS], size_t width, int v,
                                                                sums_x86_avx2 sums[ROWS][TOKENS]) {
    __m256 part[ROWS][TOKENS];
    for (int r = 0; r < ROWS; r++) {
        for (int t = 0; t < TOKENS; t++) {
            part[r][t] = _mm256_setzero_ps();
        }
    }
    size_t i = 0, whole = width / FFF_PARTIAL_SUMS * FFF_PARTIAL_SUMS;
    for (; i < width; i += FFF_PARTIAL_SUMS) {
        __m256 row[ROWS];
        for (int r = 0; r < ROWS; r++) {
            row[r] = _mm256_load_ps(weights[r] + i + 8 * v);
        }
        for (int t = 0; t < TOKENS; t++) {
            __m256 x = _mm256_loadu_ps((i < whole ? input[t] + i : tail[t]) + 8 * v);
            for (int r = 0; r < ROWS; r++) {
                part[r][t] = _mm256_fmadd_ps(x, row[r], part[r][t]);
            }
        }
    }
    for (int r = 0; r < ROWS; r++) {
        for (int t = 0; t < TOKENS; t++) {
            sums[r][t].part[v] = part[r][t];
        }
    }
}

void fff_roots_f32_x86_avx2(const struct fff_trees_f32 *trees, size_t count, const float *inputs, size_t input_stride,
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
                sums_x86_avx2 sums[ROWS][TOKENS];
                for (int v = 0; v < DOT_VECTORS_X86_AVX2; v++) {
                    pass_x86_avx2(weights, input, tail, trees->input_width, v, sums);
                }
                for (size_t r = 0; r < rows; r++) {
                    float bias = trees->biases[(tree + r) * trees->nodes];
                    for (size_t t = 0; t < tokens; t++) {
                        logits[(token + t) * logit_stride + (tree + r) * trees->levels] =
                            halve_to_1_x86_avx2(sums[r][t]) + bias;
                    }
                }
            }
        }
    }
}
