#include "kernels/generic/isa.h"

const struct fff_kernels fff_kernels_generic = {
    .rows =
        {
            [FFF_WEIGHT_F32] = &fff_f32_rows_generic,
            [FFF_WEIGHT_BF16] = &fff_bf16_rows_generic,
            [FFF_WEIGHT_F16] = &fff_f16_rows_generic,
            [FFF_WEIGHT_I8] = &fff_i8_rows_generic,
        },
    .exact_f32 = &fff_f32_rows_generic, /* which read no more anyway */
    .activate = fff_activate_generic,
    .quantise = fff_quantise_generic,
    .widen = fff_widen_generic,
    .narrow = fff_narrow_generic,
    .differentiate = fff_differentiate_generic,
    .adam = fff_adam_generic,
};
