#include "kernels/x86_avx512/isa.h"

const struct fff_kernels fff_kernels_x86_avx512 = {
    .rows =
        {
            [FFF_WEIGHT_F32] = &fff_f32_rows_x86_avx512,
            [FFF_WEIGHT_BF16] = &fff_bf16_rows_x86_avx512,
            [FFF_WEIGHT_F16] = &fff_f16_rows_x86_avx512,
            [FFF_WEIGHT_I8] = &fff_i8_rows_x86_avx512,
        },
    .exact_f32 = &fff_f32_exact_rows_x86_avx512,
    .activate = fff_activate_x86_avx512,
    .quantise = fff_quantise_x86_avx512,
    .widen = fff_widen_x86_avx512,
    .narrow = fff_narrow_x86_avx512,
    .differentiate = fff_differentiate_x86_avx512,
    .adam = fff_adam_x86_avx512,
};

const struct fff_kernels fff_kernels_x86_avx512_vnni = {
    .rows =
        {
            [FFF_WEIGHT_F32] = &fff_f32_rows_x86_avx512,
            [FFF_WEIGHT_BF16] = &fff_bf16_rows_x86_avx512,
            [FFF_WEIGHT_F16] = &fff_f16_rows_x86_avx512,
            [FFF_WEIGHT_I8] = &fff_i8_rows_x86_avx512_vnni,
        },
    .exact_f32 = &fff_f32_exact_rows_x86_avx512,
    .activate = fff_activate_x86_avx512,
    .quantise = fff_quantise_x86_avx512,
    .widen = fff_widen_x86_avx512,
    .narrow = fff_narrow_x86_avx512,
    .differentiate = fff_differentiate_x86_avx512,
    .adam = fff_adam_x86_avx512,
};
