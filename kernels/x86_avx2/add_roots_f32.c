/* Several tokens' outputs from the roots of all trees: a matrix product whose every element is a fused chain over the
 * trees.
 *
 * Four tokens by three registers of columns at a time: 12 accumulators, 3 registers of a row and the activation, so 7
 * loads for 12 FMAs. The rows come from L2, once for four tokens. */
#include "kernels/add_roots_f32.h"
#include "kernels/x86_avx2/isa.h"

enum { TOKENS = 4, VECTORS = 3 };

FFF_INLINE void sum_tile_x86_avx2(const struct fff_trees_f32 *trees, const float *const *activations, unsigned write,
                                  float *const *output, size_t column, int vectors) {
    __m256 sums[TOKENS][VECTORS];
    FFF_UNROLL
    for (int t = 0; t < TOKENS; t++) {
        FFF_UNROLL
        for (int v = 0; v < vectors; v++) {
            sums[t][v] = (write & FFF_WRITE_CONTINUE) != 0
                             ? load_below_x86_avx2(output[t], column + 8 * v, trees->output_width)
                             : _mm256_setzero_ps();
        }
    }
    const float *weights = trees->output_rows + column;
    for (size_t tree = 0; tree < trees->tree_count; tree++, weights += trees->row_stride) {
        __m256 row[VECTORS];
        FFF_UNROLL
        for (int v = 0; v < vectors; v++) {
            row[v] = _mm256_loadu_ps(weights + 8 * v);
        }
        FFF_UNROLL
        for (int t = 0; t < TOKENS; t++) {
            __m256 activation = _mm256_broadcast_ss(activations[t] + tree);
            FFF_UNROLL
            for (int v = 0; v < vectors; v++) {
                sums[t][v] = _mm256_fmadd_ps(activation, row[v], sums[t][v]);
            }
        }
    }
    FFF_UNROLL
    for (int t = 0; t < TOKENS; t++) {
        FFF_UNROLL
        for (int v = 0; v < vectors; v++) {
            if (vectors == VECTORS) {
                _mm256_storeu_ps(output[t] + column + 8 * v, sums[t][v]);
            } else {
                store_below_x86_avx2(output[t], column + 8 * v, trees->output_width, sums[t][v]);
            }
        }
    }
}

void fff_add_roots_f32_x86_avx2(const struct fff_trees_f32 *trees, size_t count, const float *activations,
                                size_t activation_stride, unsigned write, float *output, size_t output_stride) {
    const struct fff_sum_tile tile = {TOKENS, 8, VECTORS};
    fff_add_roots(trees, count, activations, activation_stride, write, output, output_stride, tile, sum_tile_x86_avx2);
}
