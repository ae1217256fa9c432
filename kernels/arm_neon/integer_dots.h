/* Integer dot products. The dot product extension's instruction multiplies 16 bytes by 16 and adds them by fours to 4
 * sums: 12 of them an iteration for a tile, after 7 loads. Without it, two products of bytes fit into 16 bits, as none
 * is -128, and are added to the sums from there. */
#ifndef FFF_KERNELS_ARM_NEON_INTEGER_DOTS_H
#define FFF_KERNELS_ARM_NEON_INTEGER_DOTS_H

#include "kernels/arm_neon/isa.h"

enum { TOKEN_OFFSET = 0 };

#include "kernels/i8_rows.h"

enum { MOST_CHAINS = 12, BYTES_AT_ONCE = 16 };

FFF_INLINE int8x16_t load_bytes_arm_neon(const unsigned char *at) {
    return vreinterpretq_s8_u8(vld1q_u8(at));
}

/* sum + 16 products of bytes. */
FFF_INLINE int32x4_t add_products_arm_neon(int32x4_t sum, int8x16_t token, int8x16_t row) {
#ifdef __ARM_FEATURE_DOTPROD
    _Static_assert(USE_DOTPROD, "no other file is compiled for the extension");
    return vdotq_s32(sum, token, row);
#else
    int16x8_t products = vmull_s8(vget_low_s8(token), vget_low_s8(row));
    return vpadalq_s16(sum, vmlal_high_s8(products, token, row));
#endif
}

FFF_INLINE void integer_dots(int rows, int tokens, const unsigned char *const *weights,
                             const unsigned char *const *input, const unsigned char *const *ahead, size_t bytes,
                             int32_t *dots) {
    int pairs = rows * tokens, chains = pairs > INTEGER_TOKENS ? 1 : pairs > 1 ? 2 : 4; /* of each pair */
    int32x4_t sums[MOST_CHAINS];
    FFF_UNROLL
    for (int i = 0; i < pairs * chains; i++) {
        sums[i] = vdupq_n_s32(0);
    }
    _Static_assert(FFF_QUANTISED_STEP % (4 * BYTES_AT_ONCE) == 0, "steps are whole");
    size_t step = BYTES_AT_ONCE * (size_t)chains;
    for (size_t at = 0; at < bytes; at += step) {
        FFF_UNROLL
        for (int c = 0; c < chains; c++) {
            int8x16_t row[FFF_DOT_TILE_ROWS];
            FFF_UNROLL
            for (int r = 0; r < rows; r++) {
                row[r] = load_bytes_arm_neon(weights[r] + at + BYTES_AT_ONCE * c);
            }
            FFF_UNROLL
            for (int t = 0; t < tokens; t++) {
                int8x16_t token = load_bytes_arm_neon(input[t] + at + BYTES_AT_ONCE * c);
                FFF_UNROLL
                for (int r = 0; r < rows; r++) {
                    int32x4_t *sum = &sums[c * pairs + r * tokens + t];
                    *sum = add_products_arm_neon(*sum, token, row[r]);
                }
            }
        }
        if (ahead != NULL && at % 64 == 0) {
            FFF_UNROLL
            for (int t = 0; t < tokens; t++) {
                __builtin_prefetch(ahead[t] + at, 0, 2);
            }
        }
    }
    FFF_UNROLL
    for (int i = 0; i < pairs; i++) {
        FFF_UNROLL
        for (int c = 1; c < chains; c++) {
            sums[i] = vaddq_s32(sums[i], sums[c * pairs + i]);
        }
        dots[i] = vaddvq_s32(sums[i]);
    }
}

#endif
