/* Tokens of 16 bits to float32, exactly, and results back: to nearest, ties to even. A NaN stays one. The same bits
 * whatever the floating-point environment is. */
#ifndef FFF_TORCH_HALF_H
#define FFF_TORCH_HALF_H

#include <cstddef>
#include <cstdint>
#include <cstring>

#ifdef __x86_64__
#include <immintrin.h>
#endif

namespace {

inline float float_of_bits(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline uint32_t bits_of_float(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

void widen_bf16(const uint16_t *from, size_t count, float *to) {
    for (size_t i = 0; i < count; i++) {
        to[i] = float_of_bits(static_cast<uint32_t>(from[i]) << 16);
    }
}

void round_bf16(const float *from, size_t count, uint16_t *to) {
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = bits_of_float(from[i]);
        uint32_t nan = bits >> 16 | 0x40, rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
        to[i] = static_cast<uint16_t>((bits & 0x7fffffff) > 0x7f800000 ? nan : rounded);
    }
}

/* Integers alone: a multiplication would lose subnormal numbers where they are flushed to zero. */
inline float widen_f16(uint16_t half) {
    uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16, size = half & 0x7fff;
    if (size >= 0x7c00) { /* infinity or NaN */
        return float_of_bits(sign | 0x7f800000 | size << 13 | (size > 0x7c00 ? 0x400000 : 0));
    }
    if (size >= 0x400) {
        return float_of_bits(sign | ((size << 13) + (112 << 23)));
    }
    if (size == 0) {
        return float_of_bits(sign);
    }
    uint32_t shift =
        static_cast<uint32_t>(__builtin_clz(size)) - 8; /* what brings its first bit to a float's hidden one */
    return float_of_bits(sign | (((126 - shift) << 23) + ((size << shift) & 0x7fffff)));
}

inline uint16_t round_f16(float value) {
    uint32_t bits = bits_of_float(value), size = bits & 0x7fffffff;
    auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
    if (size > 0x7f800000) {
        return static_cast<uint16_t>(sign | 0x7e00 | (size >> 13 & 0x3ff));
    }
    if (size >= 0x477ff000) { /* halfway from the largest one to what would be next */
        return static_cast<uint16_t>(sign | 0x7c00);
    }
    if (size >= 0x38800000) {
        return static_cast<uint16_t>(sign | (size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13);
    }
    if (size <= 0x33000000) { /* at most half of the smallest one */
        return sign;
    }
    uint32_t shift = 126 - (size >> 23), mantissa = (size & 0x7fffff) | 0x800000;
    uint32_t half = 1u << (shift - 1);
    return static_cast<uint16_t>(sign | (mantissa + half - 1 + (mantissa >> shift & 1)) >> shift);
}

#ifdef __x86_64__
/* These instructions do not flush what they read or write here to zero, and round as they are told. */
__attribute__((target("avx,f16c"))) size_t widen_f16_some(const uint16_t *from, size_t count, float *to) {
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(from + i))));
    }
    return i;
}

__attribute__((target("avx,f16c"))) size_t round_f16_some(const float *from, size_t count, uint16_t *to) {
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        __m128i halves = _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        _mm_storeu_si128(reinterpret_cast<__m128i *>(to + i), halves);
    }
    return i;
}

inline bool have_f16c() {
    return __builtin_cpu_supports("avx2") != 0; /* which no CPU has without F16C */
}
#else
inline size_t widen_f16_some(const uint16_t *, size_t, float *) {
    return 0;
}
inline size_t round_f16_some(const float *, size_t, uint16_t *) {
    return 0;
}
inline bool have_f16c() {
    return false;
}
#endif

void widen(bool bf16, const uint16_t *from, size_t count, float *to) {
    if (bf16) {
        widen_bf16(from, count, to);
        return;
    }
    for (size_t i = have_f16c() ? widen_f16_some(from, count, to) : 0; i < count; i++) {
        to[i] = widen_f16(from[i]);
    }
}

void narrow(bool bf16, const float *from, size_t count, uint16_t *to) {
    if (bf16) {
        round_bf16(from, count, to);
        return;
    }
    for (size_t i = have_f16c() ? round_f16_some(from, count, to) : 0; i < count; i++) {
        to[i] = round_f16(from[i]);
    }
}

} // namespace

#endif
