#include "tools/dense/f64_shared.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const double PARTIAL_SUMS = 32; /* docs/numerics.md; log2 of it halvings */
static const double HALVINGS = 5;

/* An output's scale is one product more, and so is a factor. */
static double product_roundings(const struct layer_data *data) {
    double most = 0;
    for (; data != NULL; data = data->next) {
        most = fmax(most, (data->integer_output_scales != NULL) + (data->factor != NULL));
    }
    return most;
}

/* Of an output's sum: of a path sum every entry of the path, of a leaf layer the neurons and the leaf's bias. */
static size_t most_terms(const struct layer_data *data) {
    size_t terms = 0;
    for (; data != NULL; data = data->next) {
        size_t of_leaf = data->leaf_width + (data->leaf_output_biases != NULL);
        terms += data->trees * (data->leaf_width > 0 ? of_leaf : data->depth + 1);
    }
    return terms;
}

struct roundings roundings_of_library(const struct layer_data *data) {
    return (struct roundings){
        .logit = ceil((double)data->input_width / PARTIAL_SUMS) + HALVINGS + 1,
        .integer_logit = 3, /* of the sum to float32, of the product of scales, and of the fused sum with the bias */
        .exact_integers = true,
        .output = (double)most_terms(data) + product_roundings(data),
    };
}

struct roundings roundings_of_any_order(const struct layer_data *data) {
    return (struct roundings){
        .logit = (double)data->input_width + 1, /* a product and n - 1 sums, then the bias */
        /* n - 1 sums or one conversion, the product of scales, that with the sum, then the bias */
        .integer_logit = (double)data->input_width + 3,
        /* a product and m sums, and the output bias's */
        .output = (double)most_terms(data) + 1 + (data->output_bias != NULL) + product_roundings(data),
    };
}

double f64_gamma(double roundings, double unit) {
    double product = roundings * unit;
    return product < 1 ? product / (1 - product) : INFINITY;
}

double activation_f64(fff_activation activation, double z) {
    switch (activation) {
    case FFF_ACTIVATION_GELU: return 0.5 * z * erfc(-z * 0.70710678118654752440);
    case FFF_ACTIVATION_GELU_TANH: return 0.5 * z * (1 + tanh(0.79788456080286535588 * (z + 0.044715 * z * z * z)));
    case FFF_ACTIVATION_RELU: return z < 0 ? 0 : z;
    case FFF_ACTIVATION_RELU2: return z < 0 ? 0 : z * z;
    case FFF_ACTIVATION_SILU: return z / (1 + exp(-z));
    case FFF_ACTIVATION_IDENTITY: return z;
    }
    return NAN;
}

double activation_error_bound(fff_activation activation, double z, double logit_error) {
    double largest = fabs(z) + logit_error; /* the float32 logit is no larger */
    switch (activation) {
    case FFF_ACTIVATION_GELU: return 1.13 * logit_error + 4 * UNIT * largest + UNDERFLOW_ERROR;
    case FFF_ACTIVATION_GELU_TANH: return 1.13 * logit_error + 6 * UNIT * largest + UNDERFLOW_ERROR;
    case FFF_ACTIVATION_RELU: return logit_error;
    case FFF_ACTIVATION_RELU2:
        return z + logit_error <= 0 ? 0 : logit_error * (2 * largest) + 2 * UNIT * largest * largest + UNDERFLOW_ERROR;
    case FFF_ACTIVATION_SILU: return 1.1 * logit_error + 5 * UNIT * largest + 0x1p-120;
    case FFF_ACTIVATION_IDENTITY: return logit_error;
    }
    return INFINITY;
}

int agreement_holds(const struct agreement *agreement) {
    return agreement->route_mismatches == 0 && agreement->logit_errors == 0 && agreement->output_errors == 0 &&
           agreement->unbounded == 0;
}

void agreement_add(struct agreement *sum, const struct agreement *more) {
    sum->tokens += more->tokens;
    sum->route_mismatches += more->route_mismatches;
    sum->ties += more->ties;
    sum->largest_tie = fmax(sum->largest_tie, more->largest_tie);
    sum->logit_errors += more->logit_errors;
    sum->output_errors += more->output_errors;
    sum->unbounded += more->unbounded;
    sum->max_abs_error = fmax(sum->max_abs_error, more->max_abs_error);
    sum->bound_used = fmax(sum->bound_used, more->bound_used);
}

static size_t all_rows(const struct layer_data *data) {
    size_t rows = 0;
    for (; data != NULL; data = data->next) {
        rows += data->rows;
    }
    return rows;
}

struct dense_f64 *dense_f64_create(const struct layer_data *data) {
    struct dense_f64 *dense = calloc(1, sizeof *dense);
    if (dense == NULL) {
        return NULL;
    }
    dense->data = data;
    dense->integers = calloc(data->input_width, sizeof *dense->integers);
    dense->logits = calloc(all_rows(data), sizeof *dense->logits);
    dense->terms = calloc(most_terms(data), sizeof *dense->terms);
    if (dense->integers == NULL || dense->logits == NULL || dense->terms == NULL) {
        dense_f64_destroy(dense);
        return NULL;
    }
    return dense;
}

void dense_f64_destroy(struct dense_f64 *dense) {
    if (dense != NULL) {
        free(dense->integers);
        free(dense->logits);
        free(dense->terms);
        free(dense);
    }
}

static double bias_of(const struct layer_data *data, size_t row) {
    return data->biases != NULL ? (double)data->biases[row] : 0;
}

float quantise_row(const float *values, size_t count, float *integers) {
    float largest = 0;
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(values[i])) {
            return NAN;
        }
        largest = fmaxf(largest, fabsf(values[i]));
    }
    float factor = largest < LEAST_QUANTISED ? 0 : LARGEST_INTEGER / largest;
    for (size_t i = 0; i < count; i++) {
        integers[i] = rintf(values[i] * factor);
    }
    return largest < LEAST_QUANTISED ? 1 : largest / LARGEST_INTEGER;
}

static double dot_f64(const float *a, const float *b, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += (double)a[i] * (double)b[i];
    }
    return sum;
}

/* The sum of the terms' sizes. */
static double sizes_f64(const float *a, const float *b, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += fabs((double)a[i] * (double)b[i]);
    }
    return sum;
}

double f64_logit(const struct dense_f64 *dense, const struct layer_data *data, size_t row) {
    const float *weights = data->input_weights + row * data->input_width;
    if (data->integer_input_scales == NULL) {
        return dot_f64(dense->input, weights, data->input_width) + bias_of(data, row);
    }
    double dot = dot_f64(dense->integers, weights, data->input_width); /* of integers: no rounding */
    return dot * (dense->input_scale * (double)data->integer_input_scales[row]) + bias_of(data, row);
}

void dense_f64_evaluate(struct dense_f64 *dense, size_t token) {
    const struct layer_data *data = dense->data;
    dense->input = data->input + token * data->input_width;
    dense->wide = NULL;
    if (data->integer_input_scales != NULL) {
        dense->input_scale = (double)quantise_row(dense->input, data->input_width, dense->integers);
    }
    double *logits = dense->logits;
    for (; data != NULL; data = data->next) {
        for (size_t row = 0; row < data->rows; row++) {
            *logits++ = f64_logit(dense, data, row);
        }
    }
}

void dense_f64_use_rows_of(struct dense_f64 *dense, const struct layer_data *wide, const bool *entries) {
    dense->wide = wide;
    dense->wide_entries = entries;
}

/* The product of scales may overflow and underflow by itself. */
static double integer_bound(const struct dense_f64 *dense, const struct layer_data *data, size_t row,
                            const struct roundings *roundings) {
    const float *weights = data->input_weights + row * data->input_width;
    double dot = roundings->exact_integers ? fabs(dot_f64(dense->integers, weights, data->input_width))
                                           : sizes_f64(dense->integers, weights, data->input_width);
    double scale = dense->input_scale * (double)data->integer_input_scales[row];
    double sum = dot * scale + fabs(bias_of(data, row));
    double bound =
        (f64_gamma(roundings->integer_logit, UNIT) + f64_gamma(3, UNIT_F64)) * sum + (dot + 1) * UNDERFLOW_ERROR;
    return scale <= (double)FLT_MAX && sum + bound <= (double)FLT_MAX ? bound : INFINITY;
}

double f64_logit_bound(const struct dense_f64 *dense, const struct layer_data *data, size_t row,
                       const struct roundings *roundings) {
    if (data->integer_input_scales != NULL) {
        return integer_bound(dense, data, row, roundings);
    }
    const float *weights = data->input_weights + row * data->input_width;
    double sum = fabs(bias_of(data, row)) + sizes_f64(dense->input, weights, data->input_width);
    double n = (double)data->input_width;
    double bound = (f64_gamma(roundings->logit, UNIT) + f64_gamma(n + 1, UNIT_F64)) * sum + n * UNDERFLOW_ERROR;
    return sum + bound <= (double)FLT_MAX ? bound : INFINITY;
}

double dense_f64_logit(const struct dense_f64 *dense, const struct layer_data *part, size_t row,
                       struct roundings roundings, double *bound) {
    size_t first = 0; /* of the part's rows */
    for (const struct layer_data *before = dense->data; before != part; before = before->next) {
        first += before->rows;
    }
    *bound = f64_logit_bound(dense, part, row, &roundings);
    return dense->logits[first + row];
}
