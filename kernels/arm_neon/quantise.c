/* A token for I8 rows: kernels/generic/quantise.c in vectors. */
#include "kernels/arm_neon/isa.h"

/* 4 floats from `start` on, zeros from `end` on. */
static inline float32x4_t load_below_arm_neon(const float *values, size_t start, size_t end) {
    float padded[4] = {0};
    if (start + 4 <= end) {
        return vld1q_f32(values + start);
    }
    memcpy(padded, values + start, (end - start) * sizeof(float));
    return vld1q_f32(padded);
}

void fff_quantise_arm_neon(size_t width, const float *input, unsigned char *quantised) {
    float32x4_t sizes = vdupq_n_f32(0.0f);
    for (size_t i = 0; i < width; i += 4) { /* a NaN wins, and stays */
        sizes = vmaxq_f32(sizes, vabsq_f32(load_below_arm_neon(input, i, width)));
    }
    struct fff_quantiser quantiser = fff_make_quantiser(vmaxvq_f32(sizes));
    size_t padded = fff_quantised_width(width);
    memset(quantised + padded - FFF_QUANTISED_STEP, 0, FFF_QUANTISED_STEP);
    for (size_t i = 0; i < width; i += 4) {
        /* inputs may be infinite if the factor is 0 */
        float32x4_t x = quantiser.factor == 0.0f ? vdupq_n_f32(0.0f) : load_below_arm_neon(input, i, width);
        int16x4_t words = vmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(x, quantiser.factor)));
        int8x8_t bytes = vmovn_s16(vcombine_s16(words, words));
        uint32_t four = vget_lane_u32(vreinterpret_u32_s8(bytes), 0);
        memcpy(quantised + i, &four, i + 4 <= width ? 4 : width - i);
    }
    fff_set_scale_of_quantised(quantised, width, quantiser.scale);
}
