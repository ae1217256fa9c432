/* Eight weights at a time. Bound by memory: 16 bytes are read for each weight and 12 written. Only where all lies in L1
 * or L2 do the root and the division count. */
#include "kernels/x86_avx2/isa.h"

FFF_INLINE void step_x86_avx2(const struct fff_adam_factors *factors, size_t j, size_t width, const float *gradient,
                              float *weights, float *first_moment, float *second_moment) {
    __m256 g = load_below_x86_avx2(gradient, j, width);
    __m256 m = load_below_x86_avx2(first_moment, j, width), v = load_below_x86_avx2(second_moment, j, width);
    m = _mm256_fmadd_ps(_mm256_set1_ps(factors->keep_first), m, _mm256_mul_ps(_mm256_set1_ps(factors->take_first), g));
    v = _mm256_fmadd_ps(_mm256_set1_ps(factors->keep_second), v,
                        _mm256_mul_ps(_mm256_set1_ps(factors->take_second), _mm256_mul_ps(g, g)));
    __m256 divisor =
        _mm256_fmadd_ps(_mm256_sqrt_ps(v), _mm256_set1_ps(factors->root_factor), _mm256_set1_ps(factors->epsilon));
    __m256 decayed = _mm256_mul_ps(_mm256_set1_ps(factors->decay), load_below_x86_avx2(weights, j, width));
    __m256 w = _mm256_fnmadd_ps(_mm256_set1_ps(factors->rate), _mm256_div_ps(m, divisor), decayed);
    store_below_x86_avx2(first_moment, j, width, m);
    store_below_x86_avx2(second_moment, j, width, v);
    store_below_x86_avx2(weights, j, width, w);
}

void fff_adam_x86_avx2(const struct fff_adam_factors *factors, size_t width, const float *gradient, float *weights,
                       float *first_moment, float *second_moment) {
    const struct fff_adam_factors copy = *factors; /* which no store to the rows can change */
    size_t j = 0;
    for (; j + 8 <= width; j += 8) {
        step_x86_avx2(&copy, j, j + 8, gradient, weights, first_moment, second_moment);
    }
    if (j < width) {
        step_x86_avx2(&copy, j, width, gradient, weights, first_moment, second_moment);
    }
}
