/* Dot products of three rows with four tokens, in four passes over the widths, each for eight of the partial sums: 12
 * accumulators, 3 registers of rows and one of an input, all 16. A pass takes 7 loads for 12 FMAs, so a core with two
 * of each a cycle is bound by FMAs. */
#ifndef FFF_KERNELS_X86_AVX2_DOT_TILE_H
#define FFF_KERNELS_X86_AVX2_DOT_TILE_H

#include "kernels/dot_tile.h"
#include "kernels/x86_avx2/dot.h"
#include "kernels/x86_avx2/isa.h"

/* One step of a pass: weights from `offset` on, in the last those below `width`, against inputs. */
FFF_INLINE void pass_step_x86_avx2(const unsigned char *const weights[FFF_DOT_TILE_ROWS], size_t offset, bool last,
                                   size_t width, const float *const input[FFF_DOT_TILE_TOKENS], size_t input_offset,
                                   int v, __m256 part[FFF_DOT_TILE_ROWS][FFF_DOT_TILE_TOKENS]) {
    __m256 row[FFF_DOT_TILE_ROWS];
    FFF_UNROLL
    for (int r = 0; r < FFF_DOT_TILE_ROWS; r++) {
        const unsigned char *at = weights[r] + row_offset(offset);
        row[r] = !last ? load_row_of_8(at, v, 0) : last_weights_x86_avx2(weights[r], offset, width, v);
    }
    FFF_UNROLL
    for (int t = 0; t < FFF_DOT_TILE_TOKENS; t++) {
        __m256 x = _mm256_loadu_ps(input[t] + input_offset + 8 * v);
        FFF_UNROLL
        for (int r = 0; r < FFF_DOT_TILE_ROWS; r++) {
            part[r][t] = _mm256_fmadd_ps(x, row[r], part[r][t]);
        }
    }
}

/* Partial sums 8v to 8v + 7 of every row with every token. Asks for `ahead`, if that is not NULL. */
FFF_INLINE void pass_x86_avx2(const unsigned char *const weights[FFF_DOT_TILE_ROWS],
                              const float *const input[FFF_DOT_TILE_TOKENS],
                              float tail[FFF_DOT_TILE_TOKENS][FFF_PARTIAL_SUMS], const float *ahead, size_t width,
                              int v, sums_x86_avx2 sums[FFF_DOT_TILE_ROWS][FFF_DOT_TILE_TOKENS]) {
    __m256 part[FFF_DOT_TILE_ROWS][FFF_DOT_TILE_TOKENS];
    FFF_UNROLL
    for (int r = 0; r < FFF_DOT_TILE_ROWS; r++) {
        FFF_UNROLL
        for (int t = 0; t < FFF_DOT_TILE_TOKENS; t++) {
            part[r][t] = _mm256_setzero_ps();
        }
    }
    size_t i = 0;
    for (; i + FFF_PARTIAL_SUMS <= width; i += FFF_PARTIAL_SUMS) {
        if (ahead != NULL) {
            __builtin_prefetch(ahead + i, 0, 2);
            __builtin_prefetch(ahead + i + FFF_LINE_FLOATS, 0, 2);
        }
        pass_step_x86_avx2(weights, i, false, width, input, i, v, part);
    }
    if (i < width) {
        const float *const tails[FFF_DOT_TILE_TOKENS] = {tail[0], tail[1], tail[2], tail[3]};
        pass_step_x86_avx2(weights, i, true, width, tails, 0, v, part);
    }
    FFF_UNROLL
    for (int r = 0; r < FFF_DOT_TILE_ROWS; r++) {
        FFF_UNROLL
        for (int t = 0; t < FFF_DOT_TILE_TOKENS; t++) {
            sums[r][t].part[v] = part[r][t];
        }
    }
}

/* The halving trees of four tokens, a to d, which share their shuffles. */
static inline __m128 halve_four_to_1_x86_avx2(const sums_x86_avx2 sums[FFF_DOT_TILE_TOKENS]) {
    __m256 a = halve_32_to_8_x86_avx2(&sums[0]), b = halve_32_to_8_x86_avx2(&sums[1]);
    __m256 c = halve_32_to_8_x86_avx2(&sums[2]), d = halve_32_to_8_x86_avx2(&sums[3]);
    __m256 ab = _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
    __m256 cd = _mm256_add_ps(_mm256_permute2f128_ps(c, d, 0x20), _mm256_permute2f128_ps(c, d, 0x31));
    /* a02 c02 a13 c13 in the lower half, b02 d02 b13 d13 in the upper one; then a c a c and b d b d */
    __m256 two = _mm256_add_ps(_mm256_unpacklo_ps(ab, cd), _mm256_unpackhi_ps(ab, cd));
    __m256 one = _mm256_add_ps(two, _mm256_permute_ps(two, _MM_SHUFFLE(1, 0, 3, 2)));
    return _mm_unpacklo_ps(_mm256_castps256_ps128(one), _mm256_extractf128_ps(one, 1));
}

FFF_INLINE void dot_tile(const struct fff_trees *trees, const size_t rows[FFF_DOT_TILE_ROWS],
                         const void *const tokens[FFF_DOT_TILE_TOKENS], const void *const *ahead,
                         float logits[FFF_DOT_TILE_ROWS][FFF_DOT_TILE_TOKENS]) {
    size_t width = trees->input_width;
    const unsigned char *weights[FFF_DOT_TILE_ROWS];
    const float *input[FFF_DOT_TILE_TOKENS];
    for (int r = 0; r < FFF_DOT_TILE_ROWS; r++) {
        weights[r] = trees->input_rows + rows[r] * trees->row_stride;
    }
    for (int t = 0; t < FFF_DOT_TILE_TOKENS; t++) {
        input[t] = tokens[t];
    }
    float padded[FFF_DOT_TILE_TOKENS][FFF_PARTIAL_SUMS];
    fff_pad_tails(input, width, padded);
    sums_x86_avx2 sums[FFF_DOT_TILE_ROWS][FFF_DOT_TILE_TOKENS];
    _Static_assert((int)DOT_VECTORS_X86_AVX2 == FFF_DOT_TILE_TOKENS, "each pass asks for one token's input");
    for (int v = 0; v < DOT_VECTORS_X86_AVX2; v++) {
        pass_x86_avx2(weights, input, padded, ahead != NULL ? ahead[v] : NULL, width, v, sums);
    }
    FFF_UNROLL
    for (int r = 0; r < FFF_DOT_TILE_ROWS; r++) {
        _mm_storeu_ps(logits[r], _mm_add_ps(halve_four_to_1_x86_avx2(sums[r]), _mm_set1_ps(trees->biases[rows[r]])));
    }
}

#endif
