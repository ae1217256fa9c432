#ifndef FFF_KERNELS_X86_AVX2_DOT_H
#define FFF_KERNELS_X86_AVX2_DOT_H

#include "kernels/x86_avx2/isa.h"
#include "kernels/x86_ymm_row.h"

/* The 32 partial sums of one token are four ymm registers: register v holds sums 8v to 8v + 7. */
enum { DOT_VECTORS_X86_AVX2 = FFF_PARTIAL_SUMS / 8 };

typedef struct sums_x86_avx2 {
    __m256 part[DOT_VECTORS_X86_AVX2];
} sums_x86_avx2;

/* Weights 8v to 8v + 7 of a row's last step, that from `column` on; zeros beyond its width. */
FFF_INLINE __m256 last_weights_x86_avx2(const unsigned char *row, size_t column, size_t width, int v) {
    if (ROW_READS_EXACTLY) {
        return load_row_below_x86_avx2(row, column + 8 * (size_t)v, width);
    }
    const unsigned char *at = row + row_offset(column);
    __m256i lane =
        _mm256_setr_epi32(8 * v, 8 * v + 1, 8 * v + 2, 8 * v + 3, 8 * v + 4, 8 * v + 5, 8 * v + 6, 8 * v + 7);
    __m256i there = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)(width - column)), lane);
    return _mm256_and_ps(load_row_of_8(at, v, 0), _mm256_castsi256_ps(there));
}

/* One step: FFF_PARTIAL_SUMS weights of a row from `column` on against as many inputs of each token, from `offset` on.
 * In the last, fewer, and inputs that are zeros beyond. */
FFF_INLINE void step_x86_avx2(int tokens, const unsigned char *row, size_t column, bool last, size_t width,
                              const float *const *input, size_t offset, sums_x86_avx2 *sums) {
    const unsigned char *at = row + row_offset(column);
    FFF_UNROLL
    for (int v = 0; v < DOT_VECTORS_X86_AVX2; v++) {
        __m256 w = !last ? load_row_of_8(at, v, 0) : last_weights_x86_avx2(row, column, width, v);
        if (tokens > 1) {
            __asm__("" : "+x"(w)); /* or gcc loads it once for each token */
        }
        FFF_UNROLL
        for (int t = 0; t < tokens; t++) {
            sums[t].part[v] = _mm256_fmadd_ps(_mm256_loadu_ps(input[t] + offset + 8 * v), w, sums[t].part[v]);
        }
    }
}

/* The first steps of the halving tree, by whole registers: 32 sums to 16, to 8. */
static inline __m256 halve_32_to_8_x86_avx2(const sums_x86_avx2 *sums) {
    return _mm256_add_ps(_mm256_add_ps(sums->part[0], sums->part[2]), _mm256_add_ps(sums->part[1], sums->part[3]));
}

/* The whole of it: then to 4, 2, 1 by halves of one register. */
static inline float halve_to_1_x86_avx2(const sums_x86_avx2 *sums) {
    __m256 eight = halve_32_to_8_x86_avx2(sums);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/* The logits of `tokens` (1 or 2) tokens against one row, into logits[0..tokens-1]; unrolled for each
 * number at compile time. tail[t] is fff_pad_tail() of input[t].
 *
 * Two tokens are 8 accumulators and a register of the row, of 16; the row's loads are shared, so a
 * step is 4 row loads and 8 FMAs with folded loads instead of 8 and 8. Three tokens would fit, too,
 * but groups of three leave more odd tokens than they save loads. */
FFF_INLINE void token_logits(const struct fff_trees *trees, size_t row, int tokens, const float *const *input,
                             const float *const *tail, float *logits) {
    const unsigned char *weights = trees->input_rows + row * trees->row_stride;
    size_t width = trees->input_width;
    sums_x86_avx2 sums[2];
    FFF_UNROLL
    for (int t = 0; t < tokens; t++) {
        FFF_UNROLL
        for (int v = 0; v < DOT_VECTORS_X86_AVX2; v++) {
            sums[t].part[v] = _mm256_setzero_ps();
        }
    }
    size_t i = 0;
    for (; i + 2 * FFF_PARTIAL_SUMS <= width; i += 2 * FFF_PARTIAL_SUMS) {
        size_t next = i + FFF_PARTIAL_SUMS;
        step_x86_avx2(tokens, weights, i, false, width, input, i, sums);
        step_x86_avx2(tokens, weights, next, false, width, input, next, sums);
    }
    for (; i + FFF_PARTIAL_SUMS <= width; i += FFF_PARTIAL_SUMS) {
        step_x86_avx2(tokens, weights, i, false, width, input, i, sums);
    }
    if (i < width) {
        step_x86_avx2(tokens, weights, i, true, width, tail, 0, sums);
    }
    FFF_UNROLL
    for (int t = 0; t < tokens; t++) {
        logits[t] = halve_to_1_x86_avx2(&sums[t]) + trees->biases[row];
    }
}

/* The logit of one row for one token. */
FFF_INLINE float row_logit(const struct fff_trees *trees, size_t row, const void *token, const float *tail) {
    const float *input = token;
    float logit;
    token_logits(trees, row, 1, &input, &tail, &logit);
    return logit;
}

#endif
