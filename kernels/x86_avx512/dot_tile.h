/* Dot products of three rows with four tokens: 24 accumulators, 6 registers of rows and 2 of an input, all 32. A step
 * is 14 loads for 24 FMAs, so a core with two of each a cycle is bound by FMAs. */
#ifndef FFF_KERNELS_X86_AVX512_DOT_TILE_H
#define FFF_KERNELS_X86_AVX512_DOT_TILE_H

#include "kernels/dot_tile.h"
#include "kernels/x86_avx512/dot.h"
#include "kernels/x86_avx512/isa.h"

/* One step of all: the weights and inputs of the masks from `offset` on. */
FFF_INLINE void tile_step_x86_avx512(const unsigned char *const weights[FFF_DOT_TILE_ROWS],
                                     const float *const input[FFF_DOT_TILE_TOKENS], size_t offset, bool last,
                                     __mmask16 low_mask, __mmask16 high_mask,
                                     sums_x86_avx512 sums[FFF_DOT_TILE_ROWS][FFF_DOT_TILE_TOKENS]) {
    __m512 low[FFF_DOT_TILE_ROWS], high[FFF_DOT_TILE_ROWS];
    FFF_UNROLL
    for (int r = 0; r < FFF_DOT_TILE_ROWS; r++) {
        const unsigned char *at = weights[r] + row_offset(offset);
        low[r] = last ? load_last_row(low_mask, at, 0, 0) : load_row(at, 0, 0);
        high[r] = last ? load_last_row(high_mask, at, 1, 0) : load_row(at, 1, 0);
    }
    FFF_UNROLL
    for (int t = 0; t < FFF_DOT_TILE_TOKENS; t++) {
        __m512 x_low = _mm512_maskz_loadu_ps(low_mask, input[t] + offset);
        __m512 x_high = _mm512_maskz_loadu_ps(high_mask, input[t] + offset + 16);
        /* Or the compiler loads them once for each row, and loads are what bounds it. */
        __asm__("" : "+v"(x_low), "+v"(x_high));
        FFF_UNROLL
        for (int r = 0; r < FFF_DOT_TILE_ROWS; r++) {
            sums[r][t].low = _mm512_fmadd_ps(x_low, low[r], sums[r][t].low);
            sums[r][t].high = _mm512_fmadd_ps(x_high, high[r], sums[r][t].high);
        }
    }
}

/* The next step of the halving tree for two rows, a and b, in each 128 bits. */
static inline __m512 halve_4_to_2_x86_avx512(__m512 a, __m512 b) {
    return _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)); /* a02 b02 a13 b13 */
}

FFF_INLINE void dot_tile(const struct fff_trees *trees, const size_t rows[FFF_DOT_TILE_ROWS],
                         const void *const tokens[FFF_DOT_TILE_TOKENS], const void *const *ahead,
                         float logits[FFF_DOT_TILE_ROWS][FFF_DOT_TILE_TOKENS]) {
    size_t width = trees->input_width;
    const unsigned char *weights[FFF_DOT_TILE_ROWS];
    const float *input[FFF_DOT_TILE_TOKENS];
    FFF_UNROLL
    for (int r = 0; r < FFF_DOT_TILE_ROWS; r++) {
        weights[r] = trees->input_rows + rows[r] * trees->row_stride;
    }
    FFF_UNROLL
    for (int t = 0; t < FFF_DOT_TILE_TOKENS; t++) {
        input[t] = tokens[t];
    }
    sums_x86_avx512 sums[FFF_DOT_TILE_ROWS][FFF_DOT_TILE_TOKENS];
    FFF_UNROLL
    for (int r = 0; r < FFF_DOT_TILE_ROWS; r++) {
        FFF_UNROLL
        for (int t = 0; t < FFF_DOT_TILE_TOKENS; t++) {
            sums[r][t].low = sums[r][t].high = _mm512_setzero_ps();
        }
    }
    size_t i = 0;
    for (; i + FFF_PARTIAL_SUMS <= width; i += FFF_PARTIAL_SUMS) {
        if (ahead != NULL) {
            FFF_UNROLL
            for (int t = 0; t < FFF_DOT_TILE_TOKENS; t++) {
                __builtin_prefetch((const float *)ahead[t] + i, 0, 2);
                __builtin_prefetch((const float *)ahead[t] + i + FFF_LINE_FLOATS, 0, 2);
            }
        }
        tile_step_x86_avx512(weights, input, i, false, 0xffff, 0xffff, sums);
    }
    if (i < width) {
        tile_step_x86_avx512(weights, input, i, true, mask_below_x86_avx512(i, width),
                             mask_below_x86_avx512(i + 16, width), sums);
    }
    __m512 four[FFF_DOT_TILE_ROWS];
    FFF_UNROLL
    for (int r = 0; r < FFF_DOT_TILE_ROWS; r++) {
        four[r] = halve_four_32_to_4_x86_avx512(sums[r]);
    }
    /* Then in each 128 bits, that is for each token: rXY is row r's sum X plus its sum Y. */
    __m512 two_01 = halve_4_to_2_x86_avx512(four[0], four[1]); /* 002 102 013 113 */
    __m512 two_2 = halve_4_to_2_x86_avx512(four[2], four[2]);  /* 202 202 213 213 */
    __m512 one = _mm512_add_ps(_mm512_shuffle_ps(two_01, two_2, _MM_SHUFFLE(1, 0, 1, 0)),
                               _mm512_shuffle_ps(two_01, two_2, _MM_SHUFFLE(3, 2, 3, 2)));
    __m512i by_row = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _Static_assert(FFF_DOT_TILE_ROWS == 3 && FFF_DOT_TILE_TOKENS == 4, "the order of the dot products");
    const float *biases = trees->biases;
    __m512 bias = _mm512_setr_ps(biases[rows[0]], biases[rows[0]], biases[rows[0]], biases[rows[0]], biases[rows[1]],
                                 biases[rows[1]], biases[rows[1]], biases[rows[1]], biases[rows[2]], biases[rows[2]],
                                 biases[rows[2]], biases[rows[2]], 0.0f, 0.0f, 0.0f, 0.0f);
    _mm512_mask_storeu_ps(logits, 0x0fff, _mm512_add_ps(_mm512_permutexvar_ps(by_row, one), bias));
}

#endif
