/* Sixteen weights at a time. Bound by memory: 16 bytes are read for each weight and 12 written. Only where all lies in
 * L1 or L2 do the root and the division count. */
#include "kernels/x86_avx512/isa.h"

void fff_adam_x86_avx512(const struct fff_adam_factors *factors, size_t width, const float *gradient, float *weights,
                         float *first_moment, float *second_moment) {
    const __m512 keep_first = _mm512_set1_ps(factors->keep_first), take_first = _mm512_set1_ps(factors->take_first);
    const __m512 keep_second = _mm512_set1_ps(factors->keep_second), take_second = _mm512_set1_ps(factors->take_second);
    const __m512 root_factor = _mm512_set1_ps(factors->root_factor), epsilon = _mm512_set1_ps(factors->epsilon);
    const __m512 rate = _mm512_set1_ps(factors->rate), decay = _mm512_set1_ps(factors->decay);
    for (size_t j = 0; j < width; j += 16) {
        __mmask16 mask = mask_below_x86_avx512(j, width);
        __m512 g = _mm512_maskz_loadu_ps(mask, gradient + j);
        __m512 m = _mm512_maskz_loadu_ps(mask, first_moment + j), v = _mm512_maskz_loadu_ps(mask, second_moment + j);
        m = _mm512_fmadd_ps(keep_first, m, _mm512_mul_ps(take_first, g));
        v = _mm512_fmadd_ps(keep_second, v, _mm512_mul_ps(take_second, _mm512_mul_ps(g, g)));
        __m512 divisor = _mm512_fmadd_ps(_mm512_sqrt_ps(v), root_factor, epsilon);
        __m512 decayed = _mm512_mul_ps(decay, _mm512_maskz_loadu_ps(mask, weights + j));
        __m512 w = _mm512_fnmadd_ps(rate, _mm512_div_ps(m, divisor), decayed);
        _mm512_mask_storeu_ps(first_moment + j, mask, m);
        _mm512_mask_storeu_ps(second_moment + j, mask, v);
        _mm512_mask_storeu_ps(weights + j, mask, w);
    }
}
