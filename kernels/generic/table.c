#include "kernels/generic/isa.h"

const struct fff_kernels fff_kernels_generic = {
    .descend_f32 = fff_descend_f32_generic,
    .node_dot_f32 = fff_node_dot_f32_generic,
    .two_levels_f32 = fff_two_levels_f32_generic,
    .activate_f32 = fff_activate_f32_generic,
    .accumulate_f32 = fff_accumulate_f32_generic,
    .roots_f32 = fff_roots_f32_generic,
    .add_roots_f32 = fff_add_roots_f32_generic,
};
