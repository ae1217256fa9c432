/* Several tokens against the roots of all trees: a matrix product whose every element is a dot product of
 * FFF_PARTIAL_SUMS partial sums.
 *
 * Three rows by four tokens at a time: 24 accumulators, 6 registers of rows and 2 of an input, all 32. A step is 14
 * loads for 24 FMAs, so a core with two of each a cycle is bound by FMAs. Eight tokens' inputs stay in L1 while all
 * rows pass by: each row is fetched from L2 for two such tiles, half as many bytes as the core can fetch. */
#include "kernels/x86_avx512/dot_f32.h"
#include "kernels/x86_avx512/isa.h"

enum { ROWS = 3, TOKENS = 4, TOKENS_IN_L1 = 8 };

/* One step of all: the weights and inputs of those lanes from `offset` on. */
static inline __attribute__((always_inline)) void tile_step_x86_avx512(const float *const weights[ROWS],
                                                                       const float *const input[TOKENS], size_t offset,
                                                                       __mmask16 low_lanes, __mmask16 high_lanes,
                                                                       sums_x86_avx512 sums[ROWS][TOKENS]) {
    __m512 low[ROWS], high[ROWS];
    for (int r = 0; r < ROWS; r++) {
        low[r] = _mm512_load_ps(weights[r] + offset);
        high[r] = _mm512_load_ps(weights[r] + offset + 16);
    }
    for (int t = 0; t < TOKENS; t++) {
        __m512 x_low = _mm512_maskz_loadu_ps(low_lanes, input[t] + offset);
        __m512 x_high = _mm512_maskz_loadu_ps(high_lanes, input[t] + offset + 16);
        /* Or the compiler loads them once for each row, and loads are what bounds it. */
        __asm__("" : "+v"(x_low), "+v"(x_high));
        for (int r = 0; r < ROWS; r++) {
            sums[r][t].low = _mm512_fmadd_ps(x_low, low[r], sums[r][t].low);
            sums[r][t].high = _mm512_fmadd_ps(x_high, high[r], sums[r][t].high);
        }
    }
}

/* dots[r] holds the dot products of row r with the four tokens. */
static inline __attribute__((always_inline)) void
tile_x86_avx512(const float *const weights[ROWS], const float *const input[TOKENS], size_t width, __m128 dots[ROWS]) {
    sums_x86_avx512 sums[ROWS][TOKENS];
    for (int r = 0; r < ROWS; r++) {
        for (int t = 0; t < TOKENS; t++) {
            sums[r][t].low = sums[r][t].high = _mm512_setzero_ps();
        }
    }
    size_t i = 0;
    for (; i + FFF_PARTIAL_SUMS <= width; i += FFF_PARTIAL_SUMS) {
        tile_step_x86_avx512(weights, input, i, 0xffff, 0xffff, sums);
    }
    if (i < width) {
        tile_step_x86_avx512(weights, input, i, lanes_below_x86_avx512(i, width), lanes_below_x86_avx512(i + 16, width),
                             sums);
    }
    for (int r = 0; r < ROWS; r++) {
        dots[r] =
            halve_four_to_1_x86_avx512(halve_32_to_4_x86_avx512(sums[r][0]), halve_32_to_4_x86_avx512(sums[r][1]),
                                       halve_32_to_4_x86_avx512(sums[r][2]), halve_32_to_4_x86_avx512(sums[r][3]));
    }
}

void fff_roots_f32_x86_avx512(const struct fff_trees_f32 *trees, size_t count, const float *inputs, size_t input_stride,
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
                const float *input[TOKENS];
                for (size_t t = 0; t < TOKENS; t++) {
                    input[t] = inputs + (token + (t < tokens ? t : tokens - 1)) * input_stride;
                }
                __m128 dots[ROWS];
                tile_x86_avx512(weights, input, trees->input_width, dots);
                for (size_t r = 0; r < rows; r++) {
                    float four[TOKENS];
                    _mm_storeu_ps(four, _mm_add_ps(dots[r], _mm_set1_ps(trees->biases[(tree + r) * trees->nodes])));
                    for (size_t t = 0; t < tokens; t++) {
                        logits[(token + t) * logit_stride + (tree + r) * trees->levels] = four[t];
                    }
                }
            }
        }
    }
}
