#include "kernels/arm_neon/isa.h"

const struct fff_kernels fff_kernels_arm_neon = {
    .rows =
        {
            [FFF_WEIGHT_F32] = &fff_f32_rows_arm_neon,
            [FFF_WEIGHT_BF16] = &fff_bf16_rows_arm_neon,
            [FFF_WEIGHT_F16] = &fff_f16_rows_arm_neon,
            [FFF_WEIGHT_I8] = &fff_i8_rows_arm_neon,
        },
    .exact_f32 = &fff_f32_exact_rows_arm_neon,
    .activate = fff_activate_arm_neon,
    .quantise = fff_quantise_arm_neon,
    .widen = fff_widen_arm_neon,
    .narrow = fff_narrow_arm_neon,
    .differentiate = fff_differentiate_arm_neon,
    .adam = fff_adam_arm_neon,
};

const struct fff_kernels fff_kernels_arm_neon_dotprod = {
    .rows =
        {
            [FFF_WEIGHT_F32] = &fff_f32_rows_arm_neon,
            [FFF_WEIGHT_BF16] = &fff_bf16_rows_arm_neon,
            [FFF_WEIGHT_F16] = &fff_f16_rows_arm_neon,
            [FFF_WEIGHT_I8] = &fff_i8_rows_arm_neon_dotprod,
        },
    .exact_f32 = &fff_f32_exact_rows_arm_neon,
    .activate = fff_activate_arm_neon,
    .quantise = fff_quantise_arm_neon,
    .widen = fff_widen_arm_neon,
    .narrow = fff_narrow_arm_neon,
    .differentiate = fff_differentiate_arm_neon,
    .adam = fff_adam_arm_neon,
};
