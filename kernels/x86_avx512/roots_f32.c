/* Several tokens against the roots of all trees: a matrix product whose every element is a dot product of
 * FFF_PARTIAL_SUMS partial sums.
 *
 * Three rows by four tokens at a time: 24 accumulators, 6 registers of rows and 2 of an input, all 32. A step is 14
 * loads for 24 FMAs, so a core with two of each a cycle is bound by FMAs. */
#include "kernels/roots_f32.h"
#include "kernels/x86_avx512/dot_f32.h"
#include "kernels/x86_avx512/isa.h"

enum { ROWS = FFF_TILE_ROWS, TOKENS = FFF_TILE_TOKENS };

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

static inline __attribute__((always_inline)) void tile_x86_avx512(const float *const weights[ROWS],
                                                                  const float *const input[TOKENS], size_t width,
                                                                  float dots[ROWS][TOKENS]) {
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
        _mm_storeu_ps(dots[r], halve_four_to_1_x86_avx512(
                                   halve_32_to_4_x86_avx512(sums[r][0]), halve_32_to_4_x86_avx512(sums[r][1]),
                                   halve_32_to_4_x86_avx512(sums[r][2]), halve_32_to_4_x86_avx512(sums[r][3])));
    }
}

void fff_roots_f32_x86_avx512(const struct fff_trees_f32 *trees, size_t count, const float *inputs, size_t input_stride,
                              float *logits, size_t logit_stride) {
    fff_roots(trees, count, inputs, input_stride, logits, logit_stride, tile_x86_avx512);
}
