/* A token for I8 rows: kernels/generic/quantise.c with another form of its integers, which are offset by 128 and so
 * have no sign, as the VNNI instruction wants one of its factors. Padding is zero bytes, which add nothing to a sum. */
#include "kernels/x86_avx512/isa.h"

void fff_quantise_x86_avx512(size_t width, const float *input, unsigned char *quantised) {
    const __m512 no_sign = _mm512_castsi512_ps(_mm512_set1_epi32(0x7fffffff));
    __m512 largest[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    __mmask16 nan = 0;
    for (size_t i = 0; i < width; i += 32) {
        FFF_UNROLL
        for (int v = 0; v < 2; v++) {
            __m512 x = _mm512_maskz_loadu_ps(mask_below_x86_avx512(i + 16 * v, width), input + i + 16 * v);
            nan |= _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
            largest[v] = _mm512_max_ps(largest[v], _mm512_and_ps(x, no_sign));
        }
    }
    float of_all = nan != 0 ? __builtin_nanf("") : _mm512_reduce_max_ps(_mm512_max_ps(largest[0], largest[1]));
    struct fff_quantiser quantiser = fff_make_quantiser(of_all);
    __m512 factor = _mm512_set1_ps(quantiser.factor);
    bool zero = quantiser.factor == 0.0f; /* inputs may be infinite then */
    for (size_t i = 0; i < fff_quantised_width(width); i += 16) {
        __mmask16 mask = mask_below_x86_avx512(i, width);
        __m512i integers = zero ? _mm512_setzero_si512()
                                : _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_maskz_loadu_ps(mask, input + i), factor));
        integers = _mm512_maskz_add_epi32(mask, integers, _mm512_set1_epi32(128));
        _mm_store_si128((__m128i *)(void *)(quantised + i), _mm512_cvtepi32_epi8(integers));
    }
    fff_set_scale_of_quantised(quantised, width, quantiser.scale);
}
