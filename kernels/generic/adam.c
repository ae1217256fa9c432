#include "kernels/generic/isa.h"

#include <math.h>

void fff_adam_generic(const struct fff_adam_factors *factors, size_t width, const float *gradient, float *weights,
                      float *first_moment, float *second_moment) {
    for (size_t j = 0; j < width; j++) {
        float g = gradient[j];
        float m = fmaf(factors->keep_first, first_moment[j], factors->take_first * g);
        float v = fmaf(factors->keep_second, second_moment[j], factors->take_second * (g * g));
        float divisor = fmaf(sqrtf(v), factors->root_factor, factors->epsilon);
        first_moment[j] = m;
        second_moment[j] = v;
        weights[j] = fmaf(-factors->rate, m / divisor, factors->decay * weights[j]);
    }
}
