#ifndef FFF_KERNELS_X86_AVX2_ISA_H
#define FFF_KERNELS_X86_AVX2_ISA_H

#include "kernels/kernels.h"

#include <immintrin.h>

void fff_descend_f32_x86_avx2(const struct fff_trees_f32 *trees, const float *input, bool fetch_output, uint32_t *nodes,
                              float *logits);
void fff_node_dot_f32_x86_avx2(const struct fff_trees_f32 *trees, size_t row, size_t count, const uint32_t *tokens,
                               const float *inputs, size_t input_stride, float *logits, size_t logit_stride);
void fff_two_levels_f32_x86_avx2(const struct fff_trees_f32 *trees, size_t row, size_t left_row, size_t count,
                                 const uint32_t *tokens, const float *inputs, size_t input_stride, bool fetch_inputs,
                                 float *logits, size_t logit_stride);
void fff_activate_f32_x86_avx2(fff_activation activation, size_t count, const float *logits, float *activations);
void fff_accumulate_f32_x86_avx2(const struct fff_trees_f32 *trees, size_t count, const uint32_t *tokens,
                                 const uint32_t *nodes, const float *activations, unsigned how, float *output,
                                 size_t output_stride);
void fff_roots_f32_x86_avx2(const struct fff_trees_f32 *trees, size_t count, const float *inputs, size_t input_stride,
                            bool fetch_output, float *logits, size_t logit_stride);
void fff_add_roots_f32_x86_avx2(const struct fff_trees_f32 *trees, size_t count, const float *activations,
                                size_t activation_stride, unsigned how, float *output, size_t output_stride);

/* The 8 floats from values[start] on, zeros from values[end] on, which is not touched; and back: those
 * below end are written. A partial vector goes through the stack. Masked loads and stores would do,
 * but they are slow on some CPUs (stores on AMD's before Zen 4; loads everywhere when a masked lane
 * lies on an unmapped page), and QEMU up to 7.2 reads the masked lanes, too. */
static inline __m256 load_below_x86_avx2(const float *values, size_t start, size_t end) {
    if (start + 8 <= end) {
        return _mm256_loadu_ps(values + start);
    }
    float padded[8] = {0};
    for (size_t i = start; i < end; i++) {
        padded[i - start] = values[i];
    }
    return _mm256_loadu_ps(padded);
}

static inline void store_below_x86_avx2(float *values, size_t start, size_t end, __m256 vector) {
    if (start + 8 <= end) {
        _mm256_storeu_ps(values + start, vector);
        return;
    }
    float padded[8];
    _mm256_storeu_ps(padded, vector);
    for (size_t i = start; i < end; i++) {
        values[i] = padded[i - start];
    }
}

#endif
