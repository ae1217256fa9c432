#ifndef FFF_KERNELS_X86_AVX2_DOT_F32_H
#define FFF_KERNELS_X86_AVX2_DOT_F32_H

#include "kernels/x86_avx2/isa.h"

/* The 32 partial sums of one token are four ymm registers: register v holds sums 8v to 8v + 7. */
enum { DOT_VECTORS_X86_AVX2 = FFF_PARTIAL_SUMS / 8 };

typedef struct sums_x86_avx2 {
    __m256 part[DOT_VECTORS_X86_AVX2];
} sums_x86_avx2;

/* The halving tree's first steps, which pair whole registers: 32 sums to 16, to 8, to 4. */
static inline __m128 halve_to_4_x86_avx2(sums_x86_avx2 sums) {
    __m256 eight = _mm256_add_ps(_mm256_add_ps(sums.part[0], sums.part[2]), _mm256_add_ps(sums.part[1], sums.part[3]));
    return _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
}

/* The logits of `tokens` (1 or 2) tokens against one row, into logits[0..tokens-1]; unrolled for each
 * number at compile time. Two tokens are 8 accumulators and a register of the row, of 16; the row's
 * loads are shared, so a step is 4 row loads and 8 FMAs with folded loads instead of 8 and 8. Three
 * tokens would fit, too, but groups of three leave more odd tokens than they save loads. */
static inline __attribute__((always_inline)) void
logits_x86_avx2(const struct fff_trees_f32 *trees, size_t row, int tokens, const float *const *input, float *logits) {
    const float *weights = trees->input_rows + row * trees->row_stride;
    size_t width = trees->input_width;
    sums_x86_avx2 sums[2];
    for (int t = 0; t < tokens; t++) {
        for (int v = 0; v < DOT_VECTORS_X86_AVX2; v++) {
            sums[t].part[v] = _mm256_setzero_ps();
        }
    }
    size_t i = 0;
    for (; i + FFF_PARTIAL_SUMS <= width; i += FFF_PARTIAL_SUMS) {
        for (int v = 0; v < DOT_VECTORS_X86_AVX2; v++) {
            __m256 w = _mm256_load_ps(weights + i + 8 * v);
            for (int t = 0; t < tokens; t++) {
                sums[t].part[v] = _mm256_fmadd_ps(_mm256_loadu_ps(input[t] + i + 8 * v), w, sums[t].part[v]);
            }
        }
    }
    if (i < width) {
        for (int v = 0; v < DOT_VECTORS_X86_AVX2; v++) {
            __m256i lanes = lanes_below_x86_avx2(i + 8 * v, width);
            __m256 w = _mm256_maskload_ps(weights + i + 8 * v, lanes);
            for (int t = 0; t < tokens; t++) {
                __m256 x = _mm256_maskload_ps(input[t] + i + 8 * v, lanes);
                sums[t].part[v] = _mm256_fmadd_ps(x, w, sums[t].part[v]);
            }
        }
    }
    for (int t = 0; t < tokens; t++) {
        __m128 four = halve_to_4_x86_avx2(sums[t]);
        __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        __m128 one = _mm_add_ss(two, _mm_movehdup_ps(two));
        logits[t] = _mm_cvtss_f32(one) + trees->biases[row];
    }
}

#endif
