/* Sixteen logits at a time; a token's path is rarely longer than one vector, so what counts is how long one takes.
 * Every operation, and its order, is that of kernels/generic/activate.c. exp and tanh are SLEEF's. GELU's erf looks
 * each coefficient up by one permutation, all of which are independent of each other. */
#include "kernels/x86_avx512/erf.h"
#include "kernels/x86_avx512/isa.h"

#include <sleef.h>

static inline __m512 gelu_x86_avx512(__m512 z) {
    __m512 half = _mm512_mul_ps(_mm512_set1_ps(0.5f), z);
    return _mm512_fmadd_ps(half, gelu_erf_x86_avx512(z), half);
}

static inline __m512 gelu_tanh_x86_avx512(__m512 z) {
    __m512 cubic = _mm512_mul_ps(_mm512_set1_ps(FFF_GELU_TANH_CUBIC), _mm512_mul_ps(z, z));
    __m512 inner = _mm512_mul_ps(_mm512_set1_ps(FFF_SQRT_2_OVER_PI), _mm512_fmadd_ps(cubic, z, z));
    __m512 tanh = Sleef_cinz_tanhf16_u10avx512fnofma(inner);
    return _mm512_mul_ps(_mm512_mul_ps(_mm512_set1_ps(0.5f), z), _mm512_add_ps(_mm512_set1_ps(1.0f), tanh));
}

static inline __m512 relu_x86_avx512(__m512 z) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(z, _mm512_setzero_ps(), _CMP_NLE_UQ), z);
}

static inline __m512 silu_x86_avx512(__m512 z) {
    __m512 minus_z = _mm512_xor_ps(z, _mm512_set1_ps(-0.0f));
    __m512 exp = Sleef_cinz_expf16_u10avx512fnofma(minus_z);
    return _mm512_div_ps(z, _mm512_add_ps(_mm512_set1_ps(1.0f), exp));
}

static inline __m512 activate_x86_avx512(fff_activation activation, __m512 z) {
    switch (activation) {
    case FFF_ACTIVATION_GELU: return gelu_x86_avx512(z);
    case FFF_ACTIVATION_GELU_TANH: return gelu_tanh_x86_avx512(z);
    case FFF_ACTIVATION_RELU: return relu_x86_avx512(z);
    case FFF_ACTIVATION_RELU2: return _mm512_mul_ps(relu_x86_avx512(z), relu_x86_avx512(z));
    case FFF_ACTIVATION_SILU: return silu_x86_avx512(z);
    case FFF_ACTIVATION_IDENTITY: return z;
    }
    return z;
}

void fff_activate_x86_avx512(fff_activation activation, size_t count, const float *logits, float *activations) {
    for (size_t i = 0; i < count; i += 16) {
        __mmask16 mask = mask_below_x86_avx512(i, count);
        __m512 z = _mm512_maskz_loadu_ps(mask, logits + i);
        _mm512_mask_storeu_ps(activations + i, mask, activate_x86_avx512(activation, z));
    }
}
