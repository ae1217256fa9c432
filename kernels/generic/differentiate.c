#include "kernels/generic/erf.h"
#include "kernels/generic/isa.h"

#include <math.h>
#include <sleef.h>

/* The order of operations below is part of the definition; so is SLEEF's deterministic exp without FMA, which returns
 * the same bits in plain C as in every vector form. */

static float magnitude_below(float end, float z) {
    return fabsf(z) > end ? end : fabsf(z); /* a NaN stays a NaN */
}

/* Phi(z) + z phi(z) */
static float gelu(float z) {
    float magnitude = magnitude_below(FFF_GELU_END, z);
    float density = FFF_NORMAL_DENSITY * Sleef_cinz_expf1_u10purec(-((0.5f * magnitude) * magnitude));
    return fmaf(copysignf(magnitude, z), density, fmaf(0.5f, gelu_erf(z), 0.5f));
}

/* The derivative of z sigmoid(v(z)), v being odd, from |z|, |v| and the slope of v. */
static float gated(float z, float magnitude, float v, float slope) {
    float exp = Sleef_cinz_expf1_u10purec(-v);
    float large = 1.0f / (1.0f + exp); /* sigmoid(|v|) */
    float small = exp * large;         /* sigmoid(-|v|) */
    return fmaf(copysignf(magnitude, z) * slope, small * large, z < 0.0f ? small : large);
}

/* With tanh as a sigmoid: (1 + tanh(u)) / 2 = sigmoid(2 u). So nothing is subtracted from 1. */
static float gelu_tanh(float z) {
    float magnitude = magnitude_below(FFF_GELU_TANH_END, z), square = magnitude * magnitude;
    float v = (2.0f * FFF_SQRT_2_OVER_PI) * fmaf(FFF_GELU_TANH_CUBIC * square, magnitude, magnitude);
    float slope = (2.0f * FFF_SQRT_2_OVER_PI) * fmaf(FFF_GELU_TANH_SLOPE, square, 1.0f);
    return gated(z, magnitude, v, slope);
}

static float silu(float z) {
    float magnitude = magnitude_below(FFF_SILU_END, z);
    return gated(z, magnitude, magnitude, 1.0f);
}

static float relu(float z) {
    return z <= 0.0f ? 0.0f : z > 0.0f ? 1.0f : z; /* a NaN stays a NaN */
}

static float relu2(float z) {
    return z <= 0.0f ? 0.0f : z + z;
}

static float derivative(fff_activation activation, float z) {
    switch (activation) {
    case FFF_ACTIVATION_GELU: return gelu(z);
    case FFF_ACTIVATION_GELU_TANH: return gelu_tanh(z);
    case FFF_ACTIVATION_RELU: return relu(z);
    case FFF_ACTIVATION_RELU2: return relu2(z);
    case FFF_ACTIVATION_SILU: return silu(z);
    case FFF_ACTIVATION_IDENTITY: return 1.0f;
    }
    return 1.0f;
}

void fff_differentiate_generic(fff_activation activation, size_t count, const float *logits, const float *upstream,
                               float *gradients) {
    for (size_t i = 0; i < count; i++) {
        gradients[i] = upstream[i] * derivative(activation, logits[i]);
    }
}
