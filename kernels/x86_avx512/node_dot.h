/* Several tokens against one row.
 *
 * Four tokens at a time: 8 accumulators and 2 registers of the row, of 32. The row is loaded once for
 * the four, so a step is 2 row loads, 8 input loads (folded into the FMAs) and 8 FMAs; a core that
 * loads two vectors a cycle is then bound by loads at 5 cycles for 8 FMAs instead of 8. The four
 * halving trees share their shuffles, which changes no addition. */
#ifndef FFF_KERNELS_X86_AVX512_NODE_DOT_H
#define FFF_KERNELS_X86_AVX512_NODE_DOT_H

#include "kernels/x86_avx512/dot.h"

enum { DOT_TOKENS = 4 };

FFF_INLINE void four_tokens_x86_avx512(const struct fff_trees *trees, size_t row, const uint32_t *tokens,
                                       const void *inputs, size_t input_stride, float *logits, size_t logit_stride) {
    const unsigned char *weights = trees->input_rows + row * trees->row_stride;
    size_t width = trees->input_width;
    const float *input[DOT_TOKENS];
    sums_x86_avx512 sums[DOT_TOKENS];
    FFF_UNROLL
    for (int t = 0; t < DOT_TOKENS; t++) {
        input[t] = token_at(inputs, input_stride, tokens[t]);
        sums[t].low = sums[t].high = _mm512_setzero_ps();
    }
    size_t i = 0;
    for (; i + 32 <= width; i += 32) {
        const unsigned char *at = weights + row_offset(i);
        __m512 low = load_row(at, 0, 0), high = load_row(at, 1, 0);
        FFF_UNROLL
        for (int t = 0; t < DOT_TOKENS; t++) {
            sums[t].low = _mm512_fmadd_ps(_mm512_loadu_ps(input[t] + i), low, sums[t].low);
            sums[t].high = _mm512_fmadd_ps(_mm512_loadu_ps(input[t] + i + 16), high, sums[t].high);
        }
    }
    if (i < width) {
        __mmask16 low_mask = mask_below_x86_avx512(i, width), high_mask = mask_below_x86_avx512(i + 16, width);
        const unsigned char *at = weights + row_offset(i);
        __m512 low = load_last_row(low_mask, at, 0, 0), high = load_last_row(high_mask, at, 1, 0);
        FFF_UNROLL
        for (int t = 0; t < DOT_TOKENS; t++) {
            sums[t].low = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(low_mask, input[t] + i), low, sums[t].low);
            sums[t].high = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(high_mask, input[t] + i + 16), high, sums[t].high);
        }
    }
    __m512 dots = halve_four_32_to_4_x86_avx512(sums);                            /* in each 128 bits: 0 1 2 3 */
    dots = _mm512_add_ps(dots, _mm512_permute_ps(dots, _MM_SHUFFLE(1, 0, 3, 2))); /* 02 13 02 13 */
    dots = _mm512_add_ps(dots, _mm512_permute_ps(dots, _MM_SHUFFLE(2, 3, 0, 1)));
    float logit[16];
    _mm512_storeu_ps(logit, _mm512_add_ps(dots, _mm512_set1_ps(trees->biases[row])));
    FFF_UNROLL
    for (int t = 0; t < DOT_TOKENS; t++) {
        logits[tokens[t] * logit_stride] = logit[4 * t];
    }
}

static void KERNEL(node_dot)(const struct fff_trees *trees, size_t row, size_t count, const uint32_t *tokens,
                             const void *inputs, size_t input_stride, float *logits, size_t logit_stride) {
    size_t i = 0;
    for (; i + DOT_TOKENS <= count; i += DOT_TOKENS) {
        four_tokens_x86_avx512(trees, row, tokens + i, inputs, input_stride, logits, logit_stride);
    }
    if (count >= DOT_TOKENS && i + 1 < count) { /* two or three are left: the last four take less than they */
        four_tokens_x86_avx512(trees, row, tokens + count - DOT_TOKENS, inputs, input_stride, logits, logit_stride);
        return;
    }
    for (; i < count; i++) {
        logits[tokens[i] * logit_stride] = row_logit(trees, row, token_at(inputs, input_stride, tokens[i]), NULL);
    }
}

#endif
