#include "bert/vector_math.h"

#include <math.h>
#include <sleef.h>
#include <string.h>

/* Four floats at a time, by SLEEF's deterministic functions, which every CPU of the architecture has. */
#if defined(__x86_64__)
typedef __m128 floats4;
#define EXP4 Sleef_cinz_expf4_u10sse2
#define TANH4 Sleef_cinz_tanhf4_u10sse2
#elif defined(__aarch64__)
typedef float32x4_t floats4;
#define EXP4 Sleef_cinz_expf4_u10advsimdnofma
#define TANH4 Sleef_cinz_tanhf4_u10advsimdnofma
#else
typedef float floats4;
#define EXP4 Sleef_cinz_expf1_u10purec
#define TANH4 Sleef_cinz_tanhf1_u10purec
#endif

enum { AT_ONCE = sizeof(floats4) / sizeof(float), LANES = 16 };

/* (SLEEF's own types are const, which not every compiler passes over.) */
static floats4 exp4(floats4 x) {
    return EXP4(x);
}
static floats4 tanh4(floats4 x) {
    return TANH4(x);
}

static inline __attribute__((always_inline)) void apply(floats4 (*function)(floats4), size_t count, float *values) {
    size_t whole = count - count % AT_ONCE;
    floats4 x;
    for (size_t i = 0; i < whole; i += AT_ONCE) {
        memcpy(&x, values + i, sizeof x);
        x = function(x);
        memcpy(values + i, &x, sizeof x);
    }
    if (whole < count) {
        float rest[AT_ONCE] = {0};
        memcpy(rest, values + whole, (count - whole) * sizeof *rest);
        memcpy(&x, rest, sizeof x);
        x = function(x);
        memcpy(rest, &x, sizeof x);
        memcpy(values + whole, rest, (count - whole) * sizeof *rest);
    }
}

void fff_tanh(size_t count, float *values) {
    apply(tanh4, count, values);
}

/* The sum of (values - shift)^power for power 1 or 2, in LANES partial sums: as exact as a float32 mean needs, and
 * something that the compiler can vectorise. */
static float sum_of(size_t count, const float *values, float shift, int power) {
    float part[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        for (size_t lane = 0; lane < LANES; lane++) {
            float value = values[i + lane] - shift;
            part[lane] += power == 2 ? value * value : value;
        }
    }
    for (; i < count; i++) {
        float value = values[i] - shift;
        part[i % LANES] += power == 2 ? value * value : value;
    }
    for (size_t half = LANES / 2; half > 0; half /= 2) {
        for (size_t lane = 0; lane < half; lane++) {
            part[lane] += part[lane + half];
        }
    }
    return part[0];
}

static float largest_of(size_t count, const float *values) {
    float part[LANES];
    for (size_t lane = 0; lane < LANES; lane++) {
        part[lane] = values[lane < count ? lane : 0];
    }
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        for (size_t lane = 0; lane < LANES; lane++) {
            part[lane] = values[i + lane] > part[lane] ? values[i + lane] : part[lane];
        }
    }
    float largest = part[0];
    for (size_t lane = 1; lane < LANES; lane++) {
        largest = part[lane] > largest ? part[lane] : largest;
    }
    for (; i < count; i++) {
        largest = values[i] > largest ? values[i] : largest;
    }
    return largest;
}

void fff_softmax(size_t count, float *values) {
    float largest = largest_of(count, values);
    for (size_t i = 0; i < count; i++) {
        values[i] -= largest;
    }
    apply(exp4, count, values);
    float factor = 1.0f / sum_of(count, values, 0, 1);
    for (size_t i = 0; i < count; i++) {
        values[i] *= factor;
    }
}

void fff_layer_norm(size_t count, size_t width, const float *input, const float *weight, const float *bias, double eps,
                    float *output) {
    for (size_t row = 0; row < count; row++, input += width, output += width) {
        float mean = sum_of(width, input, 0, 1) / (float)width;
        float variance = sum_of(width, input, mean, 2) / (float)width;
        float factor = (float)(1 / sqrt((double)variance + eps));
        for (size_t i = 0; i < width; i++) {
            output[i] = (input[i] - mean) * factor * weight[i] + bias[i];
        }
    }
}
