/* Four weights at a time. Bound by memory: 16 bytes are read for each weight and 12 written. Only where all lies in L1
 * or L2 do the root and the division count. */
#include "kernels/arm_neon/isa.h"

#include <string.h>

FFF_INLINE void step_arm_neon(const struct fff_adam_factors *factors, const float *gradient, float *weights,
                              float *first_moment, float *second_moment) {
    float32x4_t g = vld1q_f32(gradient);
    float32x4_t m =
        vfmaq_f32(vmulq_n_f32(g, factors->take_first), vdupq_n_f32(factors->keep_first), vld1q_f32(first_moment));
    float32x4_t v = vfmaq_f32(vmulq_n_f32(vmulq_f32(g, g), factors->take_second), vdupq_n_f32(factors->keep_second),
                              vld1q_f32(second_moment));
    float32x4_t divisor = vfmaq_f32(vdupq_n_f32(factors->epsilon), vsqrtq_f32(v), vdupq_n_f32(factors->root_factor));
    float32x4_t decayed = vmulq_n_f32(vld1q_f32(weights), factors->decay);
    float32x4_t w = vfmsq_f32(decayed, vdupq_n_f32(factors->rate), vdivq_f32(m, divisor));
    vst1q_f32(first_moment, m);
    vst1q_f32(second_moment, v);
    vst1q_f32(weights, w);
}

void fff_adam_arm_neon(const struct fff_adam_factors *factors, size_t width, const float *gradient, float *weights,
                       float *first_moment, float *second_moment) {
    const struct fff_adam_factors copy = *factors; /* which no store to the rows can change */
    size_t j = 0;
    for (; j + 4 <= width; j += 4) {
        step_arm_neon(&copy, gradient + j, weights + j, first_moment + j, second_moment + j);
    }
    if (j < width) {
        size_t bytes = (width - j) * sizeof(float);
        float g[4] = {0}, w[4] = {0}, m[4] = {0}, v[4] = {0};
        memcpy(g, gradient + j, bytes);
        memcpy(w, weights + j, bytes);
        memcpy(m, first_moment + j, bytes);
        memcpy(v, second_moment + j, bytes);
        step_arm_neon(&copy, g, w, m, v);
        memcpy(weights + j, w, bytes);
        memcpy(first_moment + j, m, bytes);
        memcpy(second_moment + j, v, bytes);
    }
}
