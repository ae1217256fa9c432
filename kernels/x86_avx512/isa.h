#ifndef FFF_KERNELS_X86_AVX512_ISA_H
#define FFF_KERNELS_X86_AVX512_ISA_H

#include "kernels/toolbox.h"

#include <immintrin.h>

extern const struct fff_row_kernels fff_f32_rows_x86_avx512, fff_f32_exact_rows_x86_avx512, fff_bf16_rows_x86_avx512,
    fff_f16_rows_x86_avx512, fff_i8_rows_x86_avx512, fff_i8_rows_x86_avx512_vnni;
fff_activate_function fff_activate_x86_avx512;
fff_differentiate_function fff_differentiate_x86_avx512;
fff_adam_function fff_adam_x86_avx512;
fff_quantise_function fff_quantise_x86_avx512;
fff_widen_function fff_widen_x86_avx512;
fff_narrow_function fff_narrow_x86_avx512;

/* The mask of those lanes of a 16-float vector from `start` on that lie below `width`. */
static inline __mmask16 mask_below_x86_avx512(size_t start, size_t width) {
    size_t left = width > start ? width - start : 0;
    return (__mmask16)(left >= 16 ? 0xffff : (1u << left) - 1);
}

#endif
