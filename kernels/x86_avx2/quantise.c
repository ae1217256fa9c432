/* A token for I8 rows: kernels/generic/quantise.c with another form of its integers, which are offset by 128 and so
 * have no sign, as the VNNI instruction wants one of its factors. Padding is zero bytes, which add nothing to a sum. */
#include "kernels/half.h"
#include "kernels/x86_avx2/isa.h"

/* As bits: x86_avx512/quantise.c explains. */
static inline float largest_size_x86_avx2(size_t width, const float *input) {
    const __m256i no_sign = _mm256_set1_epi32(0x7fffffff);
    __m256i largest[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    size_t i = 0;
    for (; i + 16 <= width; i += 16) {
        FFF_UNROLL
        for (int v = 0; v < 2; v++) {
            __m256i bits = _mm256_castps_si256(_mm256_loadu_ps(input + i + 8 * v));
            largest[v] = _mm256_max_epu32(largest[v], _mm256_and_si256(bits, no_sign));
        }
    }
    for (; i < width; i += 8) {
        __m256i bits = _mm256_castps_si256(load_below_x86_avx2(input, i, width));
        largest[0] = _mm256_max_epu32(largest[0], _mm256_and_si256(bits, no_sign));
    }
    __m256i eight = _mm256_max_epu32(largest[0], largest[1]);
    __m128i four = _mm_max_epu32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    __m128i two = _mm_max_epu32(four, _mm_shuffle_epi32(four, _MM_SHUFFLE(1, 0, 3, 2)));
    __m128i one = _mm_max_epu32(two, _mm_shuffle_epi32(two, _MM_SHUFFLE(2, 3, 0, 1)));
    return fff_float_of_bits((uint32_t)_mm_cvtsi128_si32(one));
}

/* 32 integers, offset. Packing works on halves of registers, so what it makes comes in fours out of order. */
static inline __m256i quantise_32_x86_avx2(const float *x, __m256 factor) {
    __m256i integers[4];
    FFF_UNROLL
    for (int v = 0; v < 4; v++) {
        integers[v] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8 * v), factor));
    }
    __m256i bytes =
        _mm256_packs_epi16(_mm256_packs_epi32(integers[0], integers[1]), _mm256_packs_epi32(integers[2], integers[3]));
    __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    return _mm256_xor_si256(_mm256_permutevar8x32_epi32(bytes, order), _mm256_set1_epi8((char)0x80));
}

void fff_quantise_x86_avx2(size_t width, const float *input, unsigned char *quantised) {
    struct fff_quantiser quantiser = fff_make_quantiser(largest_size_x86_avx2(width, input), FFF_QUANTISED_MOST);
    __m256 factor = _mm256_set1_ps(quantiser.factor);
    if (quantiser.factor == 0.0f) { /* inputs may be infinite */
        memset(quantised, 0x80, width);
    }
    size_t i = 0;
    for (; i + 32 <= width && quantiser.factor > 0.0f; i += 32) {
        _mm256_storeu_si256((__m256i *)(void *)(quantised + i), quantise_32_x86_avx2(input + i, factor));
    }
    if (i < width && quantiser.factor > 0.0f) {
        float tail[FFF_PARTIAL_SUMS];
        unsigned char bytes[32];
        fff_pad_tail(input, width, tail);
        _mm256_storeu_si256((__m256i *)(void *)bytes, quantise_32_x86_avx2(tail, factor));
        memcpy(quantised + i, bytes, width - i);
    }
    memset(quantised + width, 0, fff_quantised_width(width) - width);
    fff_set_scale_of_quantised(quantised, width, quantiser.scale);
}
