/* erf(z / sqrt 2), for activations and their derivatives: each coefficient is looked up by one table instruction, a row
 * being two registers. */
#ifndef FFF_KERNELS_ARM_NEON_ERF_H
#define FFF_KERNELS_ARM_NEON_ERF_H

#include "kernels/arm_neon/isa.h"
#include "kernels/erf_f32.h"

/* Of a table's row, the four bytes of each lane's entry. */
static inline float32x4_t look_up_arm_neon(uint8x16_t bytes, const float row[FFF_ERF_INTERVALS]) {
    uint8x16x2_t table = {{vreinterpretq_u8_f32(vld1q_f32(row)), vreinterpretq_u8_f32(vld1q_f32(row + 4))}};
    return vreinterpretq_f32_u8(vqtbl2q_u8(table, bytes));
}

static inline float32x4_t gelu_erf_arm_neon(float32x4_t z) {
    float32x4_t distance = vminq_f32(vabsq_f32(z), vdupq_n_f32(FFF_ERF_END)); /* a NaN stays a NaN */
    float32x4_t shifted = vfmaq_f32(vdupq_n_f32(FFF_ERF_SHIFTER), distance, vdupq_n_f32(FFF_ERF_SCALE));
    uint32x4_t intervals =
        vandq_u32(vshrq_n_u32(vreinterpretq_u32_f32(shifted), FFF_ERF_SHIFT), vdupq_n_u32(FFF_ERF_INTERVALS - 1));
    /* Interval k begins at byte 4 k: the bytes of a lane are 4 k + 0, 1, 2, 3. */
    uint8x16_t bytes = vreinterpretq_u8_u32(vmlaq_u32(vdupq_n_u32(0x03020100), intervals, vdupq_n_u32(0x04040404)));
    float32x4_t v = vsubq_f32(distance, look_up_arm_neon(bytes, FFF_ERF.centre));
    float32x4_t p = look_up_arm_neon(bytes, FFF_ERF.factors[FFF_ERF_FACTORS - 1]);
    FFF_UNROLL
    for (size_t i = FFF_ERF_FACTORS - 1; i-- > 0;) {
        p = vfmaq_f32(look_up_arm_neon(bytes, FFF_ERF.factors[i]), p, v);
    }
    uint32x4_t first = vcltq_f32(shifted, vdupq_n_f32(FFF_ERF_FIRST));
    float32x4_t base = vbslq_f32(first, distance, look_up_arm_neon(bytes, FFF_ERF.base));
    return vbslq_f32(vdupq_n_u32(0x80000000), z, vfmaq_f32(base, p, v));
}

#endif
