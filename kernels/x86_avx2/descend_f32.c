/* One token down all trees. The shape is that of kernels/x86_avx512/descend_f32.c, for the same
 * reasons: the rows' way from L2 or beyond bounds it, so the width of the registers hardly matters. */
#include "kernels/x86_avx2/dot_f32.h"
#include "kernels/x86_avx2/isa.h"

void fff_descend_f32_x86_avx2(const struct fff_trees_f32 *trees, const float *input, bool fetch_output, uint32_t *nodes,
                              float *logits) {
    size_t levels = trees->levels;
    size_t fetched = fetch_output ? trees->output_width : 0;
    for (size_t level = 0; level < levels; level++) {
        for (size_t tree = 0; tree < trees->trees; tree++) {
            size_t entry = tree * levels + level;
            uint32_t node = level == 0 ? 0 : fff_child(nodes[entry - 1], logits[entry - 1], trees->zero_goes_right);
            size_t row = tree * trees->nodes + node;
            nodes[entry] = node;
            logits_x86_avx2(trees, row, 1, &input, &logits[entry]);
            const float *output_row = trees->output_rows + row * trees->row_stride;
            for (size_t i = 0; i < fetched; i += FFF_ROW_QUANTUM) {
                _mm_prefetch((const char *)(output_row + i), _MM_HINT_T0);
            }
        }
    }
}
