#ifndef FFF_KERNELS_GENERIC_ISA_H
#define FFF_KERNELS_GENERIC_ISA_H

#include "kernels/kernels.h"

void fff_descend_f32_generic(const struct fff_trees_f32 *trees, const float *input, bool fetch_output, uint32_t *nodes,
                             float *logits);
void fff_node_dot_f32_generic(const struct fff_trees_f32 *trees, size_t row, size_t count, const uint32_t *tokens,
                              const float *inputs, size_t input_stride, float *logits, size_t logit_stride);
void fff_two_levels_f32_generic(const struct fff_trees_f32 *trees, size_t row, size_t left_row, size_t count,
                                const uint32_t *tokens, const float *inputs, size_t input_stride, bool fetch_inputs,
                                float *logits, size_t logit_stride);
void fff_activate_f32_generic(fff_activation activation, size_t count, const float *logits, float *activations);
void fff_accumulate_f32_generic(const struct fff_trees_f32 *trees, size_t count, const uint32_t *tokens,
                                const uint32_t *nodes, const float *activations, unsigned how, float *output,
                                size_t output_stride);
void fff_roots_f32_generic(const struct fff_trees_f32 *trees, size_t count, const float *inputs, size_t input_stride,
                           bool fetch_output, float *logits, size_t logit_stride);
void fff_add_roots_f32_generic(const struct fff_trees_f32 *trees, size_t count, const float *activations,
                               size_t activation_stride, unsigned how, float *output, size_t output_stride);

#endif
