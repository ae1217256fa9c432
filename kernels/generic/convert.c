#include "kernels/generic/isa.h"
#include "kernels/half.h"

void fff_widen_generic(fff_weight_type type, size_t count, const uint16_t *halves, float *floats) {
    for (size_t i = 0; i < count; i++) {
        floats[i] = type == FFF_WEIGHT_BF16 ? fff_widen_bf16(halves[i]) : fff_widen_f16(halves[i]);
    }
}

void fff_narrow_generic(fff_weight_type type, size_t count, const float *floats, uint16_t *halves) {
    for (size_t i = 0; i < count; i++) {
        halves[i] = type == FFF_WEIGHT_BF16 ? fff_round_bf16(floats[i]) : fff_round_f16(floats[i]);
    }
}
