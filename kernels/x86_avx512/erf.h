/* erf(z / sqrt 2), for activations and their derivatives: each coefficient is looked up by one permutation, all of
 * which are independent of each other. */
#ifndef FFF_KERNELS_X86_AVX512_ERF_H
#define FFF_KERNELS_X86_AVX512_ERF_H

#include "kernels/erf_f32.h"
#include "kernels/x86_avx512/isa.h"

/* Of a table's row, the entry of each lane's interval. Only the lower half of the register holds a row: intervals are
 * below 8, but those of NaNs, whose result is a NaN whatever is looked up. */
static inline __m512 look_up_x86_avx512(__m512i intervals, const float row[FFF_ERF_INTERVALS]) {
    return _mm512_permutexvar_ps(intervals, _mm512_castps256_ps512(_mm256_load_ps(row)));
}

static inline __m512 gelu_erf_x86_avx512(__m512 z) {
    const __m512 sign = _mm512_set1_ps(-0.0f);
    /* A NaN is the minimum's second operand, which it returns. */
    __m512 distance = _mm512_min_ps(_mm512_set1_ps(FFF_ERF_END), _mm512_andnot_ps(sign, z));
    __m512 shifted = _mm512_fmadd_ps(distance, _mm512_set1_ps(FFF_ERF_SCALE), _mm512_set1_ps(FFF_ERF_SHIFTER));
    __m512i intervals = _mm512_srli_epi32(_mm512_castps_si512(shifted), FFF_ERF_SHIFT);
    __m512 v = _mm512_sub_ps(distance, look_up_x86_avx512(intervals, FFF_ERF.centre));
    __m512 p = look_up_x86_avx512(intervals, FFF_ERF.factors[FFF_ERF_FACTORS - 1]);
    FFF_UNROLL
    for (size_t i = FFF_ERF_FACTORS - 1; i-- > 0;) {
        p = _mm512_fmadd_ps(p, v, look_up_x86_avx512(intervals, FFF_ERF.factors[i]));
    }
    __mmask16 first = _mm512_cmp_ps_mask(shifted, _mm512_set1_ps(FFF_ERF_FIRST), _CMP_LT_OQ);
    __m512 base = _mm512_mask_mov_ps(look_up_x86_avx512(intervals, FFF_ERF.base), first, distance);
    return _mm512_or_ps(_mm512_fmadd_ps(p, v, base), _mm512_and_ps(sign, z));
}

#endif
