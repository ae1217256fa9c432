/* The shape of add_roots, shared by the vector instruction sets: they differ in their tile of tokens by registers
 * of columns.
 *
 * Everything here is inlined into the one function of a folder that uses it; no copy is left to the linker. */
#ifndef FFF_KERNELS_ADD_ROOTS_H
#define FFF_KERNELS_ADD_ROOTS_H

#include "kernels/row.h"

enum { FFF_MOST_SUM_TILE_TOKENS = 8 };

/* How much a tile holds: at most `tokens` by `vectors` registers of `register_floats` columns. */
struct fff_sum_tile {
    size_t tokens, register_floats;
    int vectors;
};

/* The folder's: the outputs of a tile's tokens, `vectors` registers from `column` on; the last of them may reach beyond
 * the output width, where nothing is read or written. */
FFF_INLINE void sum_tile(const struct fff_trees *trees, const float *const *factors, unsigned write,
                         float *const *output, size_t column, int vectors);

FFF_INLINE void add_roots_by_tiles(const struct fff_trees *trees, size_t count, const uint32_t *tokens,
                                   const float *factors, size_t factor_stride, unsigned write, float *output,
                                   size_t output_stride, struct fff_sum_tile tile) {
    size_t width = trees->output_width;
    for (size_t first = 0; first < count; first += tile.tokens) {
        size_t some = fff_min(count - first, tile.tokens);
        const float *of_token[FFF_MOST_SUM_TILE_TOKENS];
        float *to[FFF_MOST_SUM_TILE_TOKENS];
        for (size_t t = 0; t < tile.tokens; t++) { /* where there are fewer, the last is computed again */
            size_t i = first + (t < some ? t : some - 1);
            of_token[t] = factors + i * factor_stride;
            to[t] = output + tokens[i] * output_stride;
        }
        size_t column = 0;
        for (; column + tile.vectors * tile.register_floats <= width; column += tile.vectors * tile.register_floats) {
            sum_tile(trees, of_token, write, to, column, tile.vectors);
        }
        for (; column < width; column += tile.register_floats) {
            sum_tile(trees, of_token, write, to, column, 1);
        }
    }
}

#endif
