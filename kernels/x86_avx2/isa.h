#ifndef FFF_KERNELS_X86_AVX2_ISA_H
#define FFF_KERNELS_X86_AVX2_ISA_H

#include "kernels/kernels.h"

#include <immintrin.h>

void fff_descend_f32_x86_avx2(const struct fff_trees_f32 *trees, const float *input, bool fetch_output, uint32_t *nodes,
                              float *logits);
void fff_node_dot_f32_x86_avx2(const struct fff_trees_f32 *trees, size_t row, size_t count, const uint32_t *tokens,
                               const float *inputs, size_t input_stride, float *logits, size_t logit_stride);
void fff_activate_f32_x86_avx2(fff_activation activation, size_t count, const float *logits, float *activations);
void fff_accumulate_f32_x86_avx2(const struct fff_trees_f32 *trees, const uint32_t *nodes, const float *activations,
                                 float *output);

/* A mask for the lanes of an 8-float vector that starts at `start` and lie below `width`, as
 * _mm256_maskload_ps and _mm256_maskstore_ps want it: they touch no memory of other lanes. */
static inline __m256i lanes_below_x86_avx2(size_t start, size_t width) {
    static const int32_t window[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
    size_t left = width > start ? width - start : 0;
    return _mm256_loadu_si256((const __m256i *)(const void *)(window + 8 - (left < 8 ? left : 8)));
}

#endif
