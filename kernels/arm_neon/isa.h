#ifndef FFF_KERNELS_ARM_NEON_ISA_H
#define FFF_KERNELS_ARM_NEON_ISA_H

#include "kernels/toolbox.h"

#include <arm_neon.h>

extern const struct fff_row_kernels fff_f32_rows_arm_neon, fff_f32_exact_rows_arm_neon, fff_bf16_rows_arm_neon,
    fff_f16_rows_arm_neon, fff_i8_rows_arm_neon, fff_i8_rows_arm_neon_dotprod;
fff_activate_function fff_activate_arm_neon;
fff_differentiate_function fff_differentiate_arm_neon;
fff_adam_function fff_adam_arm_neon;
fff_quantise_function fff_quantise_arm_neon;
fff_widen_function fff_widen_arm_neon;
fff_narrow_function fff_narrow_arm_neon;

#endif
