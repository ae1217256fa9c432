/* A token for I8 rows: kernels/generic/quantise.c with another form of its integers, which are offset by 128 and so
 * have no sign, as the VNNI instruction wants one of its factors. Padding is zero bytes, which add nothing to a sum. */
#include "kernels/x86_avx2/isa.h"

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
