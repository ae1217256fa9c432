/* Integer dot products. A VNNI instruction multiplies 64 bytes without sign, a token's, which are offset by 128 for it,
 * by 64 with sign, a row's, and adds them by fours to 16 sums: 12 of them an iteration for a tile, after 7 loads, so
 * arithmetic bounds it. Without it bytes are widened to 16 bits first; vpmaddubsw would saturate. */
#ifndef FFF_KERNELS_X86_AVX512_INTEGER_DOTS_H
#define FFF_KERNELS_X86_AVX512_INTEGER_DOTS_H

#include "kernels/x86_avx512/isa.h"

enum { TOKEN_OFFSET = 128 };

#include "kernels/i8_rows.h"

enum { MOST_CHAINS = 12 };

/* sum + 64 products of bytes. */
FFF_INLINE __m512i add_products_x86_avx512(__m512i sum, const unsigned char *token, const unsigned char *row) {
#ifdef __AVX512VNNI__
    if (USE_VNNI) {
        return _mm512_dpbusd_epi32(sum, _mm512_load_si512(token), _mm512_loadu_si512(row));
    }
#endif
    FFF_UNROLL
    for (int half = 0; half < 64; half += 32) {
        __m512i x = _mm512_cvtepu8_epi16(_mm256_load_si256((const __m256i *)(const void *)(token + half)));
        __m512i w = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)(row + half)));
        sum = _mm512_add_epi32(sum, _mm512_madd_epi16(x, w));
    }
    return sum;
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

FFF_INLINE void integer_dots(int rows, int tokens, const unsigned char *const *weights,
                             const unsigned char *const *input, const unsigned char *const *ahead, size_t bytes,
                             int32_t *dots) {
    int pairs = rows * tokens, chains = pairs > INTEGER_TOKENS ? 1 : pairs > 1 ? 2 : 4; /* of each pair */
    __m512i sums[MOST_CHAINS];
    FFF_UNROLL
    for (int i = 0; i < pairs * chains; i++) {
        sums[i] = _mm512_setzero_si512();
    }
    size_t at = 0;
    for (; at + 64 * (size_t)chains <= bytes; at += 64 * (size_t)chains) {
        FFF_UNROLL
        for (int c = 0; c < chains; c++) {
            FFF_UNROLL
            for (int i = 0; i < pairs; i++) {
                sums[c * pairs + i] = add_products_x86_avx512(sums[c * pairs + i], input[i % tokens] + at + 64 * c,
                                                              weights[i / tokens] + at + 64 * c);
            }
            if (ahead != NULL) {
                FFF_UNROLL
                for (int t = 0; t < tokens; t++) {
                    __builtin_prefetch(ahead[t] + at + 64 * c, 0, 2);
                }
            }
        }
    }
    for (; at < bytes; at += 64) {
        FFF_UNROLL
        for (int i = 0; i < pairs; i++) {
            sums[i] = add_products_x86_avx512(sums[i], input[i % tokens] + at, weights[i / tokens] + at);
        }
    }
    FFF_UNROLL
    for (int c = 1; c < chains; c++) {
        FFF_UNROLL
        for (int i = 0; i < pairs; i++) {
            sums[i] = _mm512_add_epi32(sums[i], sums[c * pairs + i]);
        }
    }
    if (pairs == 1) {
        dots[0] = _mm512_reduce_add_epi32(sums[0]);
        return;
    }
    FFF_UNROLL
    for (int i = 0; i < pairs; i += 4) {
        _mm_storeu_si128((__m128i *)(void *)(dots + i), add_lanes_of_four_x86_avx512(sums + i));
    }
}

#endif
