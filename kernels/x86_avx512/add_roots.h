/* Several tokens' outputs from the roots of all trees: a matrix product whose every element is a fused chain over the
 * trees.
 *
 * Eight tokens by three registers of columns at a time: 24 accumulators, 3 registers of a row and the activation, so 11
 * loads for 24 FMAs. The rows come from L2, once for eight tokens. */
#ifndef FFF_KERNELS_X86_AVX512_ADD_ROOTS_H
#define FFF_KERNELS_X86_AVX512_ADD_ROOTS_H

#include "kernels/add_roots.h"
#include "kernels/x86_avx512/isa.h"
#include "kernels/x86_avx512/row.h"

enum { ROOT_TOKENS = 8, ROOT_VECTORS = ROW_TYPE == FFF_WEIGHT_BF16 ? 2 /* a step */ : 3 };

FFF_INLINE void sum_tile(const struct fff_trees *trees, const float *const *factors, unsigned write,
                         float *const *output, size_t column, int vectors) {
    __mmask16 last = mask_below_x86_avx512(column + 16 * (vectors - 1), trees->output_width);
    __m512 sums[ROOT_TOKENS][ROOT_VECTORS];
    FFF_UNROLL
    for (int t = 0; t < ROOT_TOKENS; t++) {
        FFF_UNROLL
        for (int v = 0; v < vectors; v++) {
            __mmask16 mask = v == vectors - 1 ? last : 0xffff;
            sums[t][v] = (write & FFF_WRITE_CONTINUE) != 0 ? _mm512_maskz_loadu_ps(mask, output[t] + column + 16 * v)
                                                           : _mm512_setzero_ps();
        }
    }
    const unsigned char *weights = trees->output_rows + row_offset(column);
    int half = vectors > 1 ? 0 : row_half(column);
    for (size_t tree = 0; tree < trees->tree_count; tree++, weights += trees->output_row_stride) {
        __m512 row[ROOT_VECTORS];
        FFF_UNROLL
        for (int v = 0; v < vectors; v++) {
            row[v] = load_output_row(last, weights, v, vectors, half);
        }
        FFF_UNROLL
        for (int t = 0; t < ROOT_TOKENS; t++) {
            __m512 factor = _mm512_set1_ps(factors[t][tree]);
            FFF_UNROLL
            for (int v = 0; v < vectors; v++) {
                sums[t][v] = _mm512_fmadd_ps(factor, row[v], sums[t][v]);
            }
        }
    }
    FFF_UNROLL
    for (int t = 0; t < ROOT_TOKENS; t++) {
        FFF_UNROLL
        for (int v = 0; v < vectors; v++) {
            _mm512_mask_storeu_ps(output[t] + column + 16 * v, v == vectors - 1 ? last : 0xffff, sums[t][v]);
        }
    }
}

static void KERNEL(add_roots)(const struct fff_trees *trees, size_t count, const uint32_t *tokens, const float *factors,
                              size_t factor_stride, unsigned write, float *output, size_t output_stride) {
    const struct fff_sum_tile tile = {ROOT_TOKENS, 16, ROOT_VECTORS};
    add_roots_by_tiles(trees, count, tokens, factors, factor_stride, write, output, output_stride, tile);
}

#endif
