#include "tools/verify/file_results.h"

#include <math.h>
#include <string.h>

/* ---- Values ---------------------------------------------------------------------------------- */

/* Whether one difference goes before another, the older of the two. */
static bool goes_before(const struct value_difference *a, const struct value_difference *b) {
    if (a->count == 0 || b->count == 0) {
        return a->count > 0;
    }
    return a->at_fault != b->at_fault ? a->at_fault : a->difference > b->difference;
}

static void add_value_difference(struct value_difference *sum, const struct value_difference *more) {
    size_t count = sum->count + more->count;
    if (goes_before(more, sum)) {
        *sum = *more;
    }
    sum->count = count;
}

void compare_value(struct value_difference *largest, size_t row, size_t column, float here, float there) {
    double difference = fabs((double)here - (double)there);
    const struct value_difference one = {
        .count = 1,
        .row = row,
        .column = column,
        .here = (double)here,
        .there = (double)there,
        .difference = isnan(difference) ? INFINITY : difference,
    };
    add_value_difference(largest, &one);
}

/* ---- Routes ---------------------------------------------------------------------------------- */

/* A node as a difference tells it: of a leaf layer's neurons the leaf, counted on from the last node. */
static int64_t node_or_leaf(const struct layer_data *part, size_t level, int64_t entry) {
    int64_t nodes = (int64_t)nodes_of_tree(part);
    bool is_neuron = part->leaf_width > 0 && level == part->depth && entry >= nodes;
    return is_neuron ? nodes + (entry - nodes) / (int64_t)part->leaf_width : entry;
}

/* Where two paths of a token part. */
static struct route_difference find_route_difference(const struct layer_data *data, const struct dense_f64 *dense,
                                                     const struct token_results *kernels, const int32_t *path) {
    const struct layer_data *part = data;
    size_t at = 0, trees = 0, first = 0; /* entry of the path; trees, and the first entry, of earlier parts */
    while (path[at] == (int64_t)kernels->path[at]) {
        at++;
    }
    while (at - first >= part->trees * entries_of_tree(part)) {
        first += part->trees * entries_of_tree(part);
        trees += part->trees;
        part = part->next;
    }
    size_t tree = (at - first) / entries_of_tree(part), entry = (at - first) % entries_of_tree(part);
    size_t level = entry < part->depth ? entry : part->depth; /* where all neurons of a leaf are */
    struct route_difference found = {
        .tokens = 1,
        .token = kernels->token,
        .tree = trees + tree,
        .level = level,
        .here = node_or_leaf(part, level, kernels->path[at]),
        .there = node_or_leaf(part, level, path[at]),
        .parent = -1,
    };
    if (level > 0) {
        size_t before = at - entry + level - 1;
        found.parent = kernels->path[before];
        found.logit = (double)kernels->logits[before];
        found.exact = dense_f64_logit(dense, part, tree * nodes_of_tree(part) + kernels->path[before],
                                      roundings_of_any_order(data), &found.bound);
    }
    return found;
}

/* A tie that excuses comes after what none excuses. */
static void add_route_difference(struct route_difference *sum, const struct route_difference *more) {
    size_t tokens = sum->tokens + more->tokens;
    if (more->tokens > 0 && (sum->tokens == 0 || (sum->tie && !more->tie))) {
        *sum = *more;
    }
    sum->tokens = tokens;
}

/* True if a tie, on either side, lets the paths differ. */
static bool is_excused(const struct layer_data *data, struct dense_f64 *dense, const struct token_results *kernels,
                       const uint32_t *path) {
    struct agreement ours = {0}, theirs = {0};
    dense_f64_check(dense, roundings_of_library(data), kernels->path, NULL, NULL, &ours);
    dense_f64_check(dense, roundings_of_any_order(data), path, NULL, NULL, &theirs);
    return ours.ties + theirs.ties > 0 && theirs.route_mismatches == 0;
}

/* ---- A token --------------------------------------------------------------------------------- */

void file_comparison_add(struct file_comparison *sum, const struct file_comparison *more) {
    struct file_comparison later = *more;
    later.output.row += sum->tokens;
    later.route.token += sum->tokens;
    sum->tokens += more->tokens;
    sum->tokens_wrong += more->tokens_wrong;
    add_value_difference(&sum->output, &later.output);
    add_route_difference(&sum->route, &later.route);
}

static void compare_outputs(const struct layer_data *data, const struct token_results *kernels, const float *output,
                            bool at_fault, struct value_difference *largest) {
    struct value_difference here = {0};
    for (size_t column = 0; column < data->output_width; column++) {
        compare_value(&here, kernels->token, column, kernels->output[column], output[column]);
    }
    here.at_fault = at_fault;
    add_value_difference(largest, &here);
}

bool compare_file_results(const struct layer_data *data, struct dense_f64 *dense, const struct token_results *kernels,
                          struct agreement *expected, struct file_comparison *comparison) {
    size_t path_length = layer_path_length(data);
    const uint32_t *path = kernels->path;
    bool wrong_way = false;
    if (data->expected_path != NULL) {
        const int32_t *theirs = data->expected_path + kernels->token * path_length;
        path = (const uint32_t *)theirs; /* a negative one becomes a node that no tree has */
        if (memcmp(path, kernels->path, path_length * sizeof *path) != 0) {
            struct route_difference route = find_route_difference(data, dense, kernels, theirs);
            route.tie = is_excused(data, dense, kernels, path);
            wrong_way = !route.tie;
            add_route_difference(&comparison->route, &route);
        }
    }
    const float *output =
        data->expected_output != NULL ? data->expected_output + kernels->token * data->output_width : NULL;
    struct agreement found = {0};
    dense_f64_check(dense, roundings_of_any_order(data), path, NULL, output, &found);
    agreement_add(expected, &found);
    bool wrong = wrong_way || !agreement_holds(&found);
    if (output != NULL) {
        compare_outputs(data, kernels, output, wrong, &comparison->output);
    }
    comparison->tokens++;
    comparison->tokens_wrong += wrong;
    return wrong_way;
}
