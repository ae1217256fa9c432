/* Four logits at a time. Every operation, and its order, is that of kernels/generic/differentiate.c. exp is SLEEF's,
 * and most of the time is spent in it. */
#include "kernels/arm_neon/erf.h"
#include "kernels/arm_neon/isa.h"

#include <sleef.h>
#include <string.h>

static inline float32x4_t magnitude_below_arm_neon(float end, float32x4_t z) {
    return vminq_f32(vabsq_f32(z), vdupq_n_f32(end)); /* a NaN stays a NaN */
}

static inline float32x4_t with_sign_of_arm_neon(float32x4_t magnitude, float32x4_t z) {
    return vbslq_f32(vdupq_n_u32(0x80000000), z, magnitude);
}

static inline float32x4_t exp_minus_arm_neon(float32x4_t v) {
    return Sleef_cinz_expf4_u10advsimdnofma(vnegq_f32(v));
}

static inline float32x4_t gelu_arm_neon(float32x4_t z) {
    const float32x4_t half = vdupq_n_f32(0.5f);
    float32x4_t magnitude = magnitude_below_arm_neon(FFF_GELU_END, z);
    float32x4_t exp = exp_minus_arm_neon(vmulq_f32(vmulq_f32(half, magnitude), magnitude));
    float32x4_t density = vmulq_n_f32(exp, FFF_NORMAL_DENSITY);
    float32x4_t below = vfmaq_f32(half, half, gelu_erf_arm_neon(z));
    return vfmaq_f32(below, with_sign_of_arm_neon(magnitude, z), density);
}

static inline float32x4_t gated_arm_neon(float32x4_t z, float32x4_t magnitude, float32x4_t v, float32x4_t slope) {
    const float32x4_t one = vdupq_n_f32(1.0f);
    float32x4_t exp = exp_minus_arm_neon(v);
    float32x4_t large = vdivq_f32(one, vaddq_f32(one, exp));
    float32x4_t small = vmulq_f32(exp, large);
    float32x4_t inner = vmulq_f32(with_sign_of_arm_neon(magnitude, z), slope);
    float32x4_t base = vbslq_f32(vcltq_f32(z, vdupq_n_f32(0.0f)), small, large);
    return vfmaq_f32(base, inner, vmulq_f32(small, large));
}

static inline float32x4_t gelu_tanh_arm_neon(float32x4_t z) {
    const float32x4_t factor = vdupq_n_f32(2.0f * FFF_SQRT_2_OVER_PI);
    float32x4_t magnitude = magnitude_below_arm_neon(FFF_GELU_TANH_END, z), square = vmulq_f32(magnitude, magnitude);
    float32x4_t cubic = vmulq_n_f32(square, FFF_GELU_TANH_CUBIC);
    float32x4_t v = vmulq_f32(factor, vfmaq_f32(magnitude, cubic, magnitude));
    float32x4_t slope = vfmaq_f32(vdupq_n_f32(1.0f), square, vdupq_n_f32(FFF_GELU_TANH_SLOPE));
    return gated_arm_neon(z, magnitude, v, vmulq_f32(factor, slope));
}

static inline float32x4_t silu_arm_neon(float32x4_t z) {
    float32x4_t magnitude = magnitude_below_arm_neon(FFF_SILU_END, z);
    return gated_arm_neon(z, magnitude, magnitude, vdupq_n_f32(1.0f));
}

/* `positive`, z itself where that is a NaN, and 0 elsewhere. */
static inline float32x4_t where_positive_arm_neon(float32x4_t z, float32x4_t positive) {
    float32x4_t or_nan = vbslq_f32(vceqq_f32(z, z), positive, z);
    uint32x4_t not_positive = vcleq_f32(z, vdupq_n_f32(0.0f));
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(or_nan), not_positive));
}

static inline float32x4_t derivative_arm_neon(fff_activation activation, float32x4_t z) {
    switch (activation) {
    case FFF_ACTIVATION_GELU: return gelu_arm_neon(z);
    case FFF_ACTIVATION_GELU_TANH: return gelu_tanh_arm_neon(z);
    case FFF_ACTIVATION_RELU: return where_positive_arm_neon(z, vdupq_n_f32(1.0f));
    case FFF_ACTIVATION_RELU2: return where_positive_arm_neon(z, vaddq_f32(z, z));
    case FFF_ACTIVATION_SILU: return silu_arm_neon(z);
    case FFF_ACTIVATION_IDENTITY: return vdupq_n_f32(1.0f);
    }
    return vdupq_n_f32(1.0f);
}

void fff_differentiate_arm_neon(fff_activation activation, size_t count, const float *logits, const float *upstream,
                                float *gradients) {
    size_t i = 0;
    for (; i + 4 <= count; i += 4) {
        float32x4_t derivative = derivative_arm_neon(activation, vld1q_f32(logits + i));
        vst1q_f32(gradients + i, vmulq_f32(vld1q_f32(upstream + i), derivative));
    }
    if (i < count) {
        float padded[4] = {0}, factors[4] = {0};
        memcpy(padded, logits + i, (count - i) * sizeof(float));
        memcpy(factors, upstream + i, (count - i) * sizeof(float));
        vst1q_f32(padded, vmulq_f32(vld1q_f32(factors), derivative_arm_neon(activation, vld1q_f32(padded))));
        memcpy(gradients + i, padded, (count - i) * sizeof(float));
    }
}
