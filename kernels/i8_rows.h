/* What the vector instruction sets share for I8 input rows: exact integer dot products in blocks that 32 bits can hold,
 * and from those to logits. They differ in the registers and instructions that integer_dots.h has, and in how far
 * their tokens' integers are offset.
 *
 * Everything here is inlined into the functions that use it; no copy is left to the linker. */
#ifndef FFF_KERNELS_I8_ROWS_H
#define FFF_KERNELS_I8_ROWS_H

#include "kernels/dot_tile.h"

/* The most columns whose sum, of a byte without sign times one with, cannot overflow: 255 * 127 * 65536 < 2^31. */
enum { INTEGER_BLOCK = 1 << 16 };

enum { INTEGER_TOKENS = 4 /* against a row of their own */ };

/* The most registers of sums: those of a dot tile, or several for each dot product, so that no addition waits for the
 * one before. */
enum { MOST_CHAINS = FFF_DOT_TILE_ROWS * FFF_DOT_TILE_TOKENS };

/* Of the folder are the types, dot_register, of 32-bit sums, and byte_register, of BYTES_AT_ONCE bytes, ready to be
 * multiplied; and: */

FFF_INLINE dot_register zero_dots(void);
FFF_INLINE byte_register load_token(const unsigned char *at); /* which is aligned to 64 bytes, and */
FFF_INLINE byte_register load_weights(const unsigned char *at);
FFF_INLINE dot_register add_products(dot_register dots, byte_register token, byte_register weights);
FFF_INLINE dot_register add_dots(dot_register a, dot_register b);
/* dots[i] = the sum of the lanes of registers[i]; `count` is 1 or a multiple of 4. */
FFF_INLINE void store_dots(const dot_register *registers, int count, int32_t *dots);

/* Adds the products of BYTES_AT_ONCE bytes of each row and each token. */
FFF_INLINE void add_tile(int rows, int tokens, const unsigned char *const *weights, const unsigned char *const *input,
                         size_t at, dot_register *dots) {
    byte_register row[FFF_DOT_TILE_ROWS];
    FFF_UNROLL
    for (int r = 0; r < rows; r++) {
        row[r] = load_weights(weights[r] + at);
    }
    FFF_UNROLL
    for (int t = 0; t < tokens; t++) {
        byte_register token = load_token(input[t] + at);
        FFF_UNROLL
        for (int r = 0; r < rows; r++) {
            dots[r * tokens + t] = add_products(dots[r * tokens + t], token, row[r]);
        }
    }
}

/* dots[r * tokens + t] is the sum of products of weights[r] and input[t], `bytes` of each, which are at most
 * INTEGER_BLOCK and a multiple of FFF_QUANTISED_STEP. `rows` by `tokens` is 1 by 1, 1 by INTEGER_TOKENS or a dot tile,
 * constants wherever this is inlined. The inputs are aligned to 64 bytes. `ahead` as for a dot tile. */
FFF_INLINE void integer_dots(int rows, int tokens, const unsigned char *const *weights,
                             const unsigned char *const *input, const unsigned char *const *ahead, size_t bytes,
                             int32_t *dots) {
    _Static_assert(FFF_QUANTISED_STEP % BYTES_AT_ONCE == 0, "steps are whole");
    int pairs = rows * tokens, chains = pairs > INTEGER_TOKENS ? 1 : pairs > 1 ? 2 : 4; /* of each pair */
    dot_register sums[MOST_CHAINS];
    FFF_UNROLL
    for (int i = 0; i < pairs * chains; i++) {
        sums[i] = zero_dots();
    }
    size_t at = 0;
    for (; at + BYTES_AT_ONCE * chains <= bytes; at += BYTES_AT_ONCE * chains) {
        FFF_UNROLL
        for (int c = 0; c < chains; c++) {
            add_tile(rows, tokens, weights, input, at + BYTES_AT_ONCE * c, sums + c * pairs);
        }
        if (ahead != NULL && at % FFF_LINE_BYTES == 0) {
            FFF_UNROLL
            for (int t = 0; t < tokens; t++) {
                __builtin_prefetch(ahead[t] + at, 0, 2);
            }
        }
    }
    for (; at < bytes; at += BYTES_AT_ONCE) { /* fewer than there are chains */
        add_tile(rows, tokens, weights, input, at, sums);
    }
    FFF_UNROLL
    for (int c = 1; c < chains; c++) {
        FFF_UNROLL
        for (int i = 0; i < pairs; i++) {
            sums[i] = add_dots(sums[i], sums[c * pairs + i]);
        }
    }
    store_dots(sums, pairs, dots);
}

/* logits[r * tokens + t] is the logit of rows[r] for token t. */
FFF_INLINE void integer_logits(const struct fff_trees *trees, int row_count, int token_count, const size_t *rows,
                               const void *const *tokens, const void *const *ahead, float *logits) {
    enum { MOST = FFF_DOT_TILE_ROWS * FFF_DOT_TILE_TOKENS };
    size_t padded = fff_quantised_width(trees->input_width);
    const unsigned char *weights[FFF_DOT_TILE_ROWS], *input[FFF_DOT_TILE_TOKENS], *next[FFF_DOT_TILE_TOKENS];
    int32_t dots[MOST];
    FFF_UNROLL
    for (int r = 0; r < row_count; r++) {
        weights[r] = trees->input_rows + rows[r] * trees->row_stride;
    }
    FFF_UNROLL
    for (int t = 0; t < token_count; t++) {
        input[t] = tokens[t];
        next[t] = ahead != NULL ? ahead[t] : NULL;
    }
    if (padded <= INTEGER_BLOCK) {
        integer_dots(row_count, token_count, weights, input, ahead != NULL ? next : NULL, padded, dots);
        FFF_UNROLL
        for (int i = 0; i < row_count * token_count; i++) {
            int32_t dot = dots[i] - TOKEN_OFFSET * (int32_t)trees->input_sums[rows[i / token_count]];
            float scale = fff_scale_of_quantised(input[i % token_count], trees->input_width);
            logits[i] = fff_scale_dot(trees, rows[i / token_count], (float)dot, scale);
        }
        return;
    }
    int64_t sums[MOST] = {0};
    for (size_t start = 0, bytes; start < padded; start += bytes) {
        bytes = fff_min(padded - start, INTEGER_BLOCK);
        integer_dots(row_count, token_count, weights, input, NULL, bytes, dots);
        for (int r = 0; r < row_count; r++) {
            weights[r] += bytes;
        }
        for (int t = 0; t < token_count; t++) {
            input[t] += bytes;
        }
        for (int i = 0; i < row_count * token_count; i++) {
            sums[i] += dots[i];
        }
    }
    for (int i = 0; i < row_count * token_count; i++) {
        int64_t dot = sums[i] - TOKEN_OFFSET * trees->input_sums[rows[i / token_count]];
        float scale = fff_scale_of_quantised(tokens[i % token_count], trees->input_width);
        logits[i] = fff_scale_dot(trees, rows[i / token_count], (float)dot, scale);
    }
}

FFF_INLINE float row_logit(const struct fff_trees *trees, size_t row, const void *token, const float *tail) {
    (void)tail; /* tokens are padded */
    float logit;
    integer_logits(trees, 1, 1, &row, &token, NULL, &logit);
    return logit;
}

FFF_INLINE void dot_tile(const struct fff_trees *trees, const size_t rows[FFF_DOT_TILE_ROWS],
                         const void *const tokens[FFF_DOT_TILE_TOKENS], const void *const *ahead,
                         float logits[FFF_DOT_TILE_ROWS][FFF_DOT_TILE_TOKENS]) {
    integer_logits(trees, FFF_DOT_TILE_ROWS, FFF_DOT_TILE_TOKENS, rows, tokens, ahead, &logits[0][0]);
}

FFF_INLINE void four_tokens(const struct fff_trees *trees, size_t row, const uint32_t *tokens, const void *inputs,
                            size_t input_stride, float *logits, size_t logit_stride) {
    const void *input[INTEGER_TOKENS];
    float logit[INTEGER_TOKENS];
    FFF_UNROLL
    for (int t = 0; t < INTEGER_TOKENS; t++) {
        input[t] = token_at(inputs, input_stride, tokens[t]);
    }
    integer_logits(trees, 1, INTEGER_TOKENS, &row, input, NULL, logit);
    FFF_UNROLL
    for (int t = 0; t < INTEGER_TOKENS; t++) {
        logits[tokens[t] * logit_stride] = logit[t];
    }
}

static void KERNEL(node_dot)(const struct fff_trees *trees, size_t row, size_t count, const uint32_t *tokens,
                             const void *inputs, size_t input_stride, float *logits, size_t logit_stride) {
    size_t i = 0;
    for (; i + INTEGER_TOKENS <= count; i += INTEGER_TOKENS) {
        four_tokens(trees, row, tokens + i, inputs, input_stride, logits, logit_stride);
    }
    if (count >= INTEGER_TOKENS && i + 1 < count) { /* two or three are left: the last four take less than they */
        four_tokens(trees, row, tokens + count - INTEGER_TOKENS, inputs, input_stride, logits, logit_stride);
        return;
    }
    for (; i < count; i++) {
        logits[tokens[i] * logit_stride] = row_logit(trees, row, token_at(inputs, input_stride, tokens[i]), NULL);
    }
}

#endif
