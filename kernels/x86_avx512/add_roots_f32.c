/* Several tokens' outputs from the roots of all trees: a matrix product whose every element is a fused chain over the
 * trees.
 *
 * Eight tokens by three registers of columns at a time: 24 accumulators, 3 registers of a row and the activation, so 11
 * loads for 24 FMAs. The rows come from L2, once for eight tokens. */
#include "kernels/add_roots_f32.h"
#include "kernels/x86_avx512/isa.h"

enum { TOKENS = 8, VECTORS = 3 };

FFF_INLINE void sum_tile_x86_avx512(const struct fff_trees_f32 *trees, const float *const *activations, unsigned write,
                                    float *const *output, size_t column, int vectors) {
    __mmask16 last = mask_below_x86_avx512(column + 16 * (vectors - 1), trees->output_width);
    __m512 sums[TOKENS][VECTORS];
    FFF_UNROLL
    for (int t = 0; t < TOKENS; t++) {
        FFF_UNROLL
        for (int v = 0; v < vectors; v++) {
            __mmask16 mask = v == vectors - 1 ? last : 0xffff;
            sums[t][v] = (write & FFF_WRITE_CONTINUE) != 0 ? _mm512_maskz_loadu_ps(mask, output[t] + column + 16 * v)
                                                           : _mm512_setzero_ps();
        }
    }
    const float *weights = trees->output_rows + column;
    for (size_t tree = 0; tree < trees->tree_count; tree++, weights += trees->row_stride) {
        __m512 row[VECTORS];
        FFF_UNROLL
        for (int v = 0; v < vectors; v++) {
            row[v] = _mm512_loadu_ps(weights + 16 * v);
        }
        FFF_UNROLL
        for (int t = 0; t < TOKENS; t++) {
            __m512 activation = _mm512_set1_ps(activations[t][tree]);
            FFF_UNROLL
            for (int v = 0; v < vectors; v++) {
                sums[t][v] = _mm512_fmadd_ps(activation, row[v], sums[t][v]);
            }
        }
    }
    FFF_UNROLL
    for (int t = 0; t < TOKENS; t++) {
        FFF_UNROLL
        for (int v = 0; v < vectors; v++) {
            _mm512_mask_storeu_ps(output[t] + column + 16 * v, v == vectors - 1 ? last : 0xffff, sums[t][v]);
        }
    }
}

void fff_add_roots_f32_x86_avx512(const struct fff_trees_f32 *trees, size_t count, const float *activations,
                                  size_t activation_stride, unsigned write, float *output, size_t output_stride) {
    const struct fff_sum_tile tile = {TOKENS, 16, VECTORS};
    fff_add_roots(trees, count, activations, activation_stride, write, output, output_stride, tile,
                  sum_tile_x86_avx512);
}
