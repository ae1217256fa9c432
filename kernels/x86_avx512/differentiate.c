/* Sixteen logits at a time. Every operation, and its order, is that of kernels/generic/differentiate.c. exp is SLEEF's,
 * and most of the time is spent in it. */
#include "kernels/x86_avx512/erf.h"
#include "kernels/x86_avx512/isa.h"

#include <sleef.h>

static inline __m512 magnitude_below_x86_avx512(float end, __m512 z) {
    /* A NaN is the minimum's second operand, which it returns. */
    return _mm512_min_ps(_mm512_set1_ps(end), _mm512_andnot_ps(_mm512_set1_ps(-0.0f), z));
}

static inline __m512 with_sign_of_x86_avx512(__m512 magnitude, __m512 z) {
    return _mm512_or_ps(magnitude, _mm512_and_ps(_mm512_set1_ps(-0.0f), z));
}

static inline __m512 exp_minus_x86_avx512(__m512 v) {
    return Sleef_cinz_expf16_u10avx512fnofma(_mm512_xor_ps(v, _mm512_set1_ps(-0.0f)));
}

static inline __m512 gelu_x86_avx512(__m512 z) {
    const __m512 half = _mm512_set1_ps(0.5f);
    __m512 magnitude = magnitude_below_x86_avx512(FFF_GELU_END, z);
    __m512 exp = exp_minus_x86_avx512(_mm512_mul_ps(_mm512_mul_ps(half, magnitude), magnitude));
    __m512 density = _mm512_mul_ps(_mm512_set1_ps(FFF_NORMAL_DENSITY), exp);
    __m512 below = _mm512_fmadd_ps(half, gelu_erf_x86_avx512(z), half);
    return _mm512_fmadd_ps(with_sign_of_x86_avx512(magnitude, z), density, below);
}

static inline __m512 gated_x86_avx512(__m512 z, __m512 magnitude, __m512 v, __m512 slope) {
    const __m512 one = _mm512_set1_ps(1.0f);
    __m512 exp = exp_minus_x86_avx512(v);
    __m512 large = _mm512_div_ps(one, _mm512_add_ps(one, exp));
    __m512 small = _mm512_mul_ps(exp, large);
    __m512 inner = _mm512_mul_ps(with_sign_of_x86_avx512(magnitude, z), slope);
    /* By the sign: of -0, both are a half. */
    __mmask16 negative = _mm512_movepi32_mask(_mm512_castps_si512(z));
    return _mm512_fmadd_ps(inner, _mm512_mul_ps(small, large), _mm512_mask_mov_ps(large, negative, small));
}

static inline __m512 gelu_tanh_x86_avx512(__m512 z) {
    const __m512 factor = _mm512_set1_ps(2.0f * FFF_SQRT_2_OVER_PI);
    __m512 magnitude = magnitude_below_x86_avx512(FFF_GELU_TANH_END, z), square = _mm512_mul_ps(magnitude, magnitude);
    __m512 cubic = _mm512_mul_ps(_mm512_set1_ps(FFF_GELU_TANH_CUBIC), square);
    __m512 v = _mm512_mul_ps(factor, _mm512_fmadd_ps(cubic, magnitude, magnitude));
    __m512 slope = _mm512_fmadd_ps(_mm512_set1_ps(FFF_GELU_TANH_SLOPE), square, _mm512_set1_ps(1.0f));
    return gated_x86_avx512(z, magnitude, v, _mm512_mul_ps(factor, slope));
}

static inline __m512 silu_x86_avx512(__m512 z) {
    __m512 magnitude = magnitude_below_x86_avx512(FFF_SILU_END, z);
    return gated_x86_avx512(z, magnitude, magnitude, _mm512_set1_ps(1.0f));
}

/* `positive`, z itself where that is a NaN, and 0 elsewhere. */
static inline __m512 where_positive_x86_avx512(__m512 z, __m512 positive) {
    __mmask16 is_nan = _mm512_cmp_ps_mask(z, z, _CMP_UNORD_Q);
    __mmask16 not_below = _mm512_cmp_ps_mask(z, _mm512_setzero_ps(), _CMP_NLE_UQ);
    return _mm512_maskz_mov_ps(not_below, _mm512_mask_mov_ps(positive, is_nan, z));
}

static inline __m512 derivative_x86_avx512(fff_activation activation, __m512 z) {
    switch (activation) {
    case FFF_ACTIVATION_GELU: return gelu_x86_avx512(z);
    case FFF_ACTIVATION_GELU_TANH: return gelu_tanh_x86_avx512(z);
    case FFF_ACTIVATION_RELU: return where_positive_x86_avx512(z, _mm512_set1_ps(1.0f));
    case FFF_ACTIVATION_RELU2: return where_positive_x86_avx512(z, _mm512_add_ps(z, z));
    case FFF_ACTIVATION_SILU: return silu_x86_avx512(z);
    case FFF_ACTIVATION_IDENTITY: return _mm512_set1_ps(1.0f);
    }
    return _mm512_set1_ps(1.0f);
}

void fff_differentiate_x86_avx512(fff_activation activation, size_t count, const float *logits, const float *upstream,
                                  float *gradients) {
    for (size_t i = 0; i < count; i += 16) {
        __mmask16 mask = mask_below_x86_avx512(i, count);
        __m512 derivative = derivative_x86_avx512(activation, _mm512_maskz_loadu_ps(mask, logits + i));
        __m512 product = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, upstream + i), derivative);
        _mm512_mask_storeu_ps(gradients + i, mask, product);
    }
}
