/* Several tokens' outputs from the roots of all trees: a matrix product whose every element is a fused chain over the
 * trees.
 *
 * Eight tokens by three registers of columns at a time: 24 accumulators, 3 registers of a row and the activation, so 11
 * loads for 24 FMAs. The rows come from L2, once for eight tokens. */
#include "kernels/x86_avx512/isa.h"

enum { TOKENS = 8, VECTORS = 3 };

/* The outputs of TOKENS tokens, `vectors` registers from `column` on; `last` masks the
 * last of them. */
static inline __attribute__((always_inline)) void tile_x86_avx512(const struct fff_trees_f32 *trees,
                                                                  const float *const activations[TOKENS], unsigned how,
                                                                  float *const output[TOKENS], size_t column,
                                                                  int vectors, __mmask16 last) {
    __m512 sums[TOKENS][VECTORS];
    for (int t = 0; t < TOKENS; t++) {
        for (int v = 0; v < vectors; v++) {
            __mmask16 lanes = v == vectors - 1 ? last : 0xffff;
            sums[t][v] = (how & FFF_CONTINUE) != 0 ? _mm512_maskz_loadu_ps(lanes, output[t] + column + 16 * v)
                                                   : _mm512_setzero_ps();
        }
    }
    const float *weights = trees->output_rows + column;
    for (size_t tree = 0; tree < trees->trees; tree++, weights += trees->row_stride) {
        __m512 row[VECTORS];
        for (int v = 0; v < vectors; v++) {
            row[v] = _mm512_load_ps(weights + 16 * v);
        }
        for (int t = 0; t < TOKENS; t++) {
            __m512 activation = _mm512_set1_ps(activations[t][tree]);
            for (int v = 0; v < vectors; v++) {
                sums[t][v] = _mm512_fmadd_ps(activation, row[v], sums[t][v]);
            }
        }
    }
    for (int t = 0; t < TOKENS; t++) {
        for (int v = 0; v < vectors; v++) {
            _mm512_mask_storeu_ps(output[t] + column + 16 * v, v == vectors - 1 ? last : 0xffff, sums[t][v]);
        }
    }
}

void fff_add_roots_f32_x86_avx512(const struct fff_trees_f32 *trees, size_t count, const float *activations,
                                  size_t activation_stride, unsigned how, float *output, size_t output_stride) {
    size_t width = trees->output_width;
    for (size_t first = 0; first < count; first += TOKENS) {
        size_t tokens = count - first < TOKENS ? count - first : TOKENS;
        const float *of_token[TOKENS];
        float *to[TOKENS];
        for (size_t t = 0; t < TOKENS; t++) { /* where there are fewer, the last is computed again */
            size_t token = first + (t < tokens ? t : tokens - 1);
            of_token[t] = activations + token * activation_stride;
            to[t] = output + token * output_stride;
        }
        size_t column = 0;
        for (; column + 16 * VECTORS <= width; column += 16 * VECTORS) {
            tile_x86_avx512(trees, of_token, how, to, column, VECTORS, 0xffff);
        }
        for (; column < width; column += 16) {
            tile_x86_avx512(trees, of_token, how, to, column, 1, lanes_below_x86_avx512(column, width));
        }
    }
}
