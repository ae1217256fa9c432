/* bfloat16 and float16 to float32 and back, 4 at once; the last ones one by one. */
#include "kernels/arm_neon/isa.h"
#include "kernels/half.h"

void fff_widen_arm_neon(fff_weight_type type, size_t count, const uint16_t *halves, float *floats) {
    size_t i = 0;
    for (; i + 4 <= count; i += 4) {
        uint16x4_t four = vld1_u16(halves + i);
        vst1q_f32(floats + i, type == FFF_WEIGHT_BF16 ? vreinterpretq_f32_u32(vshll_n_u16(four, 16))
                                                      : vcvt_f32_f16(vreinterpret_f16_u16(four)));
    }
    for (; i < count; i++) {
        floats[i] = type == FFF_WEIGHT_BF16 ? fff_widen_bf16(halves[i]) : fff_widen_f16(halves[i]);
    }
}

/* fff_round_bf16() of 4. */
static inline uint16x4_t narrow_4_to_bf16_arm_neon(float32x4_t floats) {
    uint32x4_t bits = vreinterpretq_u32_f32(floats);
    uint32x4_t even = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    uint32x4_t rounded = vaddq_u32(bits, vaddq_u32(even, vdupq_n_u32(0x7fff)));
    uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
    return vshrn_n_u32(vbslq_u32(vceqq_f32(floats, floats), rounded, quiet), 16);
}

void fff_narrow_arm_neon(fff_weight_type type, size_t count, const float *floats, uint16_t *halves) {
    size_t i = 0;
    for (; i + 4 <= count; i += 4) {
        float32x4_t four = vld1q_f32(floats + i);
        vst1_u16(halves + i,
                 type == FFF_WEIGHT_BF16 ? narrow_4_to_bf16_arm_neon(four) : vreinterpret_u16_f16(vcvt_f16_f32(four)));
    }
    for (; i < count; i++) {
        halves[i] = type == FFF_WEIGHT_BF16 ? fff_round_bf16(floats[i]) : fff_round_f16(floats[i]);
    }
}
