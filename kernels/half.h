/* bfloat16 and float16 in plain C: as the generic kernels read them, and as layers, inputs and outputs are converted.
 * IEEE 754 binary16; bfloat16 is the upper half of a binary32. Rounding is to nearest, ties to even; a NaN stays a
 * quiet one. Defines nothing with external linkage. */
#ifndef FFF_KERNELS_HALF_H
#define FFF_KERNELS_HALF_H

#include <stdint.h>
#include <string.h>

static inline uint16_t fff_load_u16(const void *from) {
    uint16_t bits;
    memcpy(&bits, from, sizeof bits);
    return bits;
}

static inline float fff_float_of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t fff_bits_of_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float fff_widen_bf16(uint16_t bits) {
    return fff_float_of_bits((uint32_t)bits << 16);
}

static inline uint16_t fff_round_bf16(float value) {
    uint32_t bits = fff_bits_of_float(value);
    if ((bits & 0x7fffffff) > 0x7f800000) {
        return (uint16_t)(bits >> 16 | 0x40);
    }
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* Moved into a float's place, a binary16's exponent is 112 too small; a multiplication puts it right, subnormal ones
 * included, and exactly. */
static inline float fff_widen_f16(uint16_t bits) {
    uint32_t sign = (uint32_t)(bits & 0x8000) << 16, size = (uint32_t)(bits & 0x7fff) << 13;
    if ((bits & 0x7c00) == 0x7c00) { /* infinity or NaN, which becomes quiet */
        uint32_t quiet = (bits & 0x3ff) != 0 ? 0x400000 : 0;
        return fff_float_of_bits(sign | 0x7f800000 | size | quiet);
    }
    return fff_float_of_bits(sign | fff_bits_of_float(fff_float_of_bits(size) * 0x1p112f));
}

/* What overflows becomes infinite. */
static inline uint16_t fff_round_f16(float value) {
    uint32_t bits = fff_bits_of_float(value), size = bits & 0x7fffffff;
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    if (size > 0x7f800000) {
        return (uint16_t)(sign | 0x7e00 | (size >> 13 & 0x3ff));
    }
    if (size >= 0x477ff000) { /* 65520, halfway from the largest one to what would be next */
        return (uint16_t)(sign | 0x7c00);
    }
    if (size < 0x38800000) { /* subnormal: the addition rounds at 2^-24, which is then the last bit */
        uint32_t rounded = fff_bits_of_float(fff_float_of_bits(size) + 0.5f);
        return (uint16_t)(sign | (rounded - 0x3f000000));
    }
    return (uint16_t)(sign | ((size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13));
}

#endif
