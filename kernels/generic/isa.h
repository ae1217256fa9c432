#ifndef FFF_KERNELS_GENERIC_ISA_H
#define FFF_KERNELS_GENERIC_ISA_H

#include "kernels/toolbox.h"

extern const struct fff_row_kernels fff_f32_rows_generic, fff_bf16_rows_generic, fff_f16_rows_generic,
    fff_i8_rows_generic;
fff_activate_function fff_activate_generic;
fff_differentiate_function fff_differentiate_generic;
fff_adam_function fff_adam_generic;
fff_quantise_function fff_quantise_generic;
fff_widen_function fff_widen_generic;
fff_narrow_function fff_narrow_generic;

#endif
