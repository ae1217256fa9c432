/* Several tokens against a row and the next level's: kernels/two_levels_f32.h, with this folder's tile. */
#include "kernels/two_levels_f32.h"
#include "kernels/x86_avx512/isa.h"
#include "kernels/x86_avx512/tile_f32.h"

void fff_two_levels_f32_x86_avx512(const struct fff_trees_f32 *trees, size_t row, size_t left_row, size_t count,
                                   const uint32_t *tokens, const float *inputs, size_t input_stride, bool fetch_inputs,
                                   float *logits, size_t logit_stride) {
    fff_two_levels(trees, row, left_row, count, tokens, inputs, input_stride, fetch_inputs, logits, logit_stride,
                   dot_tile_x86_avx512, logit_x86_avx512);
}
