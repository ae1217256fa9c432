/* Eight logits at a time. Every operation, and its order, is that of kernels/generic/differentiate.c. exp is SLEEF's,
 * and most of the time is spent in it. */
#include "kernels/x86_avx2/erf.h"
#include "kernels/x86_avx2/isa.h"

#include <sleef.h>

static inline __m256 magnitude_below_x86_avx2(float end, __m256 z) {
    /* A NaN is the minimum's second operand, which it returns. */
    return _mm256_min_ps(_mm256_set1_ps(end), _mm256_andnot_ps(_mm256_set1_ps(-0.0f), z));
}

static inline __m256 with_sign_of_x86_avx2(__m256 magnitude, __m256 z) {
    return _mm256_or_ps(magnitude, _mm256_and_ps(_mm256_set1_ps(-0.0f), z));
}

static inline __m256 exp_minus_x86_avx2(__m256 v) {
    return Sleef_cinz_expf8_u10avx(_mm256_xor_ps(v, _mm256_set1_ps(-0.0f)));
}

static inline __m256 gelu_x86_avx2(__m256 z) {
    const __m256 half = _mm256_set1_ps(0.5f);
    __m256 magnitude = magnitude_below_x86_avx2(FFF_GELU_END, z);
    __m256 exp = exp_minus_x86_avx2(_mm256_mul_ps(_mm256_mul_ps(half, magnitude), magnitude));
    __m256 density = _mm256_mul_ps(_mm256_set1_ps(FFF_NORMAL_DENSITY), exp);
    __m256 below = _mm256_fmadd_ps(half, gelu_erf_x86_avx2(z), half);
    return _mm256_fmadd_ps(with_sign_of_x86_avx2(magnitude, z), density, below);
}

static inline __m256 gated_x86_avx2(__m256 z, __m256 magnitude, __m256 v, __m256 slope) {
    const __m256 one = _mm256_set1_ps(1.0f);
    __m256 exp = exp_minus_x86_avx2(v);
    __m256 large = _mm256_div_ps(one, _mm256_add_ps(one, exp));
    __m256 small = _mm256_mul_ps(exp, large);
    __m256 inner = _mm256_mul_ps(with_sign_of_x86_avx2(magnitude, z), slope);
    /* By the sign: of -0, both are a half. */
    return _mm256_fmadd_ps(inner, _mm256_mul_ps(small, large), _mm256_blendv_ps(large, small, z));
}

static inline __m256 gelu_tanh_x86_avx2(__m256 z) {
    const __m256 factor = _mm256_set1_ps(2.0f * FFF_SQRT_2_OVER_PI);
    __m256 magnitude = magnitude_below_x86_avx2(FFF_GELU_TANH_END, z), square = _mm256_mul_ps(magnitude, magnitude);
    __m256 cubic = _mm256_mul_ps(_mm256_set1_ps(FFF_GELU_TANH_CUBIC), square);
    __m256 v = _mm256_mul_ps(factor, _mm256_fmadd_ps(cubic, magnitude, magnitude));
    __m256 slope = _mm256_fmadd_ps(_mm256_set1_ps(FFF_GELU_TANH_SLOPE), square, _mm256_set1_ps(1.0f));
    return gated_x86_avx2(z, magnitude, v, _mm256_mul_ps(factor, slope));
}

static inline __m256 silu_x86_avx2(__m256 z) {
    __m256 magnitude = magnitude_below_x86_avx2(FFF_SILU_END, z);
    return gated_x86_avx2(z, magnitude, magnitude, _mm256_set1_ps(1.0f));
}

/* `positive`, z itself where that is a NaN, and 0 elsewhere. */
static inline __m256 where_positive_x86_avx2(__m256 z, __m256 positive) {
    __m256 is_nan = _mm256_cmp_ps(z, z, _CMP_UNORD_Q);
    __m256 not_below = _mm256_cmp_ps(z, _mm256_setzero_ps(), _CMP_NLE_UQ);
    return _mm256_and_ps(_mm256_blendv_ps(positive, z, is_nan), not_below);
}

static inline __m256 derivative_x86_avx2(fff_activation activation, __m256 z) {
    switch (activation) {
    case FFF_ACTIVATION_GELU: return gelu_x86_avx2(z);
    case FFF_ACTIVATION_GELU_TANH: return gelu_tanh_x86_avx2(z);
    case FFF_ACTIVATION_RELU: return where_positive_x86_avx2(z, _mm256_set1_ps(1.0f));
    case FFF_ACTIVATION_RELU2: return where_positive_x86_avx2(z, _mm256_add_ps(z, z));
    case FFF_ACTIVATION_SILU: return silu_x86_avx2(z);
    case FFF_ACTIVATION_IDENTITY: return _mm256_set1_ps(1.0f);
    }
    return _mm256_set1_ps(1.0f);
}

void fff_differentiate_x86_avx2(fff_activation activation, size_t count, const float *logits, const float *upstream,
                                float *gradients) {
    for (size_t i = 0; i < count; i += 8) {
        __m256 derivative = derivative_x86_avx2(activation, load_below_x86_avx2(logits, i, count));
        __m256 product = _mm256_mul_ps(load_below_x86_avx2(upstream, i, count), derivative);
        store_below_x86_avx2(gradients, i, count, product);
    }
}
