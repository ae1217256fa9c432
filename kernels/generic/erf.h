/* erf(z / sqrt 2), for activations and their derivatives. The order of operations is part of the definition. */
#ifndef FFF_KERNELS_GENERIC_ERF_H
#define FFF_KERNELS_GENERIC_ERF_H

#include "kernels/erf_f32.h"
#include "kernels/generic/isa.h"

#include <math.h>
#include <string.h>

/* erf(z / sqrt 2); kernels/erf_f32.h explains. */
static inline float gelu_erf(float z) {
    float distance = fabsf(z) > FFF_ERF_END ? FFF_ERF_END : fabsf(z); /* a NaN stays a NaN */
    float shifted = fmaf(distance, FFF_ERF_SCALE, FFF_ERF_SHIFTER);
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    size_t interval = (bits >> FFF_ERF_SHIFT) % FFF_ERF_INTERVALS;
    float v = distance - FFF_ERF.centre[interval];
    float p = FFF_ERF.factors[FFF_ERF_FACTORS - 1][interval];
    for (size_t i = FFF_ERF_FACTORS - 1; i-- > 0;) {
        p = fmaf(p, v, FFF_ERF.factors[i][interval]);
    }
    float base = shifted < FFF_ERF_FIRST ? distance : FFF_ERF.base[interval];
    return copysignf(fmaf(p, v, base), z);
}

#endif
