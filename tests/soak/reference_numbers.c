#include "tests/soak/reference.h"

#include <math.h>
#include <string.h>

/* ---- Types ------------------------------------------------------------------------------------ */

/* A type of 16 bits: how many binary places follow the first digit, and the least exponent of a normal number. */
struct binary {
    int places, least_exponent;
    float largest;
};

static struct binary binary_of(fff_weight_type type) {
    return type == FFF_WEIGHT_BF16 ? (struct binary){7, -126, 0x1.fep127f} : (struct binary){10, -14, 65504.0f};
}

float reference_round(fff_weight_type type, float value) {
    if (type == FFF_WEIGHT_F32 || value == 0.0f || !isfinite(value)) {
        return value;
    }
    struct binary binary = binary_of(type);
    int exponent = ilogbf(value);
    double place = ldexp(1.0, (exponent > binary.least_exponent ? exponent : binary.least_exponent) - binary.places);
    double rounded = nearbyint((double)value / place) * place; /* all exact but the rounding to an integer */
    return fabs(rounded) > (double)binary.largest ? copysignf(INFINITY, value) : copysignf((float)rounded, value);
}

uint16_t reference_encode(fff_weight_type type, float value) {
    struct binary binary = binary_of(type);
    unsigned exponents = type == FFF_WEIGHT_BF16 ? 255 : 31, sign = signbit(value) ? 0x8000 : 0;
    if (!isfinite(value)) {
        return (uint16_t)(sign | exponents << binary.places | (isnan(value) ? 1u : 0u));
    }
    double size = fabs((double)value);
    if (size < ldexp(1.0, binary.least_exponent)) {
        return (uint16_t)(sign | (unsigned)ldexp(size, binary.places - binary.least_exponent));
    }
    int exponent = ilogb(size);
    unsigned fraction = (unsigned)(ldexp(size, binary.places - exponent) - ldexp(1.0, binary.places));
    return (uint16_t)(sign | (unsigned)(exponent - binary.least_exponent + 1) << binary.places | fraction);
}

/* The largest size; infinite if any number is not finite. */
static float largest_of(size_t count, const float *numbers) {
    float largest = 0.0f;
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(numbers[i])) {
            return INFINITY;
        }
        largest = fabsf(numbers[i]) > largest ? fabsf(numbers[i]) : largest;
    }
    return largest;
}

float reference_to_integers(size_t count, float *numbers, float most) {
    float largest = largest_of(count, numbers);
    if (!isfinite(largest) || largest < 0x1p-100f) {
        memset(numbers, 0, count * sizeof *numbers);
        return isfinite(largest) ? 1.0f : NAN;
    }
    float factor = most / largest;
    for (size_t i = 0; i < count; i++) {
        float product = numbers[i] * factor;
        numbers[i] = nearbyintf(product) + 0.0f; /* an integer 0 has no sign */
    }
    return largest / most;
}

/* ---- Sums ------------------------------------------------------------------------------------- */

/* Most of the reference's time goes here, so where the CPU has fused operations they are used, rather than the C
 * library's function: the same loops, compiled twice. */
#define INLINED static inline __attribute__((always_inline))

INLINED float dot(size_t width, const float *x, const float *w) {
    float s[32] = {0};
    size_t i = 0;
    for (; i + 32 <= width; i += 32) {
        for (size_t j = 0; j < 32; j++) {
            s[j] = fmaf(x[i + j], w[i + j], s[j]);
        }
    }
    if (i < width) {
        for (size_t j = 0; j < width - i; j++) {
            s[j] = fmaf(x[i + j], w[i + j], s[j]);
        }
        for (size_t j = width - i; j < 32; j++) {
            s[j] = s[j] + 0.0f; /* the padding: +0 times +0 */
        }
    }
    for (size_t half = 16; half >= 1; half /= 2) {
        for (size_t j = 0; j < half; j++) {
            s[j] = s[j] + s[j + half];
        }
    }
    return s[0];
}

INLINED void add_row(size_t width, float factor, const float *row, float *to) {
    for (size_t j = 0; j < width; j++) {
        to[j] = fmaf(factor, row[j], to[j]);
    }
}

#if defined __x86_64__

__attribute__((target("avx2,fma"))) static float dot_x86_avx2(size_t width, const float *x, const float *w) {
    return dot(width, x, w);
}

__attribute__((target("avx2,fma"))) static void add_row_x86_avx2(size_t width, float factor, const float *row,
                                                                 float *to) {
    add_row(width, factor, row, to);
}

static bool fused(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

float reference_dot(size_t width, const float *x, const float *w) {
    return fused() ? dot_x86_avx2(width, x, w) : dot(width, x, w);
}

void reference_add_row(size_t width, float factor, const float *row, float *to) {
    if (fused()) {
        add_row_x86_avx2(width, factor, row, to);
    } else {
        add_row(width, factor, row, to);
    }
}

#else

float reference_dot(size_t width, const float *x, const float *w) {
    return dot(width, x, w);
}

void reference_add_row(size_t width, float factor, const float *row, float *to) {
    add_row(width, factor, row, to);
}

#endif
