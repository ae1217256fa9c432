#include "kernels/x86_avx2/isa.h"

const struct fff_kernels fff_kernels_x86_avx2 = {
    .rows =
        {
            [FFF_WEIGHT_F32] = &fff_f32_rows_x86_avx2,
            [FFF_WEIGHT_BF16] = &fff_bf16_rows_x86_avx2,
            [FFF_WEIGHT_F16] = &fff_f16_rows_x86_avx2,
            [FFF_WEIGHT_I8] = &fff_i8_rows_x86_avx2,
        },
    .exact_f32 = &fff_f32_exact_rows_x86_avx2,
    .activate = fff_activate_x86_avx2,
    .quantise = fff_quantise_x86_avx2,
    .widen = fff_widen_x86_avx2,
    .narrow = fff_narrow_x86_avx2,
    .differentiate = fff_differentiate_x86_avx2,
    .adam = fff_adam_x86_avx2,
};

const struct fff_kernels fff_kernels_x86_avx2_vnni = {
    .rows =
        {
            [FFF_WEIGHT_F32] = &fff_f32_rows_x86_avx2,
            [FFF_WEIGHT_BF16] = &fff_bf16_rows_x86_avx2,
            [FFF_WEIGHT_F16] = &fff_f16_rows_x86_avx2,
            [FFF_WEIGHT_I8] = &fff_i8_rows_x86_avx2_vnni,
        },
    .exact_f32 = &fff_f32_exact_rows_x86_avx2,
    .activate = fff_activate_x86_avx2,
    .quantise = fff_quantise_x86_avx2,
    .widen = fff_widen_x86_avx2,
    .narrow = fff_narrow_x86_avx2,
    .differentiate = fff_differentiate_x86_avx2,
    .adam = fff_adam_x86_avx2,
};
