#include "kernels/generic/isa.h"

#include <math.h>

/* Integers from -127 to 127 in the bytes, the scale behind them: docs/numerics.md. */
void fff_quantise_generic(size_t width, const float *input, unsigned char *quantised) {
    float largest = 0.0f;
    for (size_t column = 0; column < width; column++) {
        float size = fabsf(input[column]);
        largest = size <= largest ? largest : size; /* a NaN wins, and stays */
        if (isnan(largest)) {
            break;
        }
    }
    struct fff_quantiser quantiser = fff_make_quantiser(largest, FFF_QUANTISED_MOST);
    memset(quantised, 0, fff_quantised_bytes(width));
    for (size_t column = 0; column < width && quantiser.factor > 0.0f; column++) {
        quantised[column] = (unsigned char)(int8_t)rintf(input[column] * quantiser.factor);
    }
    fff_set_scale_of_quantised(quantised, width, quantiser.scale);
}
