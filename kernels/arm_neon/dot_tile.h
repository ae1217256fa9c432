/* Dot products of three rows with four tokens, in eight passes over the widths, each for four of the partial sums: 7
 * loads for 12 FMAs, whose 12 chains cover their latency. */
#ifndef FFF_KERNELS_ARM_NEON_DOT_TILE_H
#define FFF_KERNELS_ARM_NEON_DOT_TILE_H

#include "kernels/arm_neon/dot.h"
#include "kernels/arm_neon/isa.h"
#include "kernels/dot_tile.h"

/* One step of a pass: weights from `offset` on, in the last those below `width`, against inputs. */
FFF_INLINE void pass_step_arm_neon(const unsigned char *const weights[FFF_DOT_TILE_ROWS], size_t offset, bool last,
                                   size_t width, const float *const input[FFF_DOT_TILE_TOKENS], size_t input_offset,
                                   int v, float32x4_t part[FFF_DOT_TILE_ROWS][FFF_DOT_TILE_TOKENS]) {
    float32x4_t row[FFF_DOT_TILE_ROWS];
    FFF_UNROLL
    for (int r = 0; r < FFF_DOT_TILE_ROWS; r++) {
        const unsigned char *at = weights[r] + row_offset(offset);
        row[r] = !last ? load_row(at, v, 0) : last_weights_arm_neon(weights[r], offset, width, v);
    }
    FFF_UNROLL
    for (int t = 0; t < FFF_DOT_TILE_TOKENS; t++) {
        float32x4_t x = vld1q_f32(input[t] + input_offset + 4 * v);
        FFF_UNROLL
        for (int r = 0; r < FFF_DOT_TILE_ROWS; r++) {
            part[r][t] = vfmaq_f32(part[r][t], x, row[r]);
        }
    }
}

/* Partial sums 4v to 4v + 3 of every row with every token. Asks for every other line of `ahead`, if that is not NULL.
 */
FFF_INLINE void pass_arm_neon(const unsigned char *const weights[FFF_DOT_TILE_ROWS],
                              const float *const input[FFF_DOT_TILE_TOKENS],
                              float tail[FFF_DOT_TILE_TOKENS][FFF_PARTIAL_SUMS], const float *ahead, size_t width,
                              int v, sums_arm_neon sums[FFF_DOT_TILE_ROWS][FFF_DOT_TILE_TOKENS]) {
    float32x4_t part[FFF_DOT_TILE_ROWS][FFF_DOT_TILE_TOKENS];
    FFF_UNROLL
    for (int r = 0; r < FFF_DOT_TILE_ROWS; r++) {
        FFF_UNROLL
        for (int t = 0; t < FFF_DOT_TILE_TOKENS; t++) {
            part[r][t] = vdupq_n_f32(0.0f);
        }
    }
    size_t i = 0;
    for (; i + FFF_PARTIAL_SUMS <= width; i += FFF_PARTIAL_SUMS) {
        if (ahead != NULL) {
            __builtin_prefetch(ahead + i, 0, 2);
        }
        pass_step_arm_neon(weights, i, false, width, input, i, v, part);
    }
    if (i < width) {
        const float *const tails[FFF_DOT_TILE_TOKENS] = {tail[0], tail[1], tail[2], tail[3]};
        pass_step_arm_neon(weights, i, true, width, tails, 0, v, part);
    }
    FFF_UNROLL
    for (int r = 0; r < FFF_DOT_TILE_ROWS; r++) {
        FFF_UNROLL
        for (int t = 0; t < FFF_DOT_TILE_TOKENS; t++) {
            sums[r][t].part[v] = part[r][t];
        }
    }
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
    sums_arm_neon sums[FFF_DOT_TILE_ROWS][FFF_DOT_TILE_TOKENS];
    _Static_assert((int)DOT_VECTORS_ARM_NEON == 2 * FFF_DOT_TILE_TOKENS, "each pass asks for half of a token's input");
    for (int v = 0; v < DOT_VECTORS_ARM_NEON; v++) {
        const float *half = ahead != NULL ? (const float *)ahead[v / 2] + v % 2 * FFF_LINE_FLOATS : NULL;
        pass_arm_neon(weights, input, padded, half, width, v, sums);
    }
    FFF_UNROLL
    for (int r = 0; r < FFF_DOT_TILE_ROWS; r++) {
        FFF_UNROLL
        for (int t = 0; t < FFF_DOT_TILE_TOKENS; t++) {
            logits[r][t] = halve_to_1_arm_neon(sums[r][t]) + trees->biases[rows[r]];
        }
    }
}

#endif
