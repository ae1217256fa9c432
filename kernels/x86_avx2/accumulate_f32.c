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
    float *to = output + column;
    FFF_AS_IT_STANDS(to);
    FFF_UNROLL
    for (int v = 0; v < vectors; v++) {
        sums[v] = (how & FFF_CONTINUE) == 0 ? _mm256_setzero_ps()
                  : vectors > 1             ? _mm256_loadu_ps(to + 8 * v)
                                            : load_below_x86_avx2(output, column, trees->output_width);
    }
    const float *tree_rows = trees->output_rows + column;
    for (size_t tree = 0; tree < trees->trees; tree++, tree_rows += trees->nodes * trees->row_stride) {
        for (size_t level = 0; level < trees->levels; level++, nodes++, activations++) {
            const float *weights = tree_rows + *nodes * trees->row_stride;
            FFF_AS_IT_STANDS(weights);
            __m256 activation = _mm256_broadcast_ss(activations);
            FFF_UNROLL
            for (int v = 0; v < vectors; v++) {
                /* a row is padded to whole vectors, so its last one is loaded whole */
                sums[v] = _mm256_fmadd_ps(activation, _mm256_load_ps(weights + 8 * v), sums[v]);
            }
        }
    }
    bool stream = vectors > 1 && fff_may_stream(how, to);
    FFF_UNROLL
    for (int v = 0; v < vectors; v++) {
        if (vectors == 1) {
            store_below_x86_avx2(output, column, trees->output_width, sums[v]);
        } else if (stream) {
            _mm256_stream_ps(to + 8 * v, sums[v]);
        } else {
            _mm256_storeu_ps(to + 8 * v, sums[v]);
        }
    }
}

void fff_accumulate_f32_x86_avx2(const struct fff_trees_f32 *trees, size_t count, const uint32_t *tokens,
                                 const uint32_t *nodes, const float *activations, unsigned how, float *output,
                                 size_t output_stride) {
    fff_accumulate_columns(trees, count, tokens, nodes, activations, how, output, output_stride, 8, BLOCK,
                           columns_x86_avx2);
}
