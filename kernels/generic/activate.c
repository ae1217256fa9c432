#include "kernels/generic/erf.h"
#include "kernels/generic/isa.h"

#include <math.h>
#include <sleef.h>

/* The order of operations below is part of the definition; so are SLEEF's deterministic functions
 * without FMA, which return the same bits in plain C as in every vector form. */

static float gelu(float z) {
    float half = 0.5f * z;
    return fmaf(half, gelu_erf(z), half);
}

static float gelu_tanh(float z) {
    float inner = FFF_SQRT_2_OVER_PI * fmaf(FFF_GELU_TANH_CUBIC * (z * z), z, z);
    return (0.5f * z) * (1.0f + Sleef_cinz_tanhf1_u10purec(inner));
}

static float relu(float z) {
    return z <= 0.0f ? 0.0f : z; /* a NaN stays a NaN */
}

static float silu(float z) {
    return z / (1.0f + Sleef_cinz_expf1_u10purec(-z));
}

static float activate(fff_activation activation, float z) {
    switch (activation) {
    case FFF_ACTIVATION_GELU: return gelu(z);
    case FFF_ACTIVATION_GELU_TANH: return gelu_tanh(z);
    case FFF_ACTIVATION_RELU: return relu(z);
    case FFF_ACTIVATION_RELU2: return relu(z) * relu(z);
    case FFF_ACTIVATION_SILU: return silu(z);
    case FFF_ACTIVATION_IDENTITY: return z;
    }
    return z;
}

void fff_activate_generic(fff_activation activation, size_t count, const float *logits, float *activations) {
    for (size_t i = 0; i < count; i++) {
        activations[i] = activate(activation, logits[i]);
    }
}
