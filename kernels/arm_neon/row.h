/* Weights of a row as floats: the one place of this folder that knows their type. */
#ifndef FFF_KERNELS_ARM_NEON_ROW_H
#define FFF_KERNELS_ARM_NEON_ROW_H

#include "kernels/row.h"

#include <arm_neon.h>

/* Register `v` of 4 weights, counted from where row_offset() points, in that half of a step. */
FFF_INLINE float32x4_t load_row(const unsigned char *at, int v, int half) {
    switch (ROW_TYPE) {
    case FFF_WEIGHT_BF16: {
        int in_step = v % 8;
        uint32x4_t pairs = vreinterpretq_u32_u8(vld1q_u8(at + 64 * (v / 8) + 16 * (in_step % 4)));
        return vreinterpretq_f32_u32((in_step / 4 + half) % 2 == 0 ? vshlq_n_u32(pairs, 16)
                                                                   : vandq_u32(pairs, vdupq_n_u32(0xffff0000)));
    }
    case FFF_WEIGHT_F16: return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(at + 8 * v)));
    case FFF_WEIGHT_I8: {
        uint32_t four;
        memcpy(&four, at + 4 * v, sizeof four);
        return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u32(vdup_n_u32(four))))));
    }
    case FFF_WEIGHT_F32: break;
    }
    return vreinterpretq_f32_u8(vld1q_u8(at + 16 * v));
}

#endif
