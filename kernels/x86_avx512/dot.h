#ifndef FFF_KERNELS_X86_AVX512_DOT_H
#define FFF_KERNELS_X86_AVX512_DOT_H

#include "kernels/x86_avx512/isa.h"
#include "kernels/x86_avx512/row.h"

/* The last steps of the halving tree: 8 sums to 4, and 4 to 1. */
static inline __m128 halve_8_to_4_x86_avx512(__m256 eight) {
    return _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
}
static inline float halve_4_to_1_x86_avx512(__m128 four) {
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/* The 32 partial sums of one token: low (sums 0-15) and high (16-31). */
typedef struct sums_x86_avx512 {
    __m512 low, high;
} sums_x86_avx512;

/* The first steps of the halving tree, 32 sums to 16, to 8, to 4, of four tokens at once: 6 shuffles and 7 additions
 * for what takes 8 and 12 one by one. In the end, the 128 bits t hold token t's four. */
static inline __m512 halve_four_32_to_4_x86_avx512(const sums_x86_avx512 sums[4]) {
    __m512 sixteen[4], eight[2];
    FFF_UNROLL
    for (int t = 0; t < 4; t++) {
        sixteen[t] = _mm512_add_ps(sums[t].low, sums[t].high);
    }
    FFF_UNROLL
    for (int pair = 0; pair < 2; pair++) {
        __m512 a = sixteen[2 * pair], b = sixteen[2 * pair + 1];
        eight[pair] = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, _MM_SHUFFLE(1, 0, 1, 0)),
                                    _mm512_shuffle_f32x4(a, b, _MM_SHUFFLE(3, 2, 3, 2)));
    }
    return _mm512_add_ps(_mm512_shuffle_f32x4(eight[0], eight[1], _MM_SHUFFLE(2, 0, 2, 0)),
                         _mm512_shuffle_f32x4(eight[0], eight[1], _MM_SHUFFLE(3, 1, 3, 1)));
}

/* One step of one token: 32 weights against 32 inputs. Register v holds partial sums 8v to 8v + 7. */
FFF_INLINE void step_x86_avx512(const unsigned char *row, const float *input, __m256 sums[4]) {
    FFF_UNROLL
    for (int v = 0; v < 4; v++) {
        sums[v] = _mm256_fmadd_ps(_mm256_loadu_ps(input + 8 * v), load_row_of_8(row, v, 0), sums[v]);
    }
}

/* The last one, of which there are `count`, fewer. */
FFF_INLINE void last_step_x86_avx512(const unsigned char *row, const float *input, size_t count, __m256 sums[4]) {
    uint32_t whole = ((uint32_t)1 << count) - 1;
    FFF_UNROLL
    for (int v = 0; v < 4; v++) {
        __mmask8 mask = (__mmask8)(whole >> 8 * v);
        sums[v] =
            _mm256_fmadd_ps(_mm256_maskz_loadu_ps(mask, input + 8 * v), load_last_row_of_8(mask, row, v), sums[v]);
    }
}

/* The logit of one row for one token.
 *
 * Four ymm registers rather than two zmm: the sums are the same 32, but with the row on its way from
 * L2 or beyond, two loads a cache line and twice the chains in flight took 10 % less time than one load
 * a line, and two steps an iteration another 2 % (docs/trials.md). */
FFF_INLINE float row_logit(const struct fff_trees *trees, size_t row, const void *token, const float *tail) {
    (void)tail; /* masks do */
    const unsigned char *weights = trees->input_rows + row * trees->row_stride;
    const float *input = token;
    size_t width = trees->input_width;
    __m256 sums[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
    size_t i = 0;
    for (; i + 64 <= width; i += 64) {
        step_x86_avx512(weights + row_offset(i), input + i, sums);
        step_x86_avx512(weights + row_offset(i + 32), input + i + 32, sums);
    }
    if (i + 32 <= width) {
        step_x86_avx512(weights + row_offset(i), input + i, sums);
        i += 32;
    }
    if (i < width) {
        last_step_x86_avx512(weights + row_offset(i), input + i, width - i, sums);
    }
    __m256 eight = _mm256_add_ps(_mm256_add_ps(sums[0], sums[2]), _mm256_add_ps(sums[1], sums[3]));
    return halve_4_to_1_x86_avx512(halve_8_to_4_x86_avx512(eight)) + trees->biases[row];
}

#endif
