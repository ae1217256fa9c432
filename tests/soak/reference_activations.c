#include "tests/soak/reference.h"

#include "kernels/erf_f32.h" /* the table alone */

#include <math.h>
#include <sleef.h>

/* erf(z / sqrt 2) */
static float scaled_erf(float z) {
    if (isnan(z)) {
        return z;
    }
    float d = fabsf(z) < 5.555f ? fabsf(z) : 5.555f;
    int k = (int)floorf(fmaf(d, 1.44f, 192.0f)) - 192;
    float v = d - FFF_ERF.centre[k];
    float p = FFF_ERF.factors[6][k];
    for (int i = 5; i >= 0; i--) {
        p = fmaf(p, v, FFF_ERF.factors[i][k]);
    }
    return copysignf(fmaf(p, v, k == 0 ? d : FFF_ERF.base[k]), z);
}

static float relu(float z) {
    return z <= 0.0f ? 0.0f : z;
}

static float gelu_tanh(float z) {
    const float root = 0.797884561f; /* of 2 / pi, rounded */
    float half = 0.5f * z, square = z * z;
    float cubic = 0.044715f * square;
    float inner = root * fmaf(cubic, z, z);
    float sum = 1.0f + Sleef_cinz_tanhf1_u10purec(inner);
    return half * sum;
}

float reference_activation(fff_activation kind, float z) {
    switch (kind) {
    case FFF_ACTIVATION_GELU: return fmaf(0.5f * z, scaled_erf(z), 0.5f * z);
    case FFF_ACTIVATION_GELU_TANH: return gelu_tanh(z);
    case FFF_ACTIVATION_RELU: return relu(z);
    case FFF_ACTIVATION_RELU2: return relu(z) * relu(z);
    case FFF_ACTIVATION_SILU: {
        float sum = 1.0f + Sleef_cinz_expf1_u10purec(-z);
        return z / sum;
    }
    case FFF_ACTIVATION_IDENTITY: return z;
    }
    return NAN;
}

/* ---- Derivatives ------------------------------------------------------------------------------- */

/* A number whose size is cut off at `end`: its size is d, the number t. */
struct cut {
    float d, t;
};

static struct cut cut_off(float z, float end) {
    float d = isnan(z) || fabsf(z) < end ? fabsf(z) : end;
    return (struct cut){d, copysignf(d, z)};
}

static float exponential(float z) {
    return Sleef_cinz_expf1_u10purec(z);
}

/* The derivative of z times the sigmoid of an odd function: its value v at d, its slope at d. */
static float sigmoid_derivative(float z, float t, float v, float slope) {
    float e = exponential(-v);
    float sum = 1.0f + e;
    float large = 1.0f / sum;
    float small = e * large;
    float steep = t * slope, both = small * large;
    return fmaf(steep, both, z < 0.0f ? small : large);
}

static float gelu_derivative(float z) {
    struct cut cut = cut_off(z, 16.0f);
    const float c = 0.398942280401f; /* 1 / sqrt(2 pi), rounded */
    float half = 0.5f * cut.d;
    float square = half * cut.d;
    float density = c * exponential(-square);
    return fmaf(cut.t, density, fmaf(0.5f, scaled_erf(z), 0.5f));
}

static float gelu_tanh_derivative(float z) {
    struct cut cut = cut_off(z, 12.0f);
    const float twice = 2.0f * 0.797884561f;
    float square = cut.d * cut.d, cubic = 0.044715f * square;
    float v = twice * fmaf(cubic, cut.d, cut.d), slope = twice * fmaf(0.134145f, square, 1.0f);
    return sigmoid_derivative(z, cut.t, v, slope);
}

float reference_derivative(fff_activation kind, float z) {
    switch (kind) {
    case FFF_ACTIVATION_GELU: return gelu_derivative(z);
    case FFF_ACTIVATION_GELU_TANH: return gelu_tanh_derivative(z);
    case FFF_ACTIVATION_RELU: return z <= 0.0f ? 0.0f : z > 0.0f ? 1.0f : z;
    case FFF_ACTIVATION_RELU2: return z <= 0.0f ? 0.0f : z + z;
    case FFF_ACTIVATION_SILU: {
        struct cut cut = cut_off(z, 128.0f);
        return sigmoid_derivative(z, cut.t, cut.d, 1.0f);
    }
    case FFF_ACTIVATION_IDENTITY: return 1.0f;
    }
    return NAN;
}
