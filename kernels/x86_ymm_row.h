/* load_row() for registers of 8 floats, which both folders for x86 need. */
#ifndef FFF_KERNELS_X86_YMM_ROW_H
#define FFF_KERNELS_X86_YMM_ROW_H

#include "kernels/row.h"

#include <immintrin.h>

/* Register `v` of 8 weights, counted from where row_offset() points, in that half of a step. */
FFF_INLINE __m256 load_row_of_8(const unsigned char *at, int v, int half) {
    switch (ROW_TYPE) {
    case FFF_WEIGHT_BF16: {
        int in_step = v % 4;
        __m256i pairs = _mm256_loadu_si256((const __m256i *)(const void *)(at + 64 * (v / 4) + 32 * (in_step % 2)));
        return _mm256_castsi256_ps((in_step / 2 + half) % 2 == 0
                                       ? _mm256_slli_epi32(pairs, 16)
                                       : _mm256_and_si256(pairs, _mm256_set1_epi32((int)0xffff0000)));
    }
    case FFF_WEIGHT_F16: return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(at + 16 * v)));
    case FFF_WEIGHT_I8:
        return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(at + 8 * v))));
    case FFF_WEIGHT_F32: break;
    }
    return _mm256_loadu_ps((const float *)(const void *)at + 8 * v);
}

#endif
