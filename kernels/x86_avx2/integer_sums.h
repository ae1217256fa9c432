/* Integer sums of the rows of a path, two rows at a time: their 16-bit words, side by side, times two factors, are
 * added by vpmaddwd and an addition, or by one VNNI instruction. A word holds two columns, the upper byte with sign,
 * the lower one without, so it is used twice: as it is, and shifted by a byte, which leaves the upper column alone. In
 * the end that is taken out of the first sum. 12 instructions (8) for 32 columns of two rows, where converting bytes to
 * floats for FMAs took 24; 8 sums of 16 registers. */
#ifndef FFF_KERNELS_X86_AVX2_INTEGER_SUMS_H
#define FFF_KERNELS_X86_AVX2_INTEGER_SUMS_H

#include "kernels/integer_sums.h"
#include "kernels/x86_avx2/isa.h"

enum { INTEGER_STEPS = 1, WORDS_OF_STEP = 8 /* registers of sums */ };

FFF_INLINE void quantise_factors(const float *factors, size_t count, struct fff_integer_path *path) {
    fff_quantise_factors(factors, count, path);
}

/* sum + 8 times two products. */
FFF_INLINE __m256i add_words_x86_avx2(__m256i sum, __m256i words, __m256i factors) {
#if defined(USE_VNNI) && USE_VNNI
    return _mm256_dpwssd_avx_epi32(sum, words, factors);
#else
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(words, factors));
    __asm__("" : "+x"(sum)); /* or gcc mixes all eight, and moves them from register to register */
    return sum;
#endif
}

/* Adds a pair of rows. */
FFF_INLINE void add_pair_x86_avx2(const struct fff_integer_path *path, size_t pair, size_t column, __m256i *sums) {
    const unsigned char *first = path->rows[2 * pair] + column, *second = path->rows[2 * pair + 1] + column;
    FFF_OPAQUE(first);
    FFF_OPAQUE(second);
    int32_t both;
    memcpy(&both, &path->factors[2 * pair], sizeof both);
    __m256i factors = _mm256_set1_epi32(both);
    FFF_UNROLL
    for (int half = 0; half < 2; half++) {
        __m256i *sum = sums + WORDS_OF_STEP / 2 * half;
        __m256i a = _mm256_loadu_si256((const __m256i *)(const void *)(first + 32 * half));
        __m256i b = _mm256_loadu_si256((const __m256i *)(const void *)(second + 32 * half));
        __m256i low = _mm256_unpacklo_epi16(a, b), high = _mm256_unpackhi_epi16(a, b);
        sum[0] = add_words_x86_avx2(sum[0], low, factors);
        sum[1] = add_words_x86_avx2(sum[1], _mm256_srai_epi16(low, 8), factors);
        sum[2] = add_words_x86_avx2(sum[2], high, factors);
        sum[3] = add_words_x86_avx2(sum[3], _mm256_srai_epi16(high, 8), factors);
    }
}

FFF_INLINE void integer_columns(const struct fff_integer_path *path, size_t column, int steps, bool add, bool stream,
                                float *output) {
    _Static_assert(INTEGER_STEPS == 1, "sums are of one");
    (void)steps;
    __m256i sums[WORDS_OF_STEP];
    FFF_UNROLL
    for (int v = 0; v < WORDS_OF_STEP; v++) {
        sums[v] = v % 2 == 0 ? _mm256_set1_epi32(-path->of_offset) : _mm256_setzero_si256();
    }
    for (size_t pair = 0; pair < path->pairs; pair++) {
        add_pair_x86_avx2(path, pair, column, sums);
    }
    __m256 unit = _mm256_set1_ps(path->unit);
    FFF_UNROLL
    for (int v = 0; v < WORDS_OF_STEP; v++) {
        __m256i sum = v % 2 == 0 ? _mm256_sub_epi32(sums[v], _mm256_slli_epi32(sums[v + 1], 8)) : sums[v];
        float *to = output + 16 * (v % 4) + 8 * (v / 4);
        __m256 y = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), unit, add ? _mm256_loadu_ps(to) : _mm256_setzero_ps());
        if (stream) {
            _mm256_stream_ps(to, y);
        } else {
            _mm256_storeu_ps(to, y);
        }
    }
}

#endif
