#ifndef FFF_KERNELS_X86_AVX512_DOT_F32_H
#define FFF_KERNELS_X86_AVX512_DOT_F32_H

#include "kernels/x86_avx512/isa.h"

/* The 32 partial sums of one token are two zmm registers: low (sums 0-15) and high (16-31). */
typedef struct sums_x86_avx512 {
    __m512 low, high;
} sums_x86_avx512;

/* The first two steps of the halving tree, which pair whole registers: 32 sums to 16 to 8, and then
 * within the ymm to 4. */
static inline __m128 halve_to_4_x86_avx512(sums_x86_avx512 sums) {
    __m512 sixteen = _mm512_add_ps(sums.low, sums.high);
    __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(sixteen), _mm512_extractf32x8_ps(sixteen, 1));
    return _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
}

/* The logit of one row for one token. Two chains of FMAs are enough: with the rows in L2 or beyond,
 * as in any real layer, the loads of the row bound the loop, not the 4 cycles an FMA takes. */
static inline float logit_x86_avx512(const struct fff_trees_f32 *trees, size_t row, const float *input) {
    const float *weights = trees->input_rows + row * trees->row_stride;
    size_t width = trees->input_width;
    sums_x86_avx512 sums = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    size_t i = 0;
    for (; i + 32 <= width; i += 32) {
        sums.low = _mm512_fmadd_ps(_mm512_loadu_ps(input + i), _mm512_load_ps(weights + i), sums.low);
        sums.high = _mm512_fmadd_ps(_mm512_loadu_ps(input + i + 16), _mm512_load_ps(weights + i + 16), sums.high);
    }
    if (i < width) {
        __mmask16 low = lanes_below_x86_avx512(i, width), high = lanes_below_x86_avx512(i + 16, width);
        sums.low =
            _mm512_fmadd_ps(_mm512_maskz_loadu_ps(low, input + i), _mm512_maskz_loadu_ps(low, weights + i), sums.low);
        sums.high = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(high, input + i + 16),
                                    _mm512_maskz_loadu_ps(high, weights + i + 16), sums.high);
    }
    __m128 four = halve_to_4_x86_avx512(sums);
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    __m128 one = _mm_add_ss(two, _mm_movehdup_ps(two));
    return _mm_cvtss_f32(one) + trees->biases[row];
}

#endif
