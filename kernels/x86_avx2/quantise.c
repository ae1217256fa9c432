/* A token for I8 rows: kernels/generic/quantise.c with another form of its integers, which are offset by 128 and so
 * have no sign, as the VNNI instruction wants one of its factors. Padding is zero bytes, which add nothing to a sum. */
#include "kernels/x86_avx2/isa.h"

/* 8 integers, offset, as 16-bit numbers. */
static inline __m128i quantise_8_x86_avx2(__m256 x, __m256 factor) {
    __m256i integers = _mm256_add_epi32(_mm256_cvtps_epi32(_mm256_mul_ps(x, factor)), _mm256_set1_epi32(128));
    return _mm_packus_epi32(_mm256_castsi256_si128(integers), _mm256_extracti128_si256(integers, 1));
}

void fff_quantise_x86_avx2(size_t width, const float *input, unsigned char *quantised) {
    const __m256 no_sign = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    __m256 largest = _mm256_setzero_ps(), nan = _mm256_setzero_ps();
    for (size_t i = 0; i < width; i += 8) {
        __m256 x = load_below_x86_avx2(input, i, width);
        nan = _mm256_or_ps(nan, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
        largest = _mm256_max_ps(largest, _mm256_and_ps(x, no_sign));
    }
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(largest), _mm256_extractf128_ps(largest, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    float of_all = _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
    struct fff_quantiser quantiser = fff_make_quantiser(_mm256_movemask_ps(nan) != 0 ? __builtin_nanf("") : of_all);
    __m256 factor = _mm256_set1_ps(quantiser.factor);
    size_t padded = fff_quantised_width(width);
    memset(quantised + padded - FFF_QUANTISED_STEP, 0, FFF_QUANTISED_STEP);
    for (size_t i = 0; i < width; i += 8) {
        /* inputs may be infinite if the factor is 0 */
        __m256 x = quantiser.factor == 0.0f ? _mm256_setzero_ps() : load_below_x86_avx2(input, i, width);
        __m128i words = quantise_8_x86_avx2(x, factor);
        unsigned char bytes[8];
        _mm_storel_epi64((__m128i *)(void *)bytes, _mm_packus_epi16(words, words));
        memcpy(quantised + i, bytes, i + 8 <= width ? 8 : width - i);
    }
    fff_set_scale_of_quantised(quantised, width, quantiser.scale);
}
