#include "kernels/x86_avx512/isa.h"

const struct fff_kernels fff_kernels_x86_avx512 = {
    .descend_f32 = fff_descend_f32_x86_avx512,
    .node_dot_f32 = fff_node_dot_f32_x86_avx512,
    .two_levels_f32 = fff_two_levels_f32_x86_avx512,
    .activate_f32 = fff_activate_f32_x86_avx512,
    .accumulate_f32 = fff_accumulate_f32_x86_avx512,
    .roots_f32 = fff_roots_f32_x86_avx512,
    .add_roots_f32 = fff_add_roots_f32_x86_avx512,
};
