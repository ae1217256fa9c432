/* Four logits at a time. Every operation, and its order, is that of kernels/generic/activate.c. exp and tanh are
 * SLEEF's. GELU's erf looks each coefficient up by one table instruction, a row being two registers. */
#include "kernels/arm_neon/erf.h"
#include "kernels/arm_neon/isa.h"

#include <sleef.h>
#include <string.h>

static inline float32x4_t gelu_arm_neon(float32x4_t z) {
    float32x4_t half = vmulq_n_f32(z, 0.5f);
    return vfmaq_f32(half, half, gelu_erf_arm_neon(z));
}

static inline float32x4_t gelu_tanh_arm_neon(float32x4_t z) {
    float32x4_t cubic = vmulq_n_f32(vmulq_f32(z, z), FFF_GELU_TANH_CUBIC);
    float32x4_t inner = vmulq_n_f32(vfmaq_f32(z, cubic, z), FFF_SQRT_2_OVER_PI);
    float32x4_t tanh = Sleef_cinz_tanhf4_u10advsimdnofma(inner);
    return vmulq_f32(vmulq_n_f32(z, 0.5f), vaddq_f32(vdupq_n_f32(1.0f), tanh));
}

static inline float32x4_t relu_arm_neon(float32x4_t z) {
    uint32x4_t not_positive = vcleq_f32(z, vdupq_n_f32(0.0f));
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(z), not_positive));
}

static inline float32x4_t silu_arm_neon(float32x4_t z) {
    float32x4_t exp = Sleef_cinz_expf4_u10advsimdnofma(vnegq_f32(z));
    return vdivq_f32(z, vaddq_f32(vdupq_n_f32(1.0f), exp));
}

static inline float32x4_t activate_arm_neon(fff_activation activation, float32x4_t z) {
    switch (activation) {
    case FFF_ACTIVATION_GELU: return gelu_arm_neon(z);
    case FFF_ACTIVATION_GELU_TANH: return gelu_tanh_arm_neon(z);
    case FFF_ACTIVATION_RELU: return relu_arm_neon(z);
    case FFF_ACTIVATION_RELU2: return vmulq_f32(relu_arm_neon(z), relu_arm_neon(z));
    case FFF_ACTIVATION_SILU: return silu_arm_neon(z);
    case FFF_ACTIVATION_IDENTITY: return z;
    }
    return z;
}

void fff_activate_arm_neon(fff_activation activation, size_t count, const float *logits, float *activations) {
    size_t i = 0;
    for (; i + 4 <= count; i += 4) {
        vst1q_f32(activations + i, activate_arm_neon(activation, vld1q_f32(logits + i)));
    }
    if (i < count) {
        float padded[4] = {0};
        memcpy(padded, logits + i, (count - i) * sizeof(float));
        vst1q_f32(padded, activate_arm_neon(activation, vld1q_f32(padded)));
        memcpy(activations + i, padded, (count - i) * sizeof(float));
    }
}
