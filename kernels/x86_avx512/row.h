/* Weights of a row as floats: the one place of this folder that knows their type. */
#ifndef FFF_KERNELS_X86_AVX512_ROW_H
#define FFF_KERNELS_X86_AVX512_ROW_H

#include "kernels/row.h"
#include "kernels/x86_ymm_row.h"

#include <immintrin.h>

/* Register `v` of 16 weights, counted from where row_offset() points, in that half of a step. */
FFF_INLINE __m512 load_row(const unsigned char *at, int v, int half) {
    switch (ROW_TYPE) {
    case FFF_WEIGHT_BF16: {
        __m512i pairs = _mm512_loadu_si512(at + 64 * ((v + half) / 2));
        return _mm512_castsi512_ps((v + half) % 2 == 0 ? _mm512_slli_epi32(pairs, 16)
                                                       : _mm512_and_si512(pairs, _mm512_set1_epi32((int)0xffff0000)));
    }
    case FFF_WEIGHT_F16: return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(at + 32 * v)));
    case FFF_WEIGHT_I8:
        return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(at + 16 * v))));
    case FFF_WEIGHT_F32: break;
    }
    return _mm512_loadu_ps((const float *)(const void *)at + 16 * v);
}

/* The same with zeros beyond a mask, whatever the row holds there. */
FFF_INLINE __m512 load_last_row(__mmask16 mask, const unsigned char *at, int v, int half) {
    if (ROW_READS_EXACTLY) {
        return _mm512_maskz_loadu_ps(mask, (const float *)(const void *)at + 16 * v);
    }
    return _mm512_maskz_mov_ps(mask, load_row(at, v, half));
}

/* The same of 8, of a dot product's last step. */
FFF_INLINE __m256 load_last_row_of_8(__mmask8 mask, const unsigned char *at, int v) {
    if (ROW_READS_EXACTLY) {
        return _mm256_maskz_loadu_ps(mask, (const float *)(const void *)at + 8 * v);
    }
    return _mm256_maskz_mov_ps(mask, load_row_of_8(at, v, 0));
}

/* Register `v` of `vectors` that output columns are added up in. A single one may reach beyond the row: what is there
 * is not stored, so that it may be loaded, too, if there is memory. */
FFF_INLINE __m512 load_output_row(__mmask16 mask, const unsigned char *at, int v, int vectors, int half) {
    return ROW_READS_EXACTLY && vectors == 1 ? load_last_row(mask, at, v, half) : load_row(at, v, half);
}

#endif
