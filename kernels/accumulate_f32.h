/* The shape of accumulate_f32, shared by the vector instruction sets: they differ in their block of columns.
 *
 * A block's columns of all tokens come before the next block: tokens come in order of their leaves and share most of
 * their rows, and a block's part of those, 512 bytes a row, stays in L1, where a token's whole rows, 36 KB at 12 levels
 * of 768 columns, do not fit. Against token after token: 7 % off a forward whose tokens take one path, 2 to 8 % off
 * large batches, on a core with 32 KB of L1 (docs/design.md).
 *
 * Everything here is inlined into the one function of a folder that uses it; no copy is left to the linker. */
#ifndef FFF_KERNELS_ACCUMULATE_F32_H
#define FFF_KERNELS_ACCUMULATE_F32_H

#include "kernels/kernels.h"

/* One token's output, `vectors` registers of columns from `column` on; the last of them may reach beyond the output
 * width, where nothing is read or written. */
typedef void fff_columns(const struct fff_trees_f32 *trees, const uint32_t *nodes, const float *activations,
                         unsigned how, float *output, size_t column, int vectors);

/* A block is `vectors` registers of `lanes` columns. */
static inline __attribute__((always_inline)) void
fff_accumulate_columns(const struct fff_trees_f32 *trees, size_t count, const uint32_t *tokens, const uint32_t *nodes,
                       const float *activations, unsigned how, float *output, size_t output_stride, size_t lanes,
                       int vectors, fff_columns *columns) {
    size_t width = trees->output_width, entries = trees->trees * trees->levels, column = 0;
    for (; column + vectors * lanes <= width; column += vectors * lanes) {
        for (size_t i = 0; i < count; i++) {
            columns(trees, nodes + i * entries, activations + i * entries, how, output + tokens[i] * output_stride,
                    column, vectors);
        }
    }
    for (; column < width; column += lanes) {
        for (size_t i = 0; i < count; i++) {
            columns(trees, nodes + i * entries, activations + i * entries, how, output + tokens[i] * output_stride,
                    column, 1);
        }
    }
}

/* Whether a whole block of an output is to be streamed: such stores want whole cache lines. */
static inline __attribute__((always_inline)) bool fff_may_stream(unsigned how, const float *output) {
    return (how & FFF_STREAM) != 0 && (uintptr_t)output % (FFF_LINE_FLOATS * sizeof(float)) == 0;
}

#endif
