/* Eight logits at a time. Every operation, and its order, is that of kernels/generic/activate.c. exp and tanh are
 * SLEEF's. GELU's erf looks each coefficient up by one permutation, all of which are independent of each other. */
#include "kernels/x86_avx2/erf.h"
#include "kernels/x86_avx2/isa.h"

#include <sleef.h>

static inline __m256 gelu_x86_avx2(__m256 z) {
    __m256 half = _mm256_mul_ps(_mm256_set1_ps(0.5f), z);
    return _mm256_fmadd_ps(half, gelu_erf_x86_avx2(z), half);
}

static inline __m256 gelu_tanh_x86_avx2(__m256 z) {
    __m256 cubic = _mm256_mul_ps(_mm256_set1_ps(FFF_GELU_TANH_CUBIC), _mm256_mul_ps(z, z));
    __m256 inner = _mm256_mul_ps(_mm256_set1_ps(FFF_SQRT_2_OVER_PI), _mm256_fmadd_ps(cubic, z, z));
    __m256 tanh = Sleef_cinz_tanhf8_u10avx(inner);
    return _mm256_mul_ps(_mm256_mul_ps(_mm256_set1_ps(0.5f), z), _mm256_add_ps(_mm256_set1_ps(1.0f), tanh));
}

static inline __m256 relu_x86_avx2(__m256 z) {
    return _mm256_and_ps(z, _mm256_cmp_ps(z, _mm256_setzero_ps(), _CMP_NLE_UQ));
}

static inline __m256 silu_x86_avx2(__m256 z) {
    __m256 minus_z = _mm256_xor_ps(z, _mm256_set1_ps(-0.0f));
    __m256 exp = Sleef_cinz_expf8_u10avx(minus_z);
    return _mm256_div_ps(z, _mm256_add_ps(_mm256_set1_ps(1.0f), exp));
}

static inline __m256 activate_x86_avx2(fff_activation activation, __m256 z) {
    switch (activation) {
    case FFF_ACTIVATION_GELU: return gelu_x86_avx2(z);
    case FFF_ACTIVATION_GELU_TANH: return gelu_tanh_x86_avx2(z);
    case FFF_ACTIVATION_RELU: return relu_x86_avx2(z);
    case FFF_ACTIVATION_RELU2: return _mm256_mul_ps(relu_x86_avx2(z), relu_x86_avx2(z));
    case FFF_ACTIVATION_SILU: return silu_x86_avx2(z);
    case FFF_ACTIVATION_IDENTITY: return z;
    }
    return z;
}

void fff_activate_x86_avx2(fff_activation activation, size_t count, const float *logits, float *activations) {
    for (size_t i = 0; i < count; i += 8) {
        __m256 z = load_below_x86_avx2(logits, i, count);
        store_below_x86_avx2(activations, i, count, activate_x86_avx2(activation, z));
    }
}
