/* Integer dot products. A VNNI instruction multiplies 64 bytes without sign, a token's, which are offset by 128 for it,
 * by 64 with sign, a row's, and adds them by fours to 16 sums: 12 of them an iteration for a tile, after 7 loads, so
 * arithmetic bounds it. Without it bytes are widened to 16 bits first; vpmaddubsw would saturate. */
#ifndef FFF_KERNELS_X86_AVX512_INTEGER_DOTS_H
#define FFF_KERNELS_X86_AVX512_INTEGER_DOTS_H

#include "kernels/x86_avx512/isa.h"

enum { TOKEN_OFFSET = 128 };
typedef __m512i dot_register, byte_register;
#if USE_VNNI
enum { BYTES_AT_ONCE = 64 };
#else
enum { BYTES_AT_ONCE = 32 };
#endif

#include "kernels/i8_rows.h"

#if USE_VNNI
FFF_INLINE __m512i load_token(const unsigned char *at) {
    return _mm512_load_si512(at);
}
FFF_INLINE __m512i load_weights(const unsigned char *at) {
    return _mm512_loadu_si512(at);
}
FFF_INLINE __m512i add_products(__m512i dots, __m512i token, __m512i weights) {
    return _mm512_dpbusd_epi32(dots, token, weights);
}
#else
FFF_INLINE __m512i load_token(const unsigned char *at) {
    return _mm512_cvtepu8_epi16(_mm256_load_si256((const __m256i *)(const void *)at));
}
FFF_INLINE __m512i load_weights(const unsigned char *at) {
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)at));
}
FFF_INLINE __m512i add_products(__m512i dots, __m512i token, __m512i weights) {
    return _mm512_add_epi32(dots, _mm512_madd_epi16(token, weights));
}
#endif

FFF_INLINE __m512i zero_dots(void) {
    return _mm512_setzero_si512();
}
FFF_INLINE __m512i add_dots(__m512i a, __m512i b) {
    return _mm512_add_epi32(a, b);
}

/* The sums of four registers each. */
static inline __m128i add_lanes_of_four_x86_avx512(const __m512i sums[4]) {
    __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(sums[0], sums[1]), _mm512_unpackhi_epi32(sums[0], sums[1]));
    __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(sums[2], sums[3]), _mm512_unpackhi_epi32(sums[2], sums[3]));
    /* a b a b and c d c d in each 128 bits */
    __m512i all = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    __m256i eight = _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
}

FFF_INLINE void store_dots(const __m512i *registers, int count, int32_t *dots) {
    if (count == 1) {
        dots[0] = _mm512_reduce_add_epi32(registers[0]);
        return;
    }
    FFF_UNROLL
    for (int i = 0; i < count; i += 4) {
        _mm_storeu_si128((__m128i *)(void *)(dots + i), add_lanes_of_four_x86_avx512(registers + i));
    }
}

#endif
