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

/* What an output's sum is made of, along the path: a number times a row of weights. */
struct term {
    const float *weights; /* of column 0; the next column's is `stride` further on */
    size_t stride;
    double scale;          /* that the weights are multiplied by, where they are integers */
    double number, bound;  /* an activation times the part's factor, and the bound of its float32 value's error */
    double underflow;      /* how many times UNDERFLOW_ERROR such products may be off, as a multiple of the weight, */
    double more_underflow; /* and besides */
};

struct dense_f64 {
    const struct layer_data *data;
    const float *input;            /* of the token evaluated */
    float *integers;               /* of it, where rows are int8, */
    double input_scale;            /* and their scale */
    double *logits;                /* one a row, of all parts in turn */
    const struct layer_data *wide; /* whose rows were used at some entries, or NULL */
    const bool *wide_entries;
    struct term *terms; /* of the path checked last */
    size_t term_count;
};

/* Of int8 rows a sum of integers is exact, but as a float32; it is multiplied by a product of two scales. An output's
 * scale is one product more, and so is a factor. */
static const double INTEGER_ROUNDINGS = 3;

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
        .output = (double)most_terms(data) + product_roundings(data),
    };
}

struct roundings roundings_of_any_order(const struct layer_data *data) {
    return (struct roundings){
        .logit = (double)data->input_width + 1, /* a product and n - 1 sums, then the bias */
        /* a product and m sums, and the output bias's */
        .output = (double)most_terms(data) + 1 + (data->output_bias != NULL) + product_roundings(data),
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
    double *logits = dense->logits;
    for (; data != NULL; data = data->next) {
        for (size_t row = 0; row < data->rows; row++) {
            *logits++ = exact_logit(dense, data, row);
        }
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

/* ---- Paths ----------------------------------------------------------------------------------- */

/* On the way along a token's path. */
struct walk {
    struct roundings roundings;
    const uint32_t *path; /* what is left of it, from the current tree on, */
    const float *logits;  /* or NULL, */
    const bool *wide_entries;
    const struct layer_data *part, *wide; /* of the current part, the stored numbers and the float32 ones, or NULL; */
    const double *exact_logits;
    struct agreement *agreement;
    bool tie, mismatch;
};

/* A row's exact logit at an entry of the current tree, whose float32 one is held against it. False where nothing is
 * proven. */
static bool check_logit(const struct dense_f64 *dense, const struct walk *walk, size_t entry, size_t row, double *exact,
                        double *bound) {
    bool is_wide = walk->wide != NULL && walk->wide_entries[entry];
    *exact = is_wide ? exact_logit(dense, walk->wide, row) : walk->exact_logits[row];
    *bound = logit_bound(dense, is_wide ? walk->wide : walk->part, row, walk->roundings.logit);
    if (!(*bound < INFINITY)) {
        return false;
    }
    if (walk->logits != NULL) {
        note(fabs((double)walk->logits[entry] - *exact), *bound, &walk->agreement->logit_errors,
             &walk->agreement->bound_used);
    }
    return true;
}

static double factor_of(const struct layer_data *part) {
    return part->factor != NULL ? (double)*part->factor : 1;
}

/* The activation of a logit times a row of output weights. False where the activation, a square, say, or its product
 * may overflow. */
static bool add_neuron(struct dense_f64 *dense, const struct layer_data *part, size_t row, double exact, double bound) {
    double factor = fabs(factor_of(part));
    struct term term = {
        .weights = part->output_weights + row,
        .stride = output_rows(part),
        .scale = part->integer_output_scales != NULL ? (double)part->integer_output_scales[row] : 1,
        .number = activation_f64(part->activation, exact) * factor_of(part),
        .bound = activation_error_bound(part->activation, exact, bound) * factor,
        .underflow = part->factor != NULL && part->integer_output_scales == NULL ? 1 : 0,
        .more_underflow = 1,
    };
    if (part->integer_output_scales != NULL) {
        term.more_underflow += (double)LARGEST_INTEGER * (part->factor != NULL ? 1 + factor : 1);
    }
    dense->terms[dense->term_count++] = term;
    double largest =
        fabs(activation_f64(part->activation, exact)) + activation_error_bound(part->activation, exact, bound);
    if (part->factor == NULL && part->integer_output_scales == NULL) {
        return largest <= (double)FLT_MAX;
    }
    return largest * fmax(1, factor) * fmax(1, term.scale) <= (double)FLT_MAX / 2;
}

static void add_leaf_bias(struct dense_f64 *dense, const struct layer_data *part, size_t leaf) {
    if (part->leaf_output_biases != NULL) {
        dense->terms[dense->term_count++] = (struct term){
            .weights = part->leaf_output_biases + leaf * part->output_width,
            .stride = 1,
            .scale = 1,
            .number = factor_of(part),
            .more_underflow = 1,
        };
    }
}

/* Whether the turn from a node to a child of it is the exact logit's. */
static void check_turn(struct walk *walk, size_t row, uint32_t node, size_t child, double exact, double bound) {
    const struct layer_data *part = walk->part;
    double margin = exact - (part->thresholds != NULL ? (double)part->thresholds[row] : 0);
    bool right = part->routing == FFF_ROUTING_GREATER ? margin > 0 : margin >= 0;
    size_t left_child = 2 * (size_t)node + 1;
    if (child == left_child + right) {
        return;
    }
    if (child == left_child + !right && fabs(margin) <= bound) {
        walk->tie = true;
        walk->agreement->largest_tie = fmax(walk->agreement->largest_tie, fabs(margin));
    } else {
        walk->mismatch = true;
    }
}

enum outcome { FOLLOWED, NO_PATH, NOT_PROVEN };

/* The neurons of the leaf that a path has reached: one after the other. */
static enum outcome check_leaf(struct dense_f64 *dense, const struct walk *walk, size_t tree) {
    const struct layer_data *part = walk->part;
    size_t nodes = nodes_of_tree(part), depth = part->depth, width = part->leaf_width, first = walk->path[depth];
    size_t leaf = first < nodes ? SIZE_MAX : (first - nodes) / width;
    if (leaf >> depth != 0 || (first - nodes) % width != 0) {
        return NO_PATH;
    }
    for (size_t j = 0; j < width; j++) {
        double exact, bound;
        uint32_t neuron = walk->path[depth + j];
        if (neuron != first + j) {
            return NO_PATH;
        }
        size_t row = row_of_entry(part, tree, depth + j, neuron);
        if (!check_logit(dense, walk, depth + j, row, &exact, &bound) ||
            !add_neuron(dense, part, row - part->trees * nodes, exact, bound)) {
            return NOT_PROVEN;
        }
    }
    add_leaf_bias(dense, part, (tree << depth) + leaf);
    return FOLLOWED;
}

/* Which node comes after a level: of a leaf layer's last one the leaf, counted on from the last node. */
static size_t next_node(const struct walk *walk, size_t level) {
    const struct layer_data *part = walk->part;
    size_t nodes = nodes_of_tree(part), next = walk->path[level + 1];
    bool is_leaf = part->leaf_width > 0 && level + 1 == part->depth && next >= nodes;
    return is_leaf ? nodes + (next - nodes) / part->leaf_width : next;
}

static enum outcome check_tree(struct dense_f64 *dense, struct walk *walk, size_t tree) {
    const struct layer_data *part = walk->part;
    bool has_leaves = part->leaf_width > 0;
    size_t levels = part->depth + !has_leaves, nodes = nodes_of_tree(part);
    for (size_t level = 0; level < levels; level++) {
        double exact, bound;
        uint32_t node = walk->path[level];
        if (node >= nodes || (level == 0 && node != 0)) {
            return NO_PATH;
        }
        size_t row = tree * nodes + node;
        if (!check_logit(dense, walk, level, row, &exact, &bound) ||
            (!has_leaves && !add_neuron(dense, part, row, exact, bound))) {
            return NOT_PROVEN;
        }
        if (level < part->depth) {
            check_turn(walk, row, node, next_node(walk, level), exact, bound);
        }
    }
    return has_leaves ? check_leaf(dense, walk, tree) : FOLLOWED;
}

/* The trees of a part; the walk ends at the next one. */
static enum outcome check_part(struct dense_f64 *dense, struct walk *walk) {
    size_t entries = entries_of_tree(walk->part);
    for (size_t tree = 0; tree < walk->part->trees; tree++) {
        enum outcome outcome = check_tree(dense, walk, tree);
        if (outcome != FOLLOWED) {
            return outcome;
        }
        walk->path += entries;
        walk->logits = walk->logits != NULL ? walk->logits + entries : NULL;
        walk->wide_entries = walk->wide_entries != NULL ? walk->wide_entries + entries : NULL;
    }
    return FOLLOWED;
}

/* Routes and logits; the terms of the output's sum are found on the way. False if the token cannot be checked any
 * further. */
static bool check_path(struct dense_f64 *dense, struct roundings roundings, const uint32_t *path, const float *logits,
                       struct agreement *agreement) {
    struct walk walk = {
        .roundings = roundings,
        .path = path,
        .logits = logits,
        .wide_entries = dense->wide != NULL ? dense->wide_entries : NULL,
        .wide = dense->wide,
        .exact_logits = dense->logits,
        .agreement = agreement,
    };
    dense->term_count = 0;
    for (walk.part = dense->data; walk.part != NULL; walk.part = walk.part->next) {
        enum outcome outcome = check_part(dense, &walk);
        if (outcome != FOLLOWED) {
            agreement->route_mismatches += outcome == NO_PATH;
            agreement->unbounded += outcome == NOT_PROVEN;
            return false;
        }
        walk.exact_logits += walk.part->rows;
        walk.wide = walk.wide != NULL ? walk.wide->next : NULL;
    }
    agreement->ties += walk.tie;
    agreement->route_mismatches += walk.mismatch;
    return true;
}

/* ---- Outputs --------------------------------------------------------------------------------- */

/* The dense sum masked to the path. The mask leaves nodes out, rather than multiplying them by 0, so
 * that infinite weights off the path stay without effect, as in the definition. */
static bool check_output(struct dense_f64 *dense, struct roundings roundings, const float *output,
                         struct agreement *agreement) {
    const struct layer_data *data = dense->data;
    double relative = gamma_of(roundings.output, UNIT) + gamma_of(roundings.output + 1, UNIT_F64);
    bool bounded = true;
    for (size_t column = 0; column < data->output_width; column++) {
        double exact = data->output_bias != NULL ? (double)data->output_bias[column] : 0;
        double magnitude = fabs(exact), carried = 0, underflow = 0;
        for (size_t i = 0; i < dense->term_count; i++) {
            const struct term *term = &dense->terms[i];
            double weight = (double)term->weights[column * term->stride] * term->scale;
            exact += term->number * weight;
            carried += term->bound * fabs(weight);
            magnitude += (fabs(term->number) + term->bound) * fabs(weight);
            underflow += (term->underflow * fabs(weight) + term->more_underflow) * UNDERFLOW_ERROR;
        }
        double bound = carried + relative * magnitude + underflow;
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
