#ifndef FFF_KERNELS_X86_AVX2_ISA_H
#define FFF_KERNELS_X86_AVX2_ISA_H

#include "kernels/toolbox.h"

#include <immintrin.h>

extern const struct fff_row_kernels fff_f32_rows_x86_avx2, fff_f32_exact_rows_x86_avx2, fff_bf16_rows_x86_avx2,
    fff_f16_rows_x86_avx2, fff_i8_rows_x86_avx2, fff_i8_rows_x86_avx2_vnni;
fff_activate_function fff_activate_x86_avx2;
fff_differentiate_function fff_differentiate_x86_avx2;
fff_adam_function fff_adam_x86_avx2;
fff_quantise_function fff_quantise_x86_avx2;
fff_widen_function fff_widen_x86_avx2;
fff_narrow_function fff_narrow_x86_avx2;

/* The 8 floats from values[start] on, zeros from values[end] on, which is not touched; and back: those
 * below end are written. A partial vector goes through the stack. Masked loads and stores would do,
 * but they are slow on some CPUs (stores on AMD's before Zen 4; loads everywhere when a masked lane
 * lies on an unmapped page), and QEMU up to 7.2 reads the masked lanes, too. */
static inline __m256 load_below_x86_avx2(const float *values, size_t start, size_t end) {
    if (start + 8 <= end) {
        return _mm256_loadu_ps(values + start);
    }
    float padded[8] = {0};
    for (size_t i = start; i < end; i++) {
        padded[i - start] = values[i];
    }
    return _mm256_loadu_ps(padded);
}

/* A row's floats from column `start` on, zeros from its width `end` on, behind which nothing is read. Of a register
 * that is incomplete, the last 8 columns are loaded, and moved down: through the stack they would take a dozen cycles
 * more, for a load waits for all the stores that it is made of. */
FFF_INLINE __m256 load_row_below_x86_avx2(const unsigned char *row, size_t start, size_t end) {
    const float *weights = (const float *)(const void *)row;
    if (start >= end) {
        return _mm256_setzero_ps();
    }
    if (start + 8 <= end || end < 8) {
        return load_below_x86_avx2(weights, start, end);
    }
    int there = (int)(end - start);
    __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
            from = _mm256_add_epi32(lane, _mm256_set1_epi32(8 - there));
    __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(there), lane);
    __m256 last = _mm256_loadu_ps(weights + end - 8);
    return _mm256_and_ps(_mm256_permutevar8x32_ps(last, from), _mm256_castsi256_ps(mask));
}

static inline void store_below_x86_avx2(float *values, size_t start, size_t end, __m256 vector) {
    if (start + 8 <= end) {
        _mm256_storeu_ps(values + start, vector);
        return;
    }
    float padded[8];
    _mm256_storeu_ps(padded, vector);
    for (size_t i = start; i < end; i++) {
        values[i] = padded[i - start];
    }
}

#endif
