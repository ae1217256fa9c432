/* bfloat16 and float16 to float32 and back: kernels/x86_convert.h. */
#include "kernels/x86_avx512/isa.h"
#include "kernels/x86_convert.h"

void fff_widen_x86_avx512(fff_weight_type type, size_t count, const uint16_t *halves, float *floats) {
    widen_type(type, count, halves, floats);
}

void fff_narrow_x86_avx512(fff_weight_type type, size_t count, const float *floats, uint16_t *halves) {
    narrow_type(type, count, floats, halves);
}
