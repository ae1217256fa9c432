/* The shape of roots, shared by the vector instruction sets: they differ only in their tile.
 *
 * Four tokens' inputs and three rows stay in L1, 21 KB at 768 columns: the next tokens' would not fit 32 KB beside
 * them. The caller gives so few trees that all their rows stay in L2; while the first four tokens meet one tile's rows,
 * the next tile's are asked for.
 *
 * Everything here is inlined into the one function of a folder that uses it; no copy is left to the linker. */
#ifndef FFF_KERNELS_ROOTS_H
#define FFF_KERNELS_ROOTS_H

#include "kernels/dot_tile.h"

/* Asks for the rows of a tile's roots, those of the trees from `first` on. */
FFF_INLINE void fff_fetch_roots(const struct fff_trees *trees, size_t first, bool fetch_output) {
    for (size_t tree = first; tree < trees->tree_count && tree < first + FFF_DOT_TILE_ROWS; tree++) {
        size_t row = tree * trees->node_count;
        fff_fetch_l2(trees->input_rows + row * trees->row_stride, trees->input_bytes);
        fff_fetch_l2(trees->output_rows + row * trees->output_row_stride, fetch_output ? trees->output_bytes : 0);
    }
}

static void KERNEL(roots)(const struct fff_trees *trees, size_t count, const uint32_t *tokens, const void *inputs,
                          size_t input_stride, bool fetch_output, float *logits, size_t logit_stride) {
    for (size_t first = 0; first < count; first += FFF_DOT_TILE_TOKENS) {
        size_t some = fff_min(count - first, FFF_DOT_TILE_TOKENS);
        const void *input[FFF_DOT_TILE_TOKENS];
        for (size_t t = 0; t < FFF_DOT_TILE_TOKENS; t++) { /* where there are fewer, the last is used again */
            input[t] = token_at(inputs, input_stride, tokens[first + (t < some ? t : some - 1)]);
        }
        for (size_t tree = 0; tree < trees->tree_count; tree += FFF_DOT_TILE_ROWS) {
            size_t rows = fff_min(trees->tree_count - tree, FFF_DOT_TILE_ROWS);
            size_t row[FFF_DOT_TILE_ROWS];
            for (size_t r = 0; r < FFF_DOT_TILE_ROWS; r++) {
                row[r] = (tree + (r < rows ? r : rows - 1)) * trees->node_count;
            }
            if (first == 0 && trees->near_levels == 0) {
                fff_fetch_roots(trees, tree + FFF_DOT_TILE_ROWS, fetch_output);
            }
            float tile[FFF_DOT_TILE_ROWS][FFF_DOT_TILE_TOKENS];
            dot_tile(trees, row, input, NULL, tile);
            for (size_t r = 0; r < rows; r++) {
                for (size_t t = 0; t < some; t++) {
                    logits[(first + t) * logit_stride + (tree + r) * trees->level_count] = tile[r][t];
                }
            }
        }
    }
}

#endif
