/* Integer dot products. AVX-VNNI's instruction multiplies 32 bytes without sign, a token's, which are offset by 128 for
 * it, by 32 with sign, a row's, and adds them by fours to 8 sums: 12 of them an iteration for a tile, after 7 loads.
 * Without it bytes are widened to 16 bits first; vpmaddubsw would saturate. */
#ifndef FFF_KERNELS_X86_AVX2_INTEGER_DOTS_H
#define FFF_KERNELS_X86_AVX2_INTEGER_DOTS_H

#include "kernels/x86_avx2/isa.h"

enum { TOKEN_OFFSET = 128 };
typedef __m256i dot_register, byte_register;
#if USE_VNNI
enum { BYTES_AT_ONCE = 32 };
#else
enum { BYTES_AT_ONCE = 16 };
#endif

#include "kernels/i8_rows.h"

#if USE_VNNI
FFF_INLINE __m256i load_token(const unsigned char *at) {
    return _mm256_load_si256((const __m256i *)(const void *)at);
}
FFF_INLINE __m256i load_weights(const unsigned char *at) {
    return _mm256_loadu_si256((const __m256i *)(const void *)at);
}
FFF_INLINE __m256i add_products(__m256i dots, __m256i token, __m256i weights) {
    return _mm256_dpbusd_avx_epi32(dots, token, weights);
}
#else
FFF_INLINE __m256i load_token(const unsigned char *at) {
    return _mm256_cvtepu8_epi16(_mm_load_si128((const __m128i *)(const void *)at));
}
FFF_INLINE __m256i load_weights(const unsigned char *at) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)at));
}
FFF_INLINE __m256i add_products(__m256i dots, __m256i token, __m256i weights) {
    return _mm256_add_epi32(dots, _mm256_madd_epi16(token, weights));
}
#endif

FFF_INLINE __m256i zero_dots(void) {
    return _mm256_setzero_si256();
}
FFF_INLINE __m256i add_dots(__m256i a, __m256i b) {
    return _mm256_add_epi32(a, b);
}

/* The sums of four registers each. */
static inline __m128i add_lanes_of_four_x86_avx2(const __m256i sums[4]) {
    __m256i ab = _mm256_hadd_epi32(sums[0], sums[1]), cd = _mm256_hadd_epi32(sums[2], sums[3]);
    __m256i all = _mm256_hadd_epi32(ab, cd); /* a b c d in each 128 bits */
    return _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
}

FFF_INLINE void store_dots(const __m256i *registers, int count, int32_t *dots) {
    if (count == 1) {
        const __m256i none = _mm256_setzero_si256(), one[4] = {registers[0], none, none, none};
        dots[0] = _mm_cvtsi128_si32(add_lanes_of_four_x86_avx2(one));
        return;
    }
    FFF_UNROLL
    for (int i = 0; i < count; i += 4) {
        _mm_storeu_si128((__m128i *)(void *)(dots + i), add_lanes_of_four_x86_avx2(registers + i));
    }
}

#endif
