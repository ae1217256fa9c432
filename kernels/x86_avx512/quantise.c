/* A token for I8 rows: kernels/generic/quantise.c with another form of its integers, which are offset by 128 and so
 * have no sign, as the VNNI instruction wants one of its factors. Padding is zero bytes, which add nothing to a sum.
 *
 * Bits of floats without sign are ordered as the floats are, infinity above all numbers and NaN above that: so the
 * largest size is a maximum of integers, which needs no care for NaN. Four registers at once become one of bytes; what
 * packing by halves puts out of order, one permutation puts right. */
#include "kernels/half.h"
#include "kernels/x86_avx512/isa.h"

enum { STEP = FFF_QUANTISED_STEP };

static inline __m512i load_bits_x86_avx512(const float *input, size_t start, size_t width) {
    return _mm512_castps_si512(_mm512_maskz_loadu_ps(mask_below_x86_avx512(start, width), input + start));
}

static inline float largest_size_x86_avx512(size_t width, const float *input) {
    const __m512i no_sign = _mm512_set1_epi32(0x7fffffff);
    __m512i largest[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(),
                          _mm512_setzero_si512()};
    size_t i = 0;
    for (; i + STEP <= width; i += STEP) {
        FFF_UNROLL
        for (int v = 0; v < 4; v++) {
            __m512i bits = _mm512_loadu_si512(input + i + 16 * v);
            largest[v] = _mm512_max_epu32(largest[v], _mm512_and_si512(bits, no_sign));
        }
    }
    for (; i < width; i += 16) {
        largest[0] = _mm512_max_epu32(largest[0], _mm512_and_si512(load_bits_x86_avx512(input, i, width), no_sign));
    }
    __m512i all = _mm512_max_epu32(_mm512_max_epu32(largest[0], largest[1]), _mm512_max_epu32(largest[2], largest[3]));
    return fff_float_of_bits(_mm512_reduce_max_epu32(all));
}

static inline __m512i quantise_64_x86_avx512(const __m512 x[4], __m512 factor) {
    __m512i integers[4];
    FFF_UNROLL
    for (int v = 0; v < 4; v++) {
        integers[v] = _mm512_cvtps_epi32(_mm512_mul_ps(x[v], factor));
    }
    __m512i bytes =
        _mm512_packs_epi16(_mm512_packs_epi32(integers[0], integers[1]), _mm512_packs_epi32(integers[2], integers[3]));
    __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_xor_si512(_mm512_permutexvar_epi32(order, bytes), _mm512_set1_epi8((char)0x80));
}

void fff_quantise_x86_avx512(size_t width, const float *input, unsigned char *quantised) {
    struct fff_quantiser quantiser = fff_make_quantiser(largest_size_x86_avx512(width, input), FFF_QUANTISED_MOST);
    __m512 factor = _mm512_set1_ps(quantiser.factor), x[4];
    bool zero = quantiser.factor == 0.0f; /* inputs may be infinite then */
    size_t i = 0;
    for (; i + STEP <= width && !zero; i += STEP) {
        FFF_UNROLL
        for (int v = 0; v < 4; v++) {
            x[v] = _mm512_loadu_ps(input + i + 16 * v);
        }
        _mm512_store_si512(quantised + i, quantise_64_x86_avx512(x, factor));
    }
    for (; i < width; i += STEP) {
        FFF_UNROLL
        for (size_t v = 0; v < 4; v++) {
            x[v] = zero ? _mm512_setzero_ps() : _mm512_castsi512_ps(load_bits_x86_avx512(input, i + 16 * v, width));
        }
        size_t left = width - i;
        __mmask64 there = left >= STEP ? ~(__mmask64)0 : ((__mmask64)1 << left) - 1;
        _mm512_store_si512(quantised + i, _mm512_maskz_mov_epi8(there, quantise_64_x86_avx512(x, factor)));
    }
    fff_set_scale_of_quantised(quantised, width, quantiser.scale);
}
