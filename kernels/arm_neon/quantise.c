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

/* 16 integers. */
static inline int8x16_t quantise_16_arm_neon(const float *x, float factor) {
    int16x4_t words[4];
    FFF_UNROLL
    for (int v = 0; v < 4; v++) {
        words[v] = vmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 4 * v), factor)));
    }
    return vcombine_s8(vmovn_s16(vcombine_s16(words[0], words[1])), vmovn_s16(vcombine_s16(words[2], words[3])));
}

void fff_quantise_arm_neon(size_t width, const float *input, unsigned char *quantised) {
    float32x4_t sizes = vdupq_n_f32(0.0f);
    for (size_t i = 0; i < width; i += 4) { /* a NaN wins, and stays */
        sizes = vmaxq_f32(sizes, vabsq_f32(load_below_arm_neon(input, i, width)));
    }
    struct fff_quantiser quantiser = fff_make_quantiser(vmaxvq_f32(sizes), FFF_QUANTISED_MOST);
    memset(quantised, 0, quantiser.factor == 0.0f ? width : 0); /* inputs may be infinite then */
    size_t i = 0;
    for (; i + 16 <= width && quantiser.factor > 0.0f; i += 16) {
        vst1q_s8((int8_t *)quantised + i, quantise_16_arm_neon(input + i, quantiser.factor));
    }
    if (i < width && quantiser.factor > 0.0f) {
        float last[16] = {0};
        int8_t bytes[16];
        memcpy(last, input + i, (width - i) * sizeof *last);
        vst1q_s8(bytes, quantise_16_arm_neon(last, quantiser.factor));
        memcpy(quantised + i, bytes, width - i);
    }
    memset(quantised + width, 0, fff_quantised_width(width) - width);
    fff_set_scale_of_quantised(quantised, width, quantiser.scale);
}
