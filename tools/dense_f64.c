#include "tools/dense_f64.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const double UNIT = 0x1p-24;             /* unit roundoff of float32 */
static const double UNIT_F64 = 0x1p-53;         /* and of float64 */
static const double UNDERFLOW_ERROR = 0x1p-147; /* more than the few roundings of one step add below the normal range */
static const double PARTIAL_SUMS = 32;          /* docs/numerics.md; log2 of it halvings */
static const double HALVINGS = 5;
static const float LARGEST_INTEGER = 127, LEAST_QUANTISED = 0x1p-100f; /* docs/numerics.md */

/* Of int8 output rows, from this depth on, a tree's factors are integers, too. By how much each can be off, relative to
 * the largest of them: half a unit and what three roundings add, with room for that of the largest itself. */
static const size_t LEAST_DEPTH_OF_INTEGERS = 3;
static const double FACTOR_ERROR = 0.507 / 32767;

struct dense_f64 {
    const struct layer_data *data;
    const float *input;            /* of the token evaluated */
    float *integers;               /* of it, where rows are int8, */
    double input_scale;            /* and their scale */
    double *logits;                /* one a row */
    const struct layer_data *wide; /* whose rows were used at some entries, or NULL */
    const bool *wide_entries;
    double *activations; /* one a path entry, and the bound of its float32 value's error */
    double *activation_bounds;
    size_t *path_rows;
};

/* Of int8 rows a sum of integers is exact, but as a float32; it is multiplied by a product of two scales. An output's
 * scale is one product more. */
static const double INTEGER_ROUNDINGS = 3;

static double scale_roundings(const struct layer_data *data) {
    return data->integer_output_scales != NULL ? 1 : 0;
}

struct roundings roundings_of_library(const struct layer_data *data) {
    return (struct roundings){
        .logit = ceil((double)data->input_width / PARTIAL_SUMS) + HALVINGS + 1,
        .output = (double)(data->trees * (data->depth + 1)) + scale_roundings(data),
    };
}

struct roundings roundings_of_any_order(const struct layer_data *data) {
    return (struct roundings){
        .logit = (double)data->input_width + 1, /* a product and n - 1 sums, then the bias */
        .output = (double)(data->trees * (data->depth + 1)) + 1 + scale_roundings(data), /* a product and m sums */
    };
}

/* gamma(k) = k u / (1 - k u): the relative error of k roundings (Higham, "Accuracy and Stability of
 * Numerical Algorithms", lemma 3.1). Infinite, and so never proving anything, where it has no meaning. */
static double gamma_of(double roundings, double unit) {
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

struct dense_f64 *dense_f64_create(const struct layer_data *data) {
    struct dense_f64 *dense = calloc(1, sizeof *dense);
    if (dense == NULL) {
        return NULL;
    }
    size_t path_length = data->trees * (data->depth + 1);
    dense->data = data;
    dense->integers = calloc(data->input_width, sizeof *dense->integers);
    dense->logits = calloc(data->rows, sizeof *dense->logits);
    dense->activations = calloc(path_length, sizeof *dense->activations);
    dense->activation_bounds = calloc(path_length, sizeof *dense->activation_bounds);
    dense->path_rows = calloc(path_length, sizeof *dense->path_rows);
    if (dense->integers == NULL || dense->logits == NULL || dense->activations == NULL ||
        dense->activation_bounds == NULL || dense->path_rows == NULL) {
        dense_f64_destroy(dense);
        return NULL;
    }
    return dense;
}

void dense_f64_destroy(struct dense_f64 *dense) {
    if (dense != NULL) {
        free(dense->integers);
        free(dense->logits);
        free(dense->activations);
        free(dense->activation_bounds);
        free(dense->path_rows);
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

/* The exact logit of a row of `data`, but for float64's own rounding. */
static double exact_logit(const struct dense_f64 *dense, const struct layer_data *data, size_t row) {
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
    for (size_t row = 0; row < data->rows; row++) {
        dense->logits[row] = exact_logit(dense, data, row);
    }
}

void dense_f64_use_rows_of(struct dense_f64 *dense, const struct layer_data *wide, const bool *entries) {
    dense->wide = wide;
    dense->wide_entries = entries;
}

/* The sum of the integers' products is a float32 after one rounding; the product of scales, which may overflow and
 * underflow by itself, and the fused sum are the others. */
static double integer_bound(const struct dense_f64 *dense, const struct layer_data *data, size_t row) {
    const float *weights = data->input_weights + row * data->input_width;
    double dot = fabs(dot_f64(dense->integers, weights, data->input_width));
    double scale = dense->input_scale * (double)data->integer_input_scales[row];
    double sum = dot * scale + fabs(bias_of(data, row));
    double bound =
        (gamma_of(INTEGER_ROUNDINGS, UNIT) + gamma_of(INTEGER_ROUNDINGS, UNIT_F64)) * sum + (dot + 1) * UNDERFLOW_ERROR;
    return scale <= (double)FLT_MAX && sum + bound <= (double)FLT_MAX ? bound : INFINITY;
}

/* |float32 logit - exact_logit()| is at most this; infinite where a float32 sum may overflow or
 * an operand is no number. */
static double logit_bound(const struct dense_f64 *dense, const struct layer_data *data, size_t row, double roundings) {
    if (data->integer_input_scales != NULL) {
        return integer_bound(dense, data, row);
    }
    const float *weights = data->input_weights + row * data->input_width;
    double sum = fabs(bias_of(data, row));
    for (size_t i = 0; i < data->input_width; i++) {
        sum += fabs((double)dense->input[i] * (double)weights[i]);
    }
    double n = (double)data->input_width;
    double bound = (gamma_of(roundings, UNIT) + gamma_of(n + 1, UNIT_F64)) * sum + n * UNDERFLOW_ERROR;
    return sum + bound <= (double)FLT_MAX ? bound : INFINITY;
}

double dense_f64_logit(const struct dense_f64 *dense, size_t row, struct roundings roundings, double *bound) {
    *bound = logit_bound(dense, dense->data, row, roundings.logit);
    return dense->logits[row];
}

/* Notes an error against its bound. */
static void note(double error, double bound, size_t *outside, double *bound_used) {
    if (!(error <= bound)) {
        (*outside)++;
    }
    double used = isnan(error) ? INFINITY : error / bound;
    if (used > *bound_used) {
        *bound_used = used;
    }
}

/* The path's rows, activations and their bounds; routes and logits checked on the way. False if the
 * token cannot be checked any further. */
static bool check_path(struct dense_f64 *dense, struct roundings roundings, const uint32_t *path, const float *logits,
                       struct agreement *agreement) {
    const struct layer_data *data = dense->data;
    size_t levels = data->depth + 1, nodes = fff_nodes_per_tree(data->depth);
    bool tie = false, mismatch = false;
    for (size_t tree = 0; tree < data->trees; tree++) {
        for (size_t level = 0; level < levels; level++) {
            size_t entry = tree * levels + level;
            uint32_t node = path[entry];
            if (node >= nodes || (level == 0 && node != 0)) {
                agreement->route_mismatches++;
                return false;
            }
            size_t row = tree * nodes + node;
            bool is_wide = dense->wide != NULL && dense->wide_entries[entry];
            double exact = is_wide ? exact_logit(dense, dense->wide, row) : dense->logits[row];
            double bound = logit_bound(dense, is_wide ? dense->wide : data, row, roundings.logit);
            if (!(bound < INFINITY)) {
                agreement->unbounded++;
                return false;
            }
            if (logits != NULL) {
                note(fabs((double)logits[entry] - exact), bound, &agreement->logit_errors, &agreement->bound_used);
            }
            dense->path_rows[entry] = row;
            dense->activations[entry] = activation_f64(data->activation, exact);
            dense->activation_bounds[entry] = activation_error_bound(data->activation, exact, bound);
            if (level + 1 == levels) {
                continue;
            }
            bool right = data->routing == FFF_ROUTING_GREATER ? exact > 0 : exact >= 0;
            uint32_t child = path[entry + 1];
            if (child != 2 * node + 1 + right) {
                bool other_child = child == 2 * node + 1 + !right;
                if (other_child && fabs(exact) <= bound) {
                    tie = true;
                    agreement->largest_tie = fmax(agreement->largest_tie, fabs(exact));
                } else {
                    mismatch = true;
                }
            }
        }
    }
    agreement->ties += tie;
    agreement->route_mismatches += mismatch;
    return true;
}

/* How much the rounding of a tree's factors, whose entries begin at `first`, can move a column; infinite if one of them
 * may overflow. */
static double factor_error_bound(const struct dense_f64 *dense, size_t first, const float *weights) {
    const struct layer_data *data = dense->data;
    double largest = 0, integers = 0;
    for (size_t entry = first; entry <= first + data->depth; entry++) {
        size_t row = dense->path_rows[entry];
        double factor = (fabs(dense->activations[entry]) + dense->activation_bounds[entry]) *
                        (double)data->integer_output_scales[row];
        largest = fmax(largest, isnan(factor) ? INFINITY : factor);
        integers += fabs((double)weights[row]);
    }
    return largest <= 0.5 * (double)FLT_MAX ? (FACTOR_ERROR * largest + (double)LEAST_QUANTISED) * integers : INFINITY;
}

/* The dense sum masked to the path. The mask leaves nodes out, rather than multiplying them by 0, so
 * that infinite weights off the path stay without effect, as in the definition. */
static bool check_output(struct dense_f64 *dense, struct roundings roundings, const float *output,
                         struct agreement *agreement) {
    const struct layer_data *data = dense->data;
    size_t path_length = data->trees * (data->depth + 1);
    double relative = gamma_of(roundings.output, UNIT) + gamma_of(roundings.output + 1, UNIT_F64);
    const float *scales = data->integer_output_scales;
    double underflow = UNDERFLOW_ERROR * (scales != NULL ? 1 + (double)LARGEST_INTEGER : 1);
    bool bounded = true, integers = scales != NULL && data->depth >= LEAST_DEPTH_OF_INTEGERS;
    for (size_t column = 0; column < data->output_width; column++) {
        const float *weights = data->output_weights + column * data->rows;
        double exact = 0, magnitude = 0, carried = 0;
        for (size_t entry = 0; entry < path_length; entry++) {
            size_t row = dense->path_rows[entry];
            double weight = (double)weights[row] * (scales != NULL ? (double)scales[row] : 1);
            exact += dense->activations[entry] * weight;
            carried += dense->activation_bounds[entry] * fabs(weight);
            magnitude += (fabs(dense->activations[entry]) + dense->activation_bounds[entry]) * fabs(weight);
        }
        for (size_t tree = 0; tree < data->trees && integers; tree++) {
            double moved = factor_error_bound(dense, tree * (data->depth + 1), weights);
            carried += moved;
            magnitude += moved;
        }
        double bound = carried + relative * magnitude + (double)path_length * underflow;
        if (!(magnitude + bound <= (double)FLT_MAX)) {
            bounded = false;
            continue;
        }
        double error = fabs((double)output[column] - exact);
        note(error, bound, &agreement->output_errors, &agreement->bound_used);
        if (isnan(error) || error > agreement->max_abs_error) {
            agreement->max_abs_error = isnan(error) ? INFINITY : error;
        }
    }
    return bounded;
}

void dense_f64_check(struct dense_f64 *dense, struct roundings roundings, const uint32_t *path, const float *logits,
                     const float *output, struct agreement *agreement) {
    agreement->tokens++;
    if (check_path(dense, roundings, path, logits, agreement) && output != NULL &&
        !check_output(dense, roundings, output, agreement)) {
        agreement->unbounded++;
    }
}
