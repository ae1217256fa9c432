/* Several tokens' outputs, in blocks of 8 registers (64 columns) that stay in registers over all of a token's
 * rows: one load an FMA, output written once, and eight chains to cover an FMA's latency. A block of 12
 * registers was no faster. */
#include "kernels/accumulate_f32.h"
#include "kernels/x86_avx2/isa.h"

enum { BLOCK = 8 };

static inline __attribute__((always_inline)) void columns_x86_avx2(const struct fff_trees_f32 *trees,
                                                                   const uint32_t *nodes, const float *activations,
                                                                   unsigned how, float *output, size_t column,
                                                                   int vectors) {
    __m256 sums[BLOCK];
    FFF_UNROLL
    for (int v = 0; v < vectors; v++) {
        sums[v] = (how & FFF_CONTINUE) == 0 ? _mm256_setzero_ps()
                  : vectors > 1             ? _mm256_loadu_ps(output + column + 8 * v)
                                            : load_below_x86_avx2(output, column, trees->output_width);
    }
    for (size_t tree = 0; tree < trees->trees; tree++) {
        const float *tree_rows = trees->output_rows + tree * trees->nodes * trees->row_stride + column;
        for (size_t level = 0; level < trees->levels; level++) {
            size_t entry = tree * trees->levels + level;
            const float *weights = tree_rows + nodes[entry] * trees->row_stride;
            __m256 activation = _mm256_broadcast_ss(&activations[entry]);
            FFF_UNROLL
            for (int v = 0; v < vectors; v++) {
                /* a row is padded to whole vectors, so its last one is loaded whole */
                sums[v] = _mm256_fmadd_ps(activation, _mm256_load_ps(weights + 8 * v), sums[v]);
            }
        }
    }
    if (vectors == BLOCK && fff_may_stream(how, output + column)) {
        FFF_UNROLL
        for (int v = 0; v < vectors; v++) {
            _mm256_stream_ps(output + column + 8 * v, sums[v]);
        }
        return;
    }
    FFF_UNROLL
    for (int v = 0; v < vectors; v++) {
        if (vectors > 1) {
            _mm256_storeu_ps(output + column + 8 * v, sums[v]);
        } else {
            store_below_x86_avx2(output, column, trees->output_width, sums[v]);
        }
    }
}

void fff_accumulate_f32_x86_avx2(const struct fff_trees_f32 *trees, size_t count, const uint32_t *tokens,
                                 const uint32_t *nodes, const float *activations, unsigned how, float *output,
                                 size_t output_stride) {
    fff_accumulate_columns(trees, count, tokens, nodes, activations, how, output, output_stride, 8, BLOCK,
                           columns_x86_avx2);
}
