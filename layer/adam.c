/* fff_adam_rows(): AdamW for rows that the caller lists. */
#include "dispatch/dispatch.h"
#include "dispatch/fp_environment.h"
#include "layer/known.h"
#include "layer/rows.h"
#include "layer/size.h"

#include <math.h>
#include <string.h>

/* Rows whose beginnings are fetched ahead; the rest of a row the CPU foresees. Of one row in 8, from memory, a step
 * takes 15, 22 and 8 % less time with that at widths of 64, 256 and 768 (AVX-512). Whole rows, into L2, are slower than
 * nothing at width 768. */
enum { ROWS_AHEAD = 2 };

/* A copy of what the caller gave, if this version knows all that is set in it. */
static fff_status copy_settings(const fff_adam *given, fff_adam *settings) {
    if (given == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    if (given->struct_size < sizeof *settings || !fff_rest_is_zero(given, given->struct_size, sizeof *settings)) {
        return FFF_ERROR_STRUCT_SIZE;
    }
    *settings = *given;
    return FFF_OK;
}

static bool in_range(const fff_adam *settings) {
    const double finite[] = {settings->learning_rate, settings->epsilon, settings->weight_decay};
    for (size_t i = 0; i < sizeof finite / sizeof *finite; i++) {
        if (!(finite[i] >= 0.0 && isfinite(finite[i]))) {
            return false;
        }
    }
    return settings->beta1 >= 0.0 && settings->beta1 < 1.0 && settings->beta2 >= 0.0 && settings->beta2 < 1.0 &&
           settings->step >= 1;
}

/* base^exponent in an order of our own: pow() differs between systems. */
static double power(double base, uint64_t exponent) {
    double result = 1.0;
    for (; exponent > 0; exponent >>= 1, base *= base) {
        if ((exponent & 1) != 0) {
            result *= base;
        }
    }
    return result;
}

/* In float64, each rounded once to float32; false if one is no finite number, or a setting out of range.
 * docs/numerics.md has them. Never inlined: a compiler may move arithmetic, but no call, to before the environment is
 * entered, and comparisons trap, too. */
static __attribute__((noinline)) bool factors_of(const fff_adam *settings, struct fff_adam_factors *factors) {
    if (!in_range(settings)) {
        return false;
    }
    double rate = settings->learning_rate, beta1 = settings->beta1, beta2 = settings->beta2;
    *factors = (struct fff_adam_factors){
        .keep_first = (float)beta1,
        .take_first = (float)(1.0 - beta1),
        .keep_second = (float)beta2,
        .take_second = (float)(1.0 - beta2),
        .root_factor = (float)(1.0 / sqrt(1.0 - power(beta2, settings->step))),
        .epsilon = (float)settings->epsilon,
        .rate = (float)(rate / (1.0 - power(beta1, settings->step))),
        .decay = (float)(1.0 - rate * settings->weight_decay),
    };
    return isfinite(factors->rate) && isfinite(factors->decay) && isfinite(factors->epsilon);
}

static bool ascending(size_t count, const uint32_t *rows, size_t row_limit) {
    for (size_t i = 0; i < count; i++) {
        if (rows[i] >= row_limit || (i > 0 && rows[i] <= rows[i - 1])) {
            return false;
        }
    }
    return true;
}

fff_status fff_adam_rows(fff_isa isa, const fff_adam *settings, size_t count, const uint32_t *rows, size_t row_limit,
                         size_t width, const float *gradients, size_t gradient_stride, float *weights,
                         size_t weight_stride, float *first_moments, size_t first_stride, float *second_moments,
                         size_t second_stride) {
    fff_adam given;
    fff_status status = copy_settings(settings, &given);
    if (status != FFF_OK) {
        return status;
    }
    struct fff_adam_factors factors;
    fff_fp_environment callers = fff_fp_enter();
    bool usable = factors_of(&given, &factors);
    fff_fp_leave(callers);
    status = usable ? fff_isa_choose(isa, &isa) : FFF_ERROR_NUMBER;
    if (status != FFF_OK) {
        return status;
    }
    if (count == 0) {
        return FFF_OK;
    }
    if (width == 0) {
        return FFF_ERROR_SHAPE;
    }
    if (count > row_limit) {
        return FFF_ERROR_NODE;
    }
    struct fff_rows matrices[5]; /* three of them are written */
    status = fff_check_rows(weights, row_limit, width, weight_stride, &matrices[0]);
    status = status == FFF_OK ? fff_check_rows(first_moments, row_limit, width, first_stride, &matrices[1]) : status;
    status = status == FFF_OK ? fff_check_rows(second_moments, row_limit, width, second_stride, &matrices[2]) : status;
    status = status == FFF_OK ? fff_check_rows(gradients, count, width, gradient_stride, &matrices[3]) : status;
    if (status == FFF_OK && rows != NULL) {
        status = fff_check_rows(rows, 1, count, count, &matrices[4]);
    }
    if (status != FFF_OK) {
        return status;
    }
    if (fff_any_overlap(matrices, 3, rows != NULL ? 5 : 4)) {
        return FFF_ERROR_OVERLAP;
    }
    if (rows != NULL && !ascending(count, rows, row_limit)) {
        return FFF_ERROR_NODE;
    }
    fff_adam_function *adam = fff_kernels_of(isa)->adam;
    callers = fff_fp_enter();
    for (size_t i = 0; i < count; i++) {
        size_t row = rows != NULL ? rows[i] : i;
        if (rows != NULL && i + ROWS_AHEAD < count) {
            size_t next = rows[i + ROWS_AHEAD], bytes = fff_min(width * sizeof(float), FFF_FIRST_BYTES);
            fff_fetch_l1(weights + next * weight_stride, bytes);
            fff_fetch_l1(first_moments + next * first_stride, bytes);
            fff_fetch_l1(second_moments + next * second_stride, bytes);
        }
        adam(&factors, width, gradients + i * gradient_stride, weights + row * weight_stride,
             first_moments + row * first_stride, second_moments + row * second_stride);
    }
    fff_fp_leave(callers);
    return FFF_OK;
}
