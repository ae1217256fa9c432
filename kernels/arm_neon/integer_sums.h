/* Integer sums of the rows of a path, by multiplications of 16-bit words that add to 32 bits. A word holds two columns,
 * the upper byte with sign, the lower one without, so it is used twice: as it is, and shifted by a byte, which leaves
 * the upper column alone. In the end that is taken out of the first sum. 5 instructions for 16 columns of a row, where
 * converting bytes to floats for FMAs took 14; 16 sums of 32 registers. */
#ifndef FFF_KERNELS_ARM_NEON_INTEGER_SUMS_H
#define FFF_KERNELS_ARM_NEON_INTEGER_SUMS_H

#include "kernels/arm_neon/isa.h"
#include "kernels/integer_sums.h"

#include <arm_neon.h>

enum { INTEGER_STEPS = 1, WORDS_OF_STEP = 16 /* registers of sums */ };

FFF_INLINE void quantise_factors(const float *factors, size_t count, struct fff_integer_path *path) {
    fff_quantise_factors(factors, count, path);
}

FFF_INLINE void integer_columns(const struct fff_integer_path *path, size_t column, int steps, bool add, bool stream,
                                float *output) {
    _Static_assert(INTEGER_STEPS == 1, "sums are of one");
    (void)steps;
    (void)stream;
    int32x4_t sums[WORDS_OF_STEP];
    FFF_UNROLL
    for (int v = 0; v < WORDS_OF_STEP; v++) {
        sums[v] = vdupq_n_s32(v % 2 == 0 ? -path->of_offset : 0);
    }
    for (size_t i = 0; i < 2 * path->pairs; i++) {
        const unsigned char *row = path->rows[i] + column;
        FFF_OPAQUE(row);
        int16_t factor = path->factors[i];
        FFF_UNROLL
        for (int lane = 0; lane < 4; lane++) {
            int32x4_t *sum = sums + 4 * lane;
            int16x8_t words = vreinterpretq_s16_u8(vld1q_u8(row + 16 * lane)), upper = vshrq_n_s16(words, 8);
            sum[0] = vmlal_n_s16(sum[0], vget_low_s16(words), factor);
            sum[1] = vmlal_n_s16(sum[1], vget_low_s16(upper), factor);
            sum[2] = vmlal_high_n_s16(sum[2], words, factor);
            sum[3] = vmlal_high_n_s16(sum[3], upper, factor);
        }
    }
    FFF_UNROLL
    for (int v = 0; v < WORDS_OF_STEP; v++) {
        int32x4_t sum = v % 2 == 0 ? vsubq_s32(sums[v], vshlq_n_s32(sums[v + 1], 8)) : sums[v];
        float *to = output + 16 * (v % 4) + 4 * (v / 4);
        vst1q_f32(to, vfmaq_n_f32(add ? vld1q_f32(to) : vdupq_n_f32(0.0f), vcvtq_f32_s32(sum), path->unit));
    }
}

#endif
