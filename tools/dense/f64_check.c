/* A token's float32 results against the dense definition: routes, logits, outputs. */
#include "tools/dense/f64_shared.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

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
    *exact = is_wide ? f64_logit(dense, walk->wide, row) : walk->exact_logits[row];
    *bound = f64_logit_bound(dense, is_wide ? walk->wide : walk->part, row, &walk->roundings);
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

/* Of int8 output rows, from this depth on, a tree's factors are integers, too. By how much each can be off, relative to
 * the largest of them: half a unit and what three roundings add, with room for that of the largest itself. */
static const size_t LEAST_DEPTH_OF_INTEGERS = 3;
static const double FACTOR_ERROR = 0.507 / 32767;

/* Adds that to the bounds of a tree's terms, the last ones; infinite if a factor may overflow. */
static void bound_integer_factors(struct dense_f64 *dense, const struct layer_data *part) {
    if (part->integer_output_scales == NULL || part->leaf_width > 0 || part->depth < LEAST_DEPTH_OF_INTEGERS) {
        return;
    }
    struct term *terms = dense->terms + dense->term_count - (part->depth + 1);
    double largest = 0;
    for (size_t i = 0; i <= part->depth; i++) {
        double factor = (fabs(terms[i].number) + terms[i].bound) * terms[i].scale;
        largest = fmax(largest, isnan(factor) ? INFINITY : factor);
    }
    double error = largest <= 0.5 * (double)FLT_MAX ? FACTOR_ERROR * largest + (double)LEAST_QUANTISED : INFINITY;
    for (size_t i = 0; i <= part->depth; i++) {
        terms[i].bound += terms[i].scale > 0 ? error / terms[i].scale : 0; /* a factor of 0 is 0 as an integer, too */
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
    bound_integer_factors(dense, part);
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
    double relative = f64_gamma(roundings.output, UNIT) + f64_gamma(roundings.output + 1, UNIT_F64);
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
