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

/* A float32 row's registers from column `start` on, zeros from its width `end` on, behind which nothing is read. Of a
 * register that is incomplete, the last 4 columns are loaded, and moved down: places beyond a table are zeros. */
FFF_INLINE float32x4_t load_row_below(const unsigned char *row, size_t start, size_t end) {
    static const uint8_t PLACES[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    if (start >= end) {
        return vdupq_n_f32(0.0f);
    }
    if (start + 4 <= end) {
        return vreinterpretq_f32_u8(vld1q_u8(row + 4 * start));
    }
    if (end < 4) {
        float padded[4] = {0};
        memcpy(padded, row, 4 * end);
        return vld1q_f32(padded);
    }
    uint8x16_t from = vaddq_u8(vld1q_u8(PLACES), vdupq_n_u8((uint8_t)(16 - 4 * (end - start))));
    return vreinterpretq_f32_u8(vqtbl1q_u8(vld1q_u8(row + 4 * (end - 4)), from));
}

/* Register `v` of `vectors` of a row, `at` being where its columns from `column` on begin. A single one may reach
 * beyond the row: what is there is not stored, so that it may be loaded, too, if there is memory. */
FFF_INLINE float32x4_t load_output_row(const unsigned char *at, size_t column, size_t width, int v, int vectors,
                                       int half) {
    return ROW_READS_EXACTLY && vectors == 1 ? load_row_below(at - row_offset(column), column, width)
                                             : load_row(at, v, half);
}

#endif
