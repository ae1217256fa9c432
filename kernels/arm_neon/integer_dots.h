/* Integer dot products. The dot product extension's instruction multiplies 16 bytes by 16 and adds them by fours to 4
 * sums: 12 of them an iteration for a tile, after 7 loads. Without it, two products of bytes fit into 16 bits, as none
 * is -128, and are added to the sums from there. */
#ifndef FFF_KERNELS_ARM_NEON_INTEGER_DOTS_H
#define FFF_KERNELS_ARM_NEON_INTEGER_DOTS_H

#include "kernels/arm_neon/isa.h"

#include <arm_neon.h>

enum { TOKEN_OFFSET = 0, BYTES_AT_ONCE = 16 };
typedef int32x4_t dot_register;
typedef int8x16_t byte_register;

#include "kernels/i8_rows.h"

FFF_INLINE int8x16_t load_token(const unsigned char *at) {
    return vreinterpretq_s8_u8(vld1q_u8(at));
}
FFF_INLINE int8x16_t load_weights(const unsigned char *at) {
    return load_token(at);
}

FFF_INLINE int32x4_t add_products(int32x4_t dots, int8x16_t token, int8x16_t weights) {
#if USE_DOTPROD /* not what the compiler may use: for Macs that is the extension everywhere */
    return vdotq_s32(dots, token, weights);
#else
    int16x8_t products = vmull_s8(vget_low_s8(token), vget_low_s8(weights));
    return vpadalq_s16(dots, vmlal_high_s8(products, token, weights));
#endif
}

FFF_INLINE int32x4_t zero_dots(void) {
    return vdupq_n_s32(0);
}
FFF_INLINE int32x4_t add_dots(int32x4_t a, int32x4_t b) {
    return vaddq_s32(a, b);
}

FFF_INLINE void store_dots(const int32x4_t *registers, int count, int32_t *dots) {
    FFF_UNROLL
    for (int i = 0; i < count; i++) {
        dots[i] = vaddvq_s32(registers[i]);
    }
}

#endif
