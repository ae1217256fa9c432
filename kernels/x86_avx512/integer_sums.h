/* Integer sums of the rows of a path, two rows at a time: their 16-bit words, side by side, times two factors, are
 * added by one VNNI instruction. A word holds two columns, the upper byte with sign, the lower one without, so it is
 * used twice: as it is, and shifted by a byte, which leaves the upper column alone. In the end that is taken out of the
 * first sum. 8 instructions for 64 columns of two rows, half of them multiplications, where converting bytes to floats
 * for FMAs took 24. */
#ifndef FFF_KERNELS_X86_AVX512_INTEGER_SUMS_H
#define FFF_KERNELS_X86_AVX512_INTEGER_SUMS_H

#include "kernels/integer_sums.h"
#include "kernels/x86_avx512/isa.h"

enum { INTEGER_STEPS = 2, WORDS_OF_STEP = 4 /* registers of sums */ };

/* Both registers of factors, of which few trees have more than one, with zeros behind the last. */
FFF_INLINE void quantise_factors(const float *factors, size_t count, struct fff_integer_path *path) {
    enum { REGISTERS = (FFF_PATH_ROWS + 15) / 16 };
    int used = count > 16 ? REGISTERS : 1;
    __m512 x[REGISTERS];
    __m512i largest = _mm512_setzero_si512(), sum = _mm512_setzero_si512();
    for (int v = 0; v < used; v++) { /* sizes are ordered as their bits are, those of NaN above all */
        x[v] = _mm512_maskz_loadu_ps(mask_below_x86_avx512(16 * (size_t)v, count), factors + 16 * v);
        __m512i size = _mm512_and_si512(_mm512_castps_si512(x[v]), _mm512_set1_epi32(0x7fffffff));
        largest = _mm512_max_epu32(largest, size);
    }
    float size = fff_float_of_bits(_mm512_reduce_max_epu32(largest));
    struct fff_quantiser quantiser = fff_make_quantiser(size, FFF_FACTOR_MOST);
    __mmask16 finite = quantiser.factor > 0.0f ? 0xffff : 0;
    for (int v = 0; v < used; v++) {
        __m512 scaled = _mm512_mul_ps(x[v], _mm512_set1_ps(quantiser.factor));
        __m512i integers = _mm512_maskz_cvtps_epi32(finite, scaled);
        sum = _mm512_add_epi32(sum, integers);
        _mm256_storeu_si256((__m256i *)(void *)(path->factors + 16 * v), _mm512_cvtepi32_epi16(integers));
    }
    path->unit = quantiser.scale;
    path->of_offset = FFF_INTEGER_OFFSET * _mm512_reduce_add_epi32(sum);
}

/* sum + 16 times two products. */
FFF_INLINE __m512i add_words_x86_avx512(__m512i sum, __m512i words, __m512i factors) {
#if defined(USE_VNNI) && USE_VNNI
    /* Not as an intrinsic, of which gcc makes three more moves between registers. Both orders of operands: -masm=intel
     * has the other. */
    __asm__("vpdpwssd {%2, %1, %0|%0, %1, %2}" : "+v"(sum) : "v"(words), "v"(factors));
    return sum;
#else
    return _mm512_add_epi32(sum, _mm512_madd_epi16(words, factors));
#endif
}

/* Adds a pair of rows. */
FFF_INLINE void add_pair_x86_avx512(const struct fff_integer_path *path, size_t pair, size_t column, int steps,
                                    __m512i *sums) {
    const unsigned char *first = path->rows[2 * pair] + column, *second = path->rows[2 * pair + 1] + column;
    FFF_OPAQUE(first);
    FFF_OPAQUE(second);
    int32_t both;
    memcpy(&both, &path->factors[2 * pair], sizeof both);
    __m512i factors = _mm512_set1_epi32(both);
    FFF_UNROLL
    for (int s = 0; s < steps; s++) {
        __m512i *sum = sums + WORDS_OF_STEP * s;
        __m512i a = _mm512_loadu_si512(first + FFF_INTEGER_STEP * s);
        __m512i b = _mm512_loadu_si512(second + FFF_INTEGER_STEP * s);
        __m512i low = _mm512_unpacklo_epi16(a, b), high = _mm512_unpackhi_epi16(a, b);
        sum[0] = add_words_x86_avx512(sum[0], low, factors);
        sum[1] = add_words_x86_avx512(sum[1], _mm512_srai_epi16(low, 8), factors);
        sum[2] = add_words_x86_avx512(sum[2], high, factors);
        sum[3] = add_words_x86_avx512(sum[3], _mm512_srai_epi16(high, 8), factors);
    }
}

FFF_INLINE void integer_columns(const struct fff_integer_path *path, size_t column, int steps, bool add, bool stream,
                                float *output) {
    int vectors = WORDS_OF_STEP * steps;
    __m512i sums[WORDS_OF_STEP * INTEGER_STEPS];
    FFF_UNROLL
    for (int v = 0; v < vectors; v++) {
        sums[v] = v % 2 == 0 ? _mm512_set1_epi32(-path->of_offset) : _mm512_setzero_si512();
    }
    for (size_t pair = 0; pair < path->pairs; pair++) {
        add_pair_x86_avx512(path, pair, column, steps, sums);
    }
    __m512 unit = _mm512_set1_ps(path->unit), y[WORDS_OF_STEP * INTEGER_STEPS];
    FFF_OPAQUE(output);
    FFF_UNROLL
    for (int v = 0; v < vectors; v++) {
        __m512i sum = v % 2 == 0 ? _mm512_sub_epi32(sums[v], _mm512_slli_epi32(sums[v + 1], 8)) : sums[v];
        y[v] = _mm512_cvtepi32_ps(sum);
    }
    if (add) {
        FFF_UNROLL
        for (int v = 0; v < vectors; v++) {
            y[v] = _mm512_fmadd_ps(y[v], unit, _mm512_loadu_ps(output + 16 * v));
        }
    } else {
        FFF_UNROLL
        for (int v = 0; v < vectors; v++) {
            y[v] = _mm512_mul_ps(y[v], unit); /* the same as a sum with +0, since no product underflows */
        }
    }
    if (stream) {
        FFF_UNROLL
        for (int v = 0; v < vectors; v++) {
            _mm512_stream_ps(output + 16 * v, y[v]);
        }
        return;
    }
    FFF_UNROLL
    for (int v = 0; v < vectors; v++) {
        _mm512_storeu_ps(output + 16 * v, y[v]);
    }
}

#endif
