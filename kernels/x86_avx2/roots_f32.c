/* Several tokens against the roots of all trees: a matrix product whose every element is a dot product of
 * FFF_PARTIAL_SUMS partial sums. */
#include "kernels/roots_f32.h"
#include "kernels/x86_avx2/isa.h"
#include "kernels/x86_avx2/tile_f32.h"

void fff_roots_f32_x86_avx2(const struct fff_trees_f32 *trees, size_t count, const float *inputs, size_t input_stride,
                            bool fetch_output, float *logits, size_t logit_stride) {
    fff_roots(trees, count, inputs, input_stride, fetch_output, logits, logit_stride, dot_tile_x86_avx2);
}
