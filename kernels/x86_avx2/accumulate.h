/* Several tokens' outputs.
 *
 * Tokens that share a path go in pairs, 6 registers of columns of each: 12 sums, both factors and the weights make
 * 15 of 16 registers, and a row that the two share is loaded once. Against one by one: 4 % off a forward of 4096 tokens
 * or more, 10 % if all take one path. Other tokens go one by one in blocks of 8 registers: one load an FMA, output
 * written once, and eight chains to cover an FMA's latency; in pairs they took 7 % longer at 64 tokens
 * (docs/trials.md). */
#ifndef FFF_KERNELS_X86_AVX2_ACCUMULATE_H
#define FFF_KERNELS_X86_AVX2_ACCUMULATE_H

#include "kernels/accumulate.h"
#include "kernels/x86_avx2/integer_sums.h"
#include "kernels/x86_avx2/isa.h"
#include "kernels/x86_ymm_row.h"

enum {
    SUM_TOKENS = 2,
    /* registers of columns of two tokens; others than float32 want whole steps, and a register to be converted */
    BLOCK = ROW_TYPE == FFF_WEIGHT_F32 ? 6 : 4,
    BLOCK_OF_ONE = 8, /* of one */
};

/* Register `v` of `vectors` of a row, `at` being where its columns from `column` on begin. A single one may reach
 * beyond the row: what is there is not stored, so that it may be loaded, too, if there is memory. */
FFF_INLINE __m256 load_output_row(const unsigned char *at, size_t column, size_t width, int v, int vectors, int half) {
    return ROW_READS_EXACTLY && vectors == 1 ? load_row_below_x86_avx2(at - row_offset(column), column, width)
                                             : load_row_of_8(at, v, half);
}

/* One token's columns, or those of SUM_TOKENS. */
FFF_INLINE void columns(const struct fff_trees *trees, int tokens, const uint32_t *nodes, const float *factors,
                        unsigned write, float *const *outputs, size_t column, int vectors) {
    size_t entries = trees->tree_count * trees->level_count, width = trees->output_width;
    __m256 sums[SUM_TOKENS][BLOCK_OF_ONE];
    FFF_UNROLL
    for (int t = 0; t < tokens; t++) {
        FFF_UNROLL
        for (int v = 0; v < vectors; v++) {
            sums[t][v] = (write & FFF_WRITE_CONTINUE) == 0 ? _mm256_setzero_ps()
                         : vectors > 1                     ? _mm256_loadu_ps(outputs[t] + column + 8 * v)
                                       : load_below_x86_avx2(outputs[t], column, trees->output_width);
        }
    }
    const unsigned char *tree_rows = trees->output_rows + row_offset(column);
    int half = vectors > 1 ? 0 : row_half(column);
    for (size_t tree = 0; tree < trees->tree_count; tree++, tree_rows += trees->node_count * trees->output_row_stride) {
        for (size_t level = 0; level < trees->level_count; level++, nodes++, factors++) {
            const unsigned char *row = tree_rows + *nodes * trees->output_row_stride;
            FFF_OPAQUE(row);
            if (tokens == 2 && nodes[entries] == *nodes) {
                __m256 first = _mm256_broadcast_ss(factors), second = _mm256_broadcast_ss(factors + entries);
                FFF_UNROLL
                for (int v = 0; v < vectors; v++) {
                    __m256 weights = load_output_row(row, column, width, v, vectors, half);
                    __asm__("" : "+x"(weights)); /* or gcc loads them once for each token */
                    sums[0][v] = _mm256_fmadd_ps(first, weights, sums[0][v]);
                    sums[1][v] = _mm256_fmadd_ps(second, weights, sums[1][v]);
                }
                continue;
            }
            FFF_UNROLL
            for (int t = 0; t < tokens; t++) {
                __m256 factor = _mm256_broadcast_ss(factors + t * entries);
                if (t > 0) {
                    row = tree_rows + nodes[t * entries] * trees->output_row_stride;
                    FFF_OPAQUE(row);
                }
                FFF_UNROLL
                for (int v = 0; v < vectors; v++) {
                    __m256 weights = load_output_row(row, column, width, v, vectors, half);
                    sums[t][v] = _mm256_fmadd_ps(factor, weights, sums[t][v]);
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

static void KERNEL(accumulate)(const struct fff_trees *trees, size_t count, const uint32_t *tokens,
                               const uint32_t *nodes, const float *factors, unsigned write, float *output,
                               size_t output_stride) {
    if (ROW_TYPE == FFF_WEIGHT_I8 && fff_has_integer_sums(trees->level_count)) {
        fff_sum_integers(trees, count, tokens, nodes, factors, write, output, output_stride, INTEGER_STEPS);
        return;
    }
    size_t entries = trees->tree_count * trees->level_count;
    for (size_t i = 0, some; i < count; i += some) {
        some = fff_count_sharing(trees, count - i, nodes + i * entries) / SUM_TOKENS * SUM_TOKENS;
        if (some > 0) {
            fff_accumulate_together(trees, some, tokens + i, nodes + i * entries, factors + i * entries, write, output,
                                    output_stride, SUM_TOKENS, 8, BLOCK);
        } else {
            some = 1;
            fff_accumulate_together(trees, some, tokens + i, nodes + i * entries, factors + i * entries, write, output,
                                    output_stride, 1, 8, BLOCK_OF_ONE);
        }
    }
}

#endif
