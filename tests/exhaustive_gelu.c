/* GELU over the float32 numbers: every one, or every STRIDE-th, against docs/numerics.md and float64.
 *
 *     exhaustive_gelu [STRIDE]     1 unless told: all 2^32 patterns, some minutes
 *
 * Checks that every usable instruction set has the bits of the definition below, that erf and GELU keep the bounds
 * that docs/numerics.md states, and that erf never decreases nor leaves [-1, 1]. Prints the largest errors.
 */
#include "dispatch/dispatch.h"
#include "kernels/erf_f32.h"

#include <fff/fff.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What docs/numerics.md says. An ULP is the distance of the floats around the exact value. */
#define ERF_ULP 0.95
#define GELU_ULP 0.80                /* z > 0 */
#define GELU_ABSOLUTE_A_LOGIT 3.6e-8 /* z < 0: |error| / |z| */

enum { AT_ONCE = 4096 };

static float from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static bool same(float a, float b) {
    return (isnan(a) && isnan(b)) || memcmp(&a, &b, sizeof a) == 0;
}

/* erf(z / sqrt 2), written from docs/numerics.md: the interval by comparisons, not by bits. */
static float erf_definition(float z) {
    if (isnan(z)) {
        return z;
    }
    float distance = fminf(fabsf(z), FFF_ERF_END);
    float shifted = fmaf(distance, FFF_ERF_SCALE, FFF_ERF_SHIFTER);
    int interval = 0;
    while (shifted >= FFF_ERF_SHIFTER + (float)(interval + 1)) {
        interval++;
    }
    float v = distance - FFF_ERF.centre[interval], p = 0;
    for (int i = FFF_ERF_FACTORS - 1; i >= 0; i--) {
        p = i == FFF_ERF_FACTORS - 1 ? FFF_ERF.factors[i][interval] : fmaf(p, v, FFF_ERF.factors[i][interval]);
    }
    return copysignf(fmaf(p, v, interval == 0 ? distance : FFF_ERF.base[interval]), z);
}

/* The distance of float32 numbers at an exact value; below 1 of those below 1. */
static double ulp(double exact) {
    int exponent;
    frexp(exact, &exponent);
    return ldexp(1, (exponent < -125 ? -125 : exponent) - 24);
}

struct worst {
    const char *what;
    double limit, error;
    float at;
};

static void keep_worst(struct worst *worst, double error, float at) {
    if (isnan(error)) { /* which is larger than nothing */
        error = INFINITY;
    }
    if (error > worst->error) {
        worst->error = error;
        worst->at = at;
    }
}

int main(int argc, char **argv) {
    size_t stride = argc > 1 ? strtoul(argv[1], NULL, 10) : 1;
    if (stride == 0) {
        fprintf(stderr, "usage: exhaustive_gelu [STRIDE]\n");
        return 2;
    }
    struct worst erf_error = {"erf, ULP", ERF_ULP, 0, 0}, right = {"GELU, z > 0, ULP", GELU_ULP, 0, 0};
    struct worst left = {"GELU, z < 0, |error| / |z|", GELU_ABSOLUTE_A_LOGIT, 0, 0};
    static float z[AT_ONCE], expected[AT_ONCE], found[AT_ONCE];
    size_t wrong_bits = 0, unordered = 0, tried = 0;
    float before = 0;
    for (uint64_t next = 0; next <= UINT32_MAX;) {
        size_t count = 0;
        for (; count < AT_ONCE && next <= UINT32_MAX; count++, next += stride) {
            float value = from_bits((uint32_t)next), erf_here = erf_definition(value), half = 0.5f * value;
            z[count] = value;
            expected[count] = fmaf(half, erf_here, half);
            if (isnan(value) || isinf(value)) {
                continue;
            }
            if (value > 0) { /* the patterns of positive floats come in order; those of negative ones mirror them */
                double exact = erf((double)value * M_SQRT1_2);
                keep_worst(&erf_error, fabs((double)erf_here - exact) / fmin(ulp(exact), 0x1p-24), value);
                unordered += erf_here < before || erf_here > 1;
                before = erf_here;
            } else {
                unordered += !same(erf_here, -erf_definition(-value));
            }
            double exact = 0.5 * (double)value * erfc(-(double)value * M_SQRT1_2);
            double error = fabs((double)expected[count] - exact);
            if (value > 0) {
                keep_worst(&right, error / ulp(exact), value);
            } else if (value < 0 && fabsf(value) > 0x1p-100f) {
                keep_worst(&left, error / fabs((double)value), value);
            }
        }
        for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
            if (fff_isa_usable((fff_isa)isa) == FFF_OK) {
                fff_kernels_of((fff_isa)isa)->activate(FFF_ACTIVATION_GELU, count, z, found);
                for (size_t i = 0; i < count; i++) {
                    wrong_bits += !same(found[i], expected[i]);
                }
            }
        }
        tried += count;
    }
    bool ok = wrong_bits == 0 && unordered == 0;
    printf("%zu float32 numbers: %zu with other bits, %zu out of order\n", tried, wrong_bits, unordered);
    const struct worst *all[] = {&erf_error, &right, &left};
    for (int i = 0; i < 3; i++) {
        printf("%-28s %.4g at most (at %a; bound %.4g)\n", all[i]->what, all[i]->error, (double)all[i]->at,
               all[i]->limit);
        ok = ok && all[i]->error <= all[i]->limit;
    }
    return !ok;
}
