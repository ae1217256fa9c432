/* Several tokens' outputs.
 *
 * Four tokens by 4 registers of columns at a time: the 16 sums stay in registers over all of the tokens' rows, so that
 * output is written once, and a row that the four share, as tokens in order of their leaves mostly do, is loaded once
 * for them. A block's columns of all tokens come before the next block: its part of the shared rows, 256 bytes a row,
 * stays in L1. Against one token after the other, 8 registers at a time: 5 to 8 % off a forward of 64 tokens or more,
 * on a core that loads one 64-byte vector a cycle. 6 registers are no faster, and gcc puts some of their sums into
 * memory (docs/trials.md). */
#ifndef FFF_KERNELS_X86_AVX512_ACCUMULATE_H
#define FFF_KERNELS_X86_AVX512_ACCUMULATE_H

#include "kernels/accumulate.h"
#include "kernels/x86_avx512/integer_sums.h"
#include "kernels/x86_avx512/isa.h"
#include "kernels/x86_avx512/row.h"

enum {
    SUM_TOKENS = 4,
    BLOCK = 4,        /* registers of columns of four tokens */
    BLOCK_OF_ONE = 8, /* of one: eight chains cover an FMA's latency, 4 cycles at 2 a cycle */
};

/* The sums of up to SUM_TOKENS tokens. How many tokens and registers, the functions below are told; both are constants
 * wherever they are inlined. */
typedef __m512 output_sums_x86_avx512[SUM_TOKENS][BLOCK_OF_ONE];

/* All sums zero, or what the outputs hold. */
FFF_INLINE void begin_x86_avx512(output_sums_x86_avx512 sums, int tokens, int vectors, unsigned write, __mmask16 mask,
                                 float *const *outputs, size_t column) {
    FFF_UNROLL
    for (int t = 0; t < tokens; t++) {
        FFF_UNROLL
        for (int v = 0; v < vectors; v++) {
            sums[t][v] = (write & FFF_WRITE_CONTINUE) != 0 ? _mm512_maskz_loadu_ps(mask, outputs[t] + column + 16 * v)
                                                           : _mm512_setzero_ps();
        }
    }
}

FFF_INLINE void store_x86_avx512(output_sums_x86_avx512 sums, int tokens, int vectors, unsigned write, __mmask16 mask,
                                 float *const *outputs, size_t column) {
    FFF_UNROLL
    for (int t = 0; t < tokens; t++) {
        float *to = outputs[t] + column;
        if (vectors > 1 && fff_may_stream(write, to)) {
            FFF_UNROLL
            for (int v = 0; v < vectors; v++) {
                _mm512_stream_ps(to + 16 * v, sums[t][v]);
            }
            continue;
        }
        FFF_UNROLL
        for (int v = 0; v < vectors; v++) {
            _mm512_mask_storeu_ps(to + 16 * v, mask, sums[t][v]);
        }
    }
}

/* One token's columns, or those of SUM_TOKENS. */
FFF_INLINE void columns(const struct fff_trees *trees, int tokens, const uint32_t *nodes, const float *factors,
                        unsigned write, float *const *outputs, size_t column, int vectors) {
    size_t entries = trees->tree_count * trees->level_count;
    __mmask16 mask = vectors > 1 ? 0xffff : mask_below_x86_avx512(column, trees->output_width);
    output_sums_x86_avx512 sums;
    begin_x86_avx512(sums, tokens, vectors, write, mask, outputs, column);
    const unsigned char *rows = trees->output_rows + row_offset(column); /* of the tree */
    int half = vectors > 1 ? 0 : row_half(column);
    for (size_t tree = 0; tree < trees->tree_count; tree++, rows += trees->node_count * trees->output_row_stride) {
        for (size_t level = 0; level < trees->level_count; level++, nodes++, factors++) {
            const unsigned char *row = rows + *nodes * trees->output_row_stride;
            if (tokens == 1) { /* for four, gcc does better without */
                FFF_OPAQUE(row);
            }
            FFF_OPAQUE(nodes);
            FFF_OPAQUE(factors);
            bool shared = true;
            FFF_UNROLL
            for (int t = 1; t < tokens; t++) {
                shared &= nodes[t * entries] == *nodes;
            }
            if (shared) {
                __m512 factor[SUM_TOKENS];
                FFF_UNROLL
                for (int t = 0; t < tokens; t++) {
                    factor[t] = _mm512_set1_ps(factors[t * entries]);
                }
                FFF_UNROLL
                for (int v = 0; v < vectors; v++) {
                    __m512 weights = load_output_row(mask, row, v, vectors, half);
                    if (tokens > 1) {
                        __asm__("" : "+v"(weights)); /* or gcc loads them once for each token */
                    }
                    FFF_UNROLL
                    for (int t = 0; t < tokens; t++) {
                        sums[t][v] = _mm512_fmadd_ps(factor[t], weights, sums[t][v]);
                    }
                }
                continue;
            }
            FFF_UNROLL
            for (int t = 0; t < tokens; t++) {
                __m512 factor = _mm512_set1_ps(factors[t * entries]);
                row = rows + nodes[t * entries] * trees->output_row_stride;
                FFF_UNROLL
                for (int v = 0; v < vectors; v++) {
                    sums[t][v] = _mm512_fmadd_ps(factor, load_output_row(mask, row, v, vectors, half), sums[t][v]);
                }
            }
        }
    }
    store_x86_avx512(sums, tokens, vectors, write, mask, outputs, column);
}

static void KERNEL(accumulate)(const struct fff_trees *trees, size_t count, const uint32_t *tokens,
                               const uint32_t *nodes, const float *factors, unsigned write, float *output,
                               size_t output_stride) {
    if (ROW_TYPE == FFF_WEIGHT_I8 && fff_has_integer_sums(trees->level_count)) {
        fff_sum_integers(trees, count, tokens, nodes, factors, write, output, output_stride, INTEGER_STEPS);
        return;
    }
    size_t entries = trees->tree_count * trees->level_count, fours = count / SUM_TOKENS * SUM_TOKENS;
    fff_accumulate_together(trees, fours, tokens, nodes, factors, write, output, output_stride, SUM_TOKENS, 16, BLOCK);
    fff_accumulate_one_by_one(trees, count - fours, tokens + fours, nodes + fours * entries, factors + fours * entries,
                              write, output, output_stride, 16, BLOCK_OF_ONE);
}

#endif
