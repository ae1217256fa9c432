#ifndef FFF_KERNELS_X86_AVX512_ISA_H
#define FFF_KERNELS_X86_AVX512_ISA_H

#include "kernels/toolbox.h"

#include <immintrin.h>

fff_descend_f32_function fff_descend_f32_x86_avx512;
fff_node_dot_f32_function fff_node_dot_f32_x86_avx512;
fff_two_levels_f32_function fff_two_levels_f32_x86_avx512;
fff_activate_f32_function fff_activate_f32_x86_avx512;
fff_accumulate_f32_function fff_accumulate_f32_x86_avx512;
fff_roots_f32_function fff_roots_f32_x86_avx512;
fff_add_roots_f32_function fff_add_roots_f32_x86_avx512;

/* The mask of those lanes of a 16-float vector from `start` on that lie below `width`. */
static inline __mmask16 mask_below_x86_avx512(size_t start, size_t width) {
    size_t left = width > start ? width - start : 0;
    return (__mmask16)(left >= 16 ? 0xffff : (1u << left) - 1);
}

#endif
