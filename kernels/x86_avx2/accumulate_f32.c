/* Several tokens' outputs.
 *
 * Tokens that share a path go in pairs, 6 registers of columns of each: 12 sums, both activations and the weights make
 * 15 of 16 registers, and a row that the two share is loaded once. Against one by one: 4 % off a forward of 4096 tokens
 * or more, 10 % if all take one path. Other tokens go one by one in blocks of 8 registers: one load an FMA, output
 * written once, and eight chains to cover an FMA's latency; in pairs they took 7 % longer at 64 tokens
 * (docs/trials.md). */
#include "kernels/accumulate_f32.h"
#include "kernels/x86_avx2/isa.h"

enum {
    TOKENS = 2,
    BLOCK = 6,        /* registers of columns of two tokens */
    BLOCK_OF_ONE = 8, /* of one */
};

/* One token's columns, or those of TOKENS. */
FFF_INLINE void columns_x86_avx2(const struct fff_trees_f32 *trees, int tokens, const uint32_t *nodes,
                                 const float *activations, unsigned write, float *const *outputs, size_t column,
                                 int vectors) {
    size_t entries = trees->tree_count * trees->level_count;
    __m256 sums[TOKENS][BLOCK_OF_ONE];
    FFF_UNROLL
    for (int t = 0; t < tokens; t++) {
        FFF_UNROLL
        for (int v = 0; v < vectors; v++) {
            sums[t][v] = (write & FFF_WRITE_CONTINUE) == 0 ? _mm256_setzero_ps()
                         : vectors > 1                     ? _mm256_loadu_ps(outputs[t] + column + 8 * v)
                                       : load_below_x86_avx2(outputs[t], column, trees->output_width);
        }
    }
    const float *tree_rows = trees->output_rows + column;
    for (size_t tree = 0; tree < trees->tree_count; tree++, tree_rows += trees->node_count * trees->row_stride) {
        for (size_t level = 0; level < trees->level_count; level++, nodes++, activations++) {
            const float *row = tree_rows + *nodes * trees->row_stride;
            FFF_OPAQUE(row);
            if (tokens == 2 && nodes[entries] == *nodes) {
                __m256 first = _mm256_broadcast_ss(activations), second = _mm256_broadcast_ss(activations + entries);
                FFF_UNROLL
                for (int v = 0; v < vectors; v++) {
                    /* the last one is loaded whole, too: what is beyond the row is not stored */
                    __m256 weights = _mm256_loadu_ps(row + 8 * v);
                    __asm__("" : "+x"(weights)); /* or gcc loads them once for each token */
                    sums[0][v] = _mm256_fmadd_ps(first, weights, sums[0][v]);
                    sums[1][v] = _mm256_fmadd_ps(second, weights, sums[1][v]);
                }
                continue;
            }
            FFF_UNROLL
            for (int t = 0; t < tokens; t++) {
                __m256 activation = _mm256_broadcast_ss(activations + t * entries);
                if (t > 0) {
                    row = tree_rows + nodes[t * entries] * trees->row_stride;
                    FFF_OPAQUE(row);
                }
                FFF_UNROLL
                for (int v = 0; v < vectors; v++) {
                    sums[t][v] = _mm256_fmadd_ps(activation, _mm256_loadu_ps(row + 8 * v), sums[t][v]);
                }
            }
        }
    }
    FFF_UNROLL
    for (int t = 0; t < tokens; t++) {
        float *to = outputs[t] + column;
        bool stream = vectors > 1 && fff_may_stream(write, to);
        FFF_UNROLL
        for (int v = 0; v < vectors; v++) {
            if (vectors == 1) {
                store_below_x86_avx2(outputs[t], column, trees->output_width, sums[t][v]);
            } else if (stream) {
                _mm256_stream_ps(to + 8 * v, sums[t][v]);
            } else {
                _mm256_storeu_ps(to + 8 * v, sums[t][v]);
            }
        }
    }
}

void fff_accumulate_f32_x86_avx2(const struct fff_trees_f32 *trees, size_t count, const uint32_t *tokens,
                                 const uint32_t *nodes, const float *activations, unsigned write, float *output,
                                 size_t output_stride) {
    size_t entries = trees->tree_count * trees->level_count;
    for (size_t i = 0, some; i < count; i += some) {
        some = fff_count_sharing(trees, count - i, nodes + i * entries) / TOKENS * TOKENS;
        if (some > 0) {
            fff_accumulate_together(trees, some, tokens + i, nodes + i * entries, activations + i * entries, write,
                                    output, output_stride, TOKENS, 8, BLOCK, columns_x86_avx2);
        } else {
            some = 1;
            fff_accumulate_together(trees, some, tokens + i, nodes + i * entries, activations + i * entries, write,
                                    output, output_stride, 1, 8, BLOCK_OF_ONE, columns_x86_avx2);
        }
    }
}
