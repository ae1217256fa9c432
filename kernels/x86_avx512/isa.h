#ifndef FFF_KERNELS_X86_AVX512_ISA_H
#define FFF_KERNELS_X86_AVX512_ISA_H

#include "kernels/kernels.h"

#include <immintrin.h>

void fff_descend_f32_x86_avx512(const struct fff_trees_f32 *trees, const float *input, bool fetch_output,
                                uint32_t *nodes, float *logits);
void fff_node_dot_f32_x86_avx512(const struct fff_trees_f32 *trees, size_t row, size_t count, const uint32_t *tokens,
                                 const float *inputs, size_t input_stride, float *logits, size_t logit_stride);
void fff_two_levels_f32_x86_avx512(const struct fff_trees_f32 *trees, size_t row, size_t left_row, size_t count,
                                   const uint32_t *tokens, const float *inputs, size_t input_stride, bool fetch_inputs,
                                   float *logits, size_t logit_stride);
void fff_activate_f32_x86_avx512(fff_activation activation, size_t count, const float *logits, float *activations);
void fff_accumulate_f32_x86_avx512(const struct fff_trees_f32 *trees, size_t count, const uint32_t *tokens,
                                   const uint32_t *nodes, const float *activations, unsigned how, float *output,
                                   size_t output_stride);
void fff_roots_f32_x86_avx512(const struct fff_trees_f32 *trees, size_t count, const float *inputs, size_t input_stride,
                              bool fetch_output, float *logits, size_t logit_stride);
void fff_add_roots_f32_x86_avx512(const struct fff_trees_f32 *trees, size_t count, const float *activations,
                                  size_t activation_stride, unsigned how, float *output, size_t output_stride);

/* The lanes of a 16-float vector that starts at `start` and lie below `width`. */
static inline __mmask16 lanes_below_x86_avx512(size_t start, size_t width) {
    size_t left = width > start ? width - start : 0;
    return (__mmask16)(left >= 16 ? 0xffff : (1u << left) - 1);
}

#endif
