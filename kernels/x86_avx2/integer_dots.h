/* Integer dot products. AVX-VNNI's instruction multiplies 32 bytes without sign, a token's, which are offset by 128 for
 * it, by 32 with sign, a row's, and adds them by fours to 8 sums: 12 of them an iteration for a tile, after 7 loads.
 * Without it bytes are widened to 16 bits first; vpmaddubsw would saturate. */
#ifndef FFF_KERNELS_X86_AVX2_INTEGER_DOTS_H
#define FFF_KERNELS_X86_AVX2_INTEGER_DOTS_H

#include "kernels/x86_avx2/isa.h"

enum { TOKEN_OFFSET = 128 };

#include "kernels/i8_rows.h"

enum { MOST_CHAINS = 12 };

/* As many bytes of a token or of a row as one instruction takes, ready for it. */
#ifdef __AVXVNNI__
enum { BYTES_AT_ONCE = 32 };
_Static_assert(USE_VNNI, "no other file is compiled for AVX-VNNI");
FFF_INLINE __m256i token_bytes(const unsigned char *at) {
    return _mm256_load_si256((const __m256i *)(const void *)at);
}
FFF_INLINE __m256i row_bytes(const unsigned char *at) {
    return _mm256_loadu_si256((const __m256i *)(const void *)at);
}
FFF_INLINE __m256i add_products(__m256i sum, __m256i token, __m256i row) {
    return _mm256_dpbusd_avx_epi32(sum, token, row);
}
#else
enum { BYTES_AT_ONCE = 16 };
FFF_INLINE __m256i token_bytes(const unsigned char *at) {
    return _mm256_cvtepu8_epi16(_mm_load_si128((const __m128i *)(const void *)at));
}
FFF_INLINE __m256i row_bytes(const unsigned char *at) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)at));
}
FFF_INLINE __m256i add_products(__m256i sum, __m256i token, __m256i row) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(token, row));
}
#endif

/* The sums of four registers each. */
static inline __m128i add_lanes_of_four_x86_avx2(const __m256i sums[4]) {
    __m256i ab = _mm256_hadd_epi32(sums[0], sums[1]), cd = _mm256_hadd_epi32(sums[2], sums[3]);
    __m256i all = _mm256_hadd_epi32(ab, cd); /* a b c d in each 128 bits */
    return _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
}

FFF_INLINE void integer_dots(int rows, int tokens, const unsigned char *const *weights,
                             const unsigned char *const *input, const unsigned char *const *ahead, size_t bytes,
                             int32_t *dots) {
    int pairs = rows * tokens, chains = pairs > INTEGER_TOKENS ? 1 : pairs > 1 ? 2 : 4; /* of each pair */
    __m256i sums[MOST_CHAINS];
    FFF_UNROLL
    for (int i = 0; i < pairs * chains; i++) {
        sums[i] = _mm256_setzero_si256();
    }
    _Static_assert(FFF_QUANTISED_STEP % (4 * BYTES_AT_ONCE) == 0 || BYTES_AT_ONCE == 32, "steps are whole");
    size_t step = BYTES_AT_ONCE * (size_t)chains, at = 0;
    for (; at + step <= bytes; at += step) {
        FFF_UNROLL
        for (int c = 0; c < chains; c++) {
            __m256i row[FFF_DOT_TILE_ROWS];
            FFF_UNROLL
            for (int r = 0; r < rows; r++) {
                row[r] = row_bytes(weights[r] + at + BYTES_AT_ONCE * c);
            }
            FFF_UNROLL
            for (int t = 0; t < tokens; t++) {
                __m256i token = token_bytes(input[t] + at + BYTES_AT_ONCE * c);
                FFF_UNROLL
                for (int r = 0; r < rows; r++) {
                    __m256i *sum = &sums[c * pairs + r * tokens + t];
                    *sum = add_products(*sum, token, row[r]);
                }
            }
            if (ahead != NULL && at % 64 == 0) {
                FFF_UNROLL
                for (int t = 0; t < tokens; t++) {
                    __builtin_prefetch(ahead[t] + at, 0, 2);
                }
            }
        }
    }
    for (; at < bytes; at += BYTES_AT_ONCE) { /* of a single pair */
        sums[0] = add_products(sums[0], token_bytes(input[0] + at), row_bytes(weights[0] + at));
    }
    FFF_UNROLL
    for (int c = 1; c < chains; c++) {
        FFF_UNROLL
        for (int i = 0; i < pairs; i++) {
            sums[i] = _mm256_add_epi32(sums[i], sums[c * pairs + i]);
        }
    }
    if (pairs == 1) {
        const __m256i one[4] = {sums[0], _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256()};
        dots[0] = _mm_cvtsi128_si32(add_lanes_of_four_x86_avx2(one));
        return;
    }
    FFF_UNROLL
    for (int i = 0; i < pairs; i += 4) {
        _mm_storeu_si128((__m128i *)(void *)(dots + i), add_lanes_of_four_x86_avx2(sums + i));
    }
}

#endif
