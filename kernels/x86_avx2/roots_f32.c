/* Several tokens against the roots of all trees: a matrix product whose every element is a dot product of
 * FFF_PARTIAL_SUMS partial sums.
 *
 * Three rows by four tokens at a time, in four passes over the widths, each for eight of the partial sums: 12
 * accumulators, 3 registers of rows and one of an input, all 16. A pass takes 7 loads for 12 FMAs, so a core with two
 * of each a cycle is bound by FMAs. */
#include "kernels/roots_f32.h"
#include "kernels/x86_avx2/dot_f32.h"
#include "kernels/x86_avx2/isa.h"

enum { ROWS = FFF_TILE_ROWS, TOKENS = FFF_TILE_TOKENS };

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

static inline __attribute__((always_inline)) void tile_x86_avx2(const float *const weights[ROWS],
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
    sums_x86_avx2 sums[ROWS][TOKENS];
    for (int v = 0; v < DOT_VECTORS_X86_AVX2; v++) {
        pass_x86_avx2(weights, input, tail, width, v, sums);
    }
    for (int r = 0; r < ROWS; r++) {
        for (int t = 0; t < TOKENS; t++) {
            dots[r][t] = halve_to_1_x86_avx2(sums[r][t]);
        }
    }
}

void fff_roots_f32_x86_avx2(const struct fff_trees_f32 *trees, size_t count, const float *inputs, size_t input_stride,
                            float *logits, size_t logit_stride) {
    fff_roots(trees, count, inputs, input_stride, logits, logit_stride, tile_x86_avx2);
}
