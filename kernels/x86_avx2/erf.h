/* erf(z / sqrt 2), for activations and their derivatives: each coefficient is looked up by one permutation, all of
 * which are independent of each other. */
#ifndef FFF_KERNELS_X86_AVX2_ERF_H
#define FFF_KERNELS_X86_AVX2_ERF_H

#include "kernels/erf_f32.h"
#include "kernels/x86_avx2/isa.h"

/* Of a table's row, the entry of each lane's interval: the permutation looks at the lowest 3 bits only. */
static inline __m256 look_up_x86_avx2(__m256i intervals, const float row[FFF_ERF_INTERVALS]) {
    return _mm256_permutevar8x32_ps(_mm256_load_ps(row), intervals);
}

static inline __m256 gelu_erf_x86_avx2(__m256 z) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    /* A NaN is the minimum's second operand, which it returns. */
    __m256 distance = _mm256_min_ps(_mm256_set1_ps(FFF_ERF_END), _mm256_andnot_ps(sign, z));
    __m256 shifted = _mm256_fmadd_ps(distance, _mm256_set1_ps(FFF_ERF_SCALE), _mm256_set1_ps(FFF_ERF_SHIFTER));
    __m256i intervals = _mm256_srli_epi32(_mm256_castps_si256(shifted), FFF_ERF_SHIFT);
    __m256 v = _mm256_sub_ps(distance, look_up_x86_avx2(intervals, FFF_ERF.centre));
    __m256 p = look_up_x86_avx2(intervals, FFF_ERF.factors[FFF_ERF_FACTORS - 1]);
    FFF_UNROLL
    for (size_t i = FFF_ERF_FACTORS - 1; i-- > 0;) {
        p = _mm256_fmadd_ps(p, v, look_up_x86_avx2(intervals, FFF_ERF.factors[i]));
    }
    __m256 first = _mm256_cmp_ps(shifted, _mm256_set1_ps(FFF_ERF_FIRST), _CMP_LT_OQ);
    __m256 base = _mm256_blendv_ps(look_up_x86_avx2(intervals, FFF_ERF.base), distance, first);
    return _mm256_or_ps(_mm256_fmadd_ps(p, v, base), _mm256_and_ps(sign, z));
}

#endif
