/* Several tokens' outputs.
 *
 * Columns go in blocks of 8 registers (128 columns) that stay in registers over all of a token's rows, so
 * output is written once and the only traffic is the rows themselves, one load an FMA. Eight
 * independent chains cover the FMA's latency (4 cycles, 2 a cycle). Blocks of 16 and 24 registers
 * were no faster: descend_f32 has already asked for the rows' lines. */
#include "kernels/accumulate_f32.h"
#include "kernels/x86_avx512/isa.h"

enum { BLOCK = 8 };

static inline __attribute__((always_inline)) void columns_x86_avx512(const struct fff_trees_f32 *trees,
                                                                     const uint32_t *nodes, const float *activations,
                                                                     unsigned how, float *output, size_t column,
                                                                     int vectors) {
    __mmask16 last = lanes_below_x86_avx512(column + 16 * (vectors - 1), trees->output_width);
    __m512 sums[BLOCK];
    for (int v = 0; v < vectors; v++) {
        sums[v] = _mm512_setzero_ps();
    }
    if ((how & FFF_CONTINUE) != 0) {
        for (int v = 0; v < vectors - 1; v++) {
            sums[v] = _mm512_loadu_ps(output + column + 16 * v);
        }
        sums[vectors - 1] = _mm512_maskz_loadu_ps(last, output + column + 16 * (vectors - 1));
    }
    for (size_t tree = 0; tree < trees->trees; tree++) {
        const float *tree_rows = trees->output_rows + tree * trees->nodes * trees->row_stride + column;
        for (size_t level = 0; level < trees->levels; level++) {
            size_t entry = tree * trees->levels + level;
            const float *weights = tree_rows + nodes[entry] * trees->row_stride;
            __m512 activation = _mm512_set1_ps(activations[entry]);
            for (int v = 0; v < vectors; v++) {
                /* a row is padded to whole vectors, so its last one is loaded whole */
                sums[v] = _mm512_fmadd_ps(activation, _mm512_load_ps(weights + 16 * v), sums[v]);
            }
        }
    }
    if (vectors == BLOCK && fff_may_stream(how, output + column)) {
        for (int v = 0; v < vectors; v++) {
            _mm512_stream_ps(output + column + 16 * v, sums[v]);
        }
        return;
    }
    for (int v = 0; v < vectors - 1; v++) {
        _mm512_storeu_ps(output + column + 16 * v, sums[v]);
    }
    _mm512_mask_storeu_ps(output + column + 16 * (vectors - 1), last, sums[vectors - 1]);
}

void fff_accumulate_f32_x86_avx512(const struct fff_trees_f32 *trees, size_t count, const uint32_t *tokens,
                                   const uint32_t *nodes, const float *activations, unsigned how, float *output,
                                   size_t output_stride) {
    fff_accumulate_columns(trees, count, tokens, nodes, activations, how, output, output_stride, 16, BLOCK,
                           columns_x86_avx512);
}
