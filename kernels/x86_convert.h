/* bfloat16 and float16 to float32 and back, 8 at once, for both folders for x86: memory bounds it. Everything here is
 * inlined into the functions that use it; no copy is left to the linker. */
#ifndef FFF_KERNELS_X86_CONVERT_H
#define FFF_KERNELS_X86_CONVERT_H

#include "kernels/half.h"
#include "kernels/toolbox.h"

#include <immintrin.h>

FFF_INLINE __m256 widen_8(fff_weight_type type, __m128i halves) {
    return type == FFF_WEIGHT_BF16 ? _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16))
                                   : _mm256_cvtph_ps(halves);
}

/* fff_round_bf16() of 8. */
FFF_INLINE __m128i narrow_8_to_bf16(__m256 floats) {
    __m256i bits = _mm256_castps_si256(floats), upper = _mm256_srli_epi32(bits, 16);
    __m256i even = _mm256_and_si256(upper, _mm256_set1_epi32(1));
    __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(even, _mm256_set1_epi32(0x7fff))), 16);
    __m256i quiet = _mm256_or_si256(upper, _mm256_set1_epi32(0x40));
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(floats, floats, _CMP_UNORD_Q));
    __m256i words = _mm256_blendv_epi8(rounded, quiet, nan);
    return _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

FFF_INLINE __m128i narrow_8(fff_weight_type type, __m256 floats) {
    return type == FFF_WEIGHT_BF16 ? narrow_8_to_bf16(floats) : _mm256_cvtps_ph(floats, _MM_FROUND_TO_NEAREST_INT);
}

/* The last ones go through memory of their own. */
FFF_INLINE void widen_all(fff_weight_type type, size_t count, const uint16_t *halves, float *floats) {
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        _mm256_storeu_ps(floats + i, widen_8(type, _mm_loadu_si128((const __m128i *)(const void *)(halves + i))));
    }
    if (i < count) {
        uint16_t last[8] = {0};
        float widened[8];
        memcpy(last, halves + i, (count - i) * sizeof *last);
        _mm256_storeu_ps(widened, widen_8(type, _mm_loadu_si128((const __m128i *)(const void *)last)));
        memcpy(floats + i, widened, (count - i) * sizeof *widened);
    }
}

FFF_INLINE void narrow_all(fff_weight_type type, size_t count, const float *floats, uint16_t *halves) {
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        _mm_storeu_si128((__m128i *)(void *)(halves + i), narrow_8(type, _mm256_loadu_ps(floats + i)));
    }
    if (i < count) {
        float last[8] = {0};
        uint16_t narrowed[8];
        memcpy(last, floats + i, (count - i) * sizeof *last);
        _mm_storeu_si128((__m128i *)(void *)narrowed, narrow_8(type, _mm256_loadu_ps(last)));
        memcpy(halves + i, narrowed, (count - i) * sizeof *narrowed);
    }
}

/* With constants for the types. */
FFF_INLINE void widen_type(fff_weight_type type, size_t count, const uint16_t *halves, float *floats) {
    if (type == FFF_WEIGHT_BF16) {
        widen_all(FFF_WEIGHT_BF16, count, halves, floats);
    } else {
        widen_all(FFF_WEIGHT_F16, count, halves, floats);
    }
}

FFF_INLINE void narrow_type(fff_weight_type type, size_t count, const float *floats, uint16_t *halves) {
    if (type == FFF_WEIGHT_BF16) {
        narrow_all(FFF_WEIGHT_BF16, count, floats, halves);
    } else {
        narrow_all(FFF_WEIGHT_F16, count, floats, halves);
    }
}

#endif
