#include "kernels/x86_avx2/isa.h"

const struct fff_kernels fff_kernels_x86_avx2 = {
    .descend_f32 = fff_descend_f32_x86_avx2,
    .node_dot_f32 = fff_node_dot_f32_x86_avx2,
    .two_levels_f32 = fff_two_levels_f32_x86_avx2,
    .activate_f32 = fff_activate_f32_x86_avx2,
    .accumulate_f32 = fff_accumulate_f32_x86_avx2,
    .roots_f32 = fff_roots_f32_x86_avx2,
    .add_roots_f32 = fff_add_roots_f32_x86_avx2,
};
