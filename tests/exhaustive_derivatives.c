/* The derivatives of activations over the float32 numbers: every one, or every STRIDE-th, against float64.
 *
 *     exhaustive_derivatives [STRIDE]     1 unless told: all 2^32 patterns
 *
 * Checks that every usable instruction set has the bits of the generic one, and that errors keep the bounds that
 * docs/numerics.md states. Prints the largest errors.
 */
#include "dispatch/dispatch.h"

#include <fff/fff.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { AT_ONCE = 4096 };

static bool same(float a, float b) {
    return (isnan(a) && isnan(b)) || memcmp(&a, &b, sizeof a) == 0;
}

static double gelu(double z) {
    return 0.5 * erfc(-z * M_SQRT1_2) + z * exp(-0.5 * z * z) * (0.5 * M_SQRT1_2 * M_2_SQRTPI);
}

/* The derivative of z sigmoid(v). */
static double gated(double z, double v, double slope) {
    double exponential = exp(-fabs(v)), large = 1 / (1 + exponential), small = exponential * large;
    double product = exponential == 0 ? 0 : z * slope * small * large; /* z may be infinite */
    return (z < 0 ? small : large) + product;
}

static double gelu_tanh(double z) {
    const double factor = 2 * M_SQRT1_2 * M_2_SQRTPI;
    return gated(z, factor * (z + 0.044715 * z * z * z), factor * (1 + 3 * 0.044715 * z * z));
}

static double silu(double z) {
    return gated(z, z, 1);
}

struct worst {
    double limit, error;
    float at;
};

static void keep_worst(struct worst *worst, double error, float at) {
    if (error > worst->error) {
        *worst = (struct worst){worst->limit, error, at};
    }
}

/* Limits as docs/numerics.md has them. */
static struct curve {
    const char *name;
    fff_activation activation;
    double (*exact)(double);
    struct worst absolute; /* |error| */
    struct worst tail;     /* |error| / |exact|, for z < -2 */
} curves[] = {
    {"GELU", FFF_ACTIVATION_GELU, gelu, {1.5e-7, 0, 0}, {0.06, 0, 0}},
    {"GELU_tanh", FFF_ACTIVATION_GELU_TANH, gelu_tanh, {2.5e-7, 0, 0}, {2e-5, 0, 0}},
    {"SiLU", FFF_ACTIVATION_SILU, silu, {2.2e-7, 0, 0}, {5e-7, 0, 0}},
};

static size_t try(struct curve *curve, size_t count, const float *logits) {
    static float ones[AT_ONCE], expected[AT_ONCE], found[AT_ONCE];
    size_t wrong_bits = 0;
    for (size_t i = 0; i < count; i++) {
        ones[i] = 1.0f;
    }
    fff_kernels_of(FFF_ISA_GENERIC)->differentiate(curve->activation, count, logits, ones, expected);
    for (int isa = FFF_ISA_GENERIC + 1; isa < FFF_ISA_COUNT; isa++) {
        if (fff_isa_usable((fff_isa)isa) == FFF_OK) {
            fff_kernels_of((fff_isa)isa)->differentiate(curve->activation, count, logits, ones, found);
            for (size_t i = 0; i < count; i++) {
                wrong_bits += !same(found[i], expected[i]);
            }
        }
    }
    for (size_t i = 0; i < count; i++) {
        float z = logits[i];
        if (isnan(z)) {
            wrong_bits += !isnan(expected[i]);
        } else if (isinf(z)) {
            wrong_bits += !same(expected[i], z > 0 ? 1.0f : 0.0f);
        } else {
            double exact = curve->exact((double)z), error = fabs((double)expected[i] - exact);
            keep_worst(&curve->absolute, isnan(error) ? INFINITY : error, z);
            if (z < -2 && fabs(exact) > 0x1p-110) {
                keep_worst(&curve->tail, error / fabs(exact), z);
            }
        }
    }
    return wrong_bits;
}

int main(int argc, char **argv) {
    size_t stride = argc > 1 ? strtoul(argv[1], NULL, 10) : 1;
    if (stride == 0) {
        fprintf(stderr, "usage: exhaustive_derivatives [STRIDE]\n");
        return 2;
    }
    static float logits[AT_ONCE];
    enum { CURVES = sizeof curves / sizeof *curves };
    size_t wrong_bits = 0, tried = 0;
    for (uint64_t next = 0; next <= UINT32_MAX;) {
        size_t count = 0;
        for (; count < AT_ONCE && next <= UINT32_MAX; count++, next += stride) {
            uint32_t bits = (uint32_t)next;
            memcpy(&logits[count], &bits, sizeof bits);
        }
        for (size_t i = 0; i < CURVES; i++) {
            wrong_bits += try(&curves[i], count, logits);
        }
        tried += count;
    }
    printf("%zu float32 numbers: %zu with other bits\n", tried, wrong_bits);
    bool ok = wrong_bits == 0;
    for (size_t i = 0; i < CURVES; i++) {
        const struct worst *absolute = &curves[i].absolute, *tail = &curves[i].tail;
        printf("%-10s |error| %.3g (at %a; bound %.3g); z < -2: |error| / |exact| %.3g (at %a; bound %.3g)\n",
               curves[i].name, absolute->error, (double)absolute->at, absolute->limit, tail->error, (double)tail->at,
               tail->limit);
        ok = ok && absolute->error <= absolute->limit && tail->error <= tail->limit;
    }
    return !ok;
}
