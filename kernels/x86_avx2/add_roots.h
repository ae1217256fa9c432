/* Several tokens' outputs from the roots of all trees: a matrix product whose every element is a fused chain over the
 * trees.
 *
 * Four tokens by three registers of columns at a time: 12 accumulators, 3 registers of a row and the activation, so 7
 * loads for 12 FMAs. The rows come from L2, once for four tokens. */
#ifndef FFF_KERNELS_X86_AVX2_ADD_ROOTS_H
#define FFF_KERNELS_X86_AVX2_ADD_ROOTS_H

#include "kernels/add_roots.h"
#include "kernels/x86_avx2/accumulate.h" /* load_output_row() */
#include "kernels/x86_avx2/isa.h"
#include "kernels/x86_ymm_row.h"

enum { ROOT_TOKENS = 4, ROOT_VECTORS = ROW_TYPE == FFF_WEIGHT_BF16 ? 2 /* half a step */ : 3 };

FFF_INLINE void sum_tile(const struct fff_trees *trees, const float *const *factors, unsigned write,
                         float *const *output, size_t column, int vectors) {
    __m256 sums[ROOT_TOKENS][ROOT_VECTORS];
    FFF_UNROLL
    for (int t = 0; t < ROOT_TOKENS; t++) {
        FFF_UNROLL
        for (int v = 0; v < vectors; v++) {
            sums[t][v] = (write & FFF_WRITE_CONTINUE) != 0
                             ? load_below_x86_avx2(output[t], column + 8 * v, trees->output_width)
                             : _mm256_setzero_ps();
        }
    }
    const unsigned char *weights = trees->output_rows + row_offset(column);
    int half = row_half(column);
    for (size_t tree = 0; tree < trees->tree_count; tree++, weights += trees->output_row_stride) {
        __m256 row[ROOT_VECTORS];
        FFF_UNROLL
        for (int v = 0; v < vectors; v++) {
            row[v] = load_output_row(weights, column, trees->output_width, v, vectors, half);
        }
        FFF_UNROLL
        for (int t = 0; t < ROOT_TOKENS; t++) {
            __m256 factor = _mm256_broadcast_ss(factors[t] + tree);
            FFF_UNROLL
            for (int v = 0; v < vectors; v++) {
                sums[t][v] = _mm256_fmadd_ps(factor, row[v], sums[t][v]);
            }
        }
    }
    FFF_UNROLL
    for (int t = 0; t < ROOT_TOKENS; t++) {
        FFF_UNROLL
        for (int v = 0; v < vectors; v++) {
            if (vectors == ROOT_VECTORS) {
                _mm256_storeu_ps(output[t] + column + 8 * v, sums[t][v]);
            } else {
                store_below_x86_avx2(output[t], column + 8 * v, trees->output_width, sums[t][v]);
            }
        }
    }
}

static void KERNEL(add_roots)(const struct fff_trees *trees, size_t count, const uint32_t *tokens, const float *factors,
                              size_t factor_stride, unsigned write, float *output, size_t output_stride) {
    const struct fff_sum_tile tile = {ROOT_TOKENS, 8, ROOT_VECTORS};
    add_roots_by_tiles(trees, count, tokens, factors, factor_stride, write, output, output_stride, tile);
}

#endif
