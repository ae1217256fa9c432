/* One token down all trees: kernels/descend_f32.h, with this folder's dot product. */
#include "kernels/descend_f32.h"
#include "kernels/x86_avx512/dot_f32.h"
#include "kernels/x86_avx512/isa.h"

void fff_descend_f32_x86_avx512(const struct fff_trees_f32 *trees, const float *input, bool fetch_output,
                                uint32_t *nodes, float *logits) {
    fff_descend(trees, input, fetch_output, nodes, logits, logit_x86_avx512);
}
