#include "kernels/arm_neon/isa.h"

const struct fff_kernels fff_kernels_arm_neon = {
    .descend_f32 = fff_descend_f32_arm_neon,
    .node_dot_f32 = fff_node_dot_f32_arm_neon,
    .two_levels_f32 = fff_two_levels_f32_arm_neon,
    .activate_f32 = fff_activate_f32_arm_neon,
    .accumulate_f32 = fff_accumulate_f32_arm_neon,
    .roots_f32 = fff_roots_f32_arm_neon,
    .add_roots_f32 = fff_add_roots_f32_arm_neon,
};
