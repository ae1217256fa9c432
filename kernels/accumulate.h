/* The shapes of accumulate, shared by the vector instruction sets: one token at a time in each block of columns, or
 * several, where a row that they share is loaded once. They differ in the block and in how many are several.
 *
 * Everything here is inlined into the one function of a folder that uses it; no copy is left to the linker. */
#ifndef FFF_KERNELS_ACCUMULATE_H
#define FFF_KERNELS_ACCUMULATE_H

#include "kernels/row.h"

/* The folder's: the outputs of `tokens` tokens, whose nodes and factors follow one another: `vectors` registers of
 * columns from `column` on; a single one may reach beyond the output width, where nothing is read or written. Both
 * counts are constants wherever this is inlined. */
FFF_INLINE void columns(const struct fff_trees *trees, int tokens, const uint32_t *nodes, const float *factors,
                        unsigned write, float *const *outputs, size_t column, int vectors);

enum { FFF_MOST_TOGETHER = 4 };

/* Block of columns by block of columns, `together` tokens at a time, of which `count` is a multiple. A block is
 * `vectors` registers of `register_floats` columns. */
FFF_INLINE void fff_accumulate_together(const struct fff_trees *trees, size_t count, const uint32_t *tokens,
                                        const uint32_t *nodes, const float *factors, unsigned write, float *output,
                                        size_t output_stride, int together, size_t register_floats, int vectors) {
    size_t width = trees->output_width, entries = trees->tree_count * trees->level_count;
    for (size_t column = 0, block; column < width; column += block * register_floats) {
        block = column + vectors * register_floats <= width ? vectors : 1;
        for (size_t i = 0; i < count; i += together) {
            float *outputs[FFF_MOST_TOGETHER];
            for (int t = 0; t < together; t++) {
                outputs[t] = output + tokens[i + t] * output_stride;
            }
            if (block > 1) {
                columns(trees, together, nodes + i * entries, factors + i * entries, write, outputs, column, vectors);
            } else {
                columns(trees, together, nodes + i * entries, factors + i * entries, write, outputs, column, 1);
            }
        }
    }
}

/* How many tokens, from the first on, share their path but for the last OWN rows of their only tree. */
FFF_INLINE size_t fff_count_sharing(const struct fff_trees *trees, size_t count, const uint32_t *nodes) {
    enum { OWN = 2 };
    size_t sharing = 1;
    if (trees->tree_count == 1 && trees->level_count > OWN) {
        const uint32_t *last_shared = nodes + trees->level_count - 1 - OWN;
        while (sharing < count && last_shared[sharing * trees->level_count] == last_shared[0]) {
            sharing++;
        }
    }
    return sharing;
}

/* One token at a time. Of tokens that share a path, a block's columns come before the next block: its part of their
 * rows, 256 bytes a row, stays in L1, where a token's whole rows, 36 KB at 12 levels of 768 columns, do not fit. Other
 * tokens come one by one, since a row that does not come from L1 is best read to its end. Against token after token: 7
 * % off a forward whose tokens take one path, 2 to 8 % off large batches, on a core with 32 KB of L1 (docs/trials.md).
 */
FFF_INLINE void fff_accumulate_one_by_one(const struct fff_trees *trees, size_t count, const uint32_t *tokens,
                                          const uint32_t *nodes, const float *factors, unsigned write, float *output,
                                          size_t output_stride, size_t register_floats, int vectors) {
    size_t entries = trees->tree_count * trees->level_count;
    for (size_t i = 0, sharing; i < count; i += sharing) {
        sharing = fff_count_sharing(trees, count - i, nodes + i * entries);
        fff_accumulate_together(trees, sharing, tokens + i, nodes + i * entries, factors + i * entries, write, output,
                                output_stride, 1, register_floats, vectors);
    }
}

/* Whether a whole block of an output is to be streamed: such stores want whole cache lines. */
FFF_INLINE bool fff_may_stream(unsigned write, const float *output) {
    return (write & FFF_WRITE_STREAM) != 0 && (uintptr_t)output % (FFF_LINE_FLOATS * sizeof(float)) == 0;
}

#endif
