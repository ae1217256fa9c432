#include "tools/verify/store.h"

#include "tools/dense/stored_numbers.h"
#include "tools/verify/bits.h"

#include <math.h>
#include <stdlib.h>

bool stores_narrow(const struct store_verdict *verdict) {
    return verdict->input != FFF_WEIGHT_F32 || verdict->output != FFF_WEIGHT_F32;
}

bool store_verdict_holds(const struct store_verdict *verdict) {
    bool routes = !verdict->exact_routes || (verdict->nodes_apart == 0 && verdict->other_logits == 0);
    return routes && verdict->differing_routes == 0 && verdict->differing_outputs == 0;
}

void store_verdict_add(struct store_verdict *sum, const struct store_verdict *more) {
    sum->input = more->input;
    sum->output = more->output;
    sum->exact_routes = more->exact_routes;
    sum->tokens += more->tokens;
    sum->nodes += more->nodes;
    sum->differing_routes += more->differing_routes;
    sum->differing_outputs += more->differing_outputs;
    sum->tokens_apart += more->tokens_apart;
    sum->nodes_apart += more->nodes_apart;
    sum->values += more->values;
    sum->output_squares += more->output_squares;
    sum->difference_squares += more->difference_squares;
    sum->difference_worst = fmax(sum->difference_worst, more->difference_worst);
    sum->deciding += more->deciding;
    sum->float32_rows += more->float32_rows;
    sum->other_logits += more->other_logits;
}

/* ---- Layers to compare with ------------------------------------------------------------------ */

/* A layer and its workspace. */
struct made {
    fff_layer *layer;
    void *workspace;
    size_t size;
};

static fff_status give_workspace(fff_status status, size_t batch, struct made *made) {
    if (status == FFF_OK) {
        status = fff_workspace_size(made->layer, batch, 1, &made->size);
    }
    if (status == FFF_OK) {
        made->workspace = malloc(made->size);
        status = made->workspace != NULL ? FFF_OK : FFF_ERROR_OUT_OF_MEMORY;
    }
    return status;
}

/* A layer of float32. */
static fff_status make(const struct layer_data *data, size_t batch, struct made *made) {
    *made = (struct made){NULL, NULL, 0};
    return give_workspace(layer_data_create(data, FFF_ISA_GENERIC, layer_data_float32_desc, &made->layer), batch, made);
}

static void unmake(struct made *made) {
    fff_layer_destroy(made->layer);
    free(made->workspace);
}

static void free_results(struct layer_results *results) {
    free(results->nodes);
    free(results->logits);
    free(results->output);
    *results = (struct layer_results){NULL, NULL, NULL};
}

static bool allocate_results(const struct layer_data *data, struct layer_results *results) {
    size_t entries = data->batch * layer_path_length(data);
    results->nodes = calloc(entries + 1, sizeof *results->nodes);
    results->logits = calloc(entries + 1, sizeof *results->logits);
    results->output = calloc(data->batch * data->output_width + 1, sizeof *results->output);
    return results->nodes != NULL && results->logits != NULL && results->output != NULL;
}

static fff_status accumulate(const struct layer_data *data, const struct made *made, const struct layer_results *from,
                             float *output) {
    size_t path = layer_path_length(data);
    return fff_accumulate(made->layer, data->batch, from->nodes, path, from->logits, path, output, data->output_width,
                          made->workspace, made->size, NULL);
}

/* The whole batch by the float32 layer. */
static fff_status compute(const struct layer_data *data, struct layer_results *results) {
    struct made made;
    size_t path = layer_path_length(data);
    fff_status status = make(data, data->batch, &made);
    if (status == FFF_OK && !allocate_results(data, results)) {
        status = FFF_ERROR_OUT_OF_MEMORY;
    }
    if (status == FFF_OK) {
        status = fff_route(made.layer, data->batch, data->input, data->input_width, results->nodes, path,
                           results->logits, path, made.workspace, made.size, NULL);
    }
    if (status == FFF_OK) {
        status = accumulate(data, &made, results, results->output);
    }
    unmake(&made);
    return status;
}

/* ---- The float32 layer of the stored numbers ------------------------------------------------- */

static fff_status compare_routes(const struct store_check *check, const struct layer_results *results,
                                 struct store_verdict *verdict) {
    struct layer_results widened = {NULL, NULL, NULL};
    fff_status status = compute(&check->stored, &widened);
    for (size_t entry = 0; entry < verdict->nodes && status == FFF_OK; entry++) {
        verdict->differing_routes += results->nodes[entry] != widened.nodes[entry];
        verdict->differing_routes += !same_float(results->logits[entry], widened.logits[entry]);
    }
    free_results(&widened);
    return status;
}

static fff_status compare_outputs(const struct store_check *check, const struct layer_results *results,
                                  struct store_verdict *verdict) {
    const struct layer_data *data = check->data;
    struct made made;
    size_t values = data->batch * data->output_width;
    float *output = calloc(values + 1, sizeof *output);
    fff_status status = make(&check->stored, data->batch, &made);
    status = output == NULL ? FFF_ERROR_OUT_OF_MEMORY : status;
    if (status == FFF_OK) {
        status = accumulate(data, &made, results, output);
    }
    if (status == FFF_OK) {
        verdict->differing_outputs += differing_floats(output, results->output, values);
    }
    unmake(&made);
    free(output);
    return status;
}

/* How far a value is from another: infinite where one of them is no number, or infinite, and the other another. */
static double difference_of(float a, float b) {
    double difference = same_float(a, b) ? 0 : fabs((double)a - (double)b);
    return isnan(difference) ? INFINITY : difference;
}

/* ---- The float32 layer of the given numbers -------------------------------------------------- */

static void measure_distance(const struct store_check *check, const struct layer_results *results,
                             struct store_verdict *verdict) {
    const struct layer_data *data = check->data;
    const struct layer_results *wide = &check->wide;
    size_t path = layer_path_length(data), values = data->batch * data->output_width;
    for (size_t token = 0; token < data->batch; token++) {
        size_t apart = 0;
        for (size_t entry = token * path; entry < (token + 1) * path; entry++) {
            apart += results->nodes[entry] != wide->nodes[entry];
        }
        verdict->nodes_apart += apart;
        verdict->tokens_apart += apart > 0;
    }
    verdict->values = values;
    for (size_t i = 0; i < values; i++) {
        double difference = difference_of(results->output[i], wide->output[i]);
        double size = isfinite(wide->output[i]) ? (double)wide->output[i] : 0;
        verdict->output_squares += size * size;
        verdict->difference_squares += difference * difference;
        verdict->difference_worst = fmax(verdict->difference_worst, difference);
    }
}

/* ---- Exact routes ---------------------------------------------------------------------------- */

/* A part of the layer, the stored numbers of it, and where its entries begin in a token's path. */
struct settled {
    const struct layer_data *part, *stored;
    size_t first_entry;
};

/* The logits of a token's path entries in a part, `all` being those of all its stored rows. */
static void settle_token(const struct store_check *check, const struct settled *of, const struct layer_results *results,
                         size_t token, const float *all, struct store_verdict *verdict) {
    const struct layer_data *part = of->part;
    size_t of_tree = entries_of_tree(part), first = token * layer_path_length(check->data) + of->first_entry;
    for (size_t i = 0; i < part->trees * of_tree; i++) {
        size_t entry = first + i, row = row_of_entry(part, i / of_tree, i % of_tree, results->nodes[entry]);
        float logit = results->logits[entry];
        bool decides = i % of_tree < part->depth, same_node = results->nodes[entry] == check->wide.nodes[entry];
        verdict->deciding += decides;
        if (!same_float(logit, all[row])) {
            bool wide = decides && same_node && same_float(logit, check->wide.logits[entry]);
            check->wide_entries[entry] = wide;
            verdict->float32_rows += wide;
            verdict->other_logits += !wide;
        }
    }
}

/* Depth 0 makes a root of every node, so that all stored rows of a part, neurons of leaves included, give their logits
 * for a token. `zeros` are output weights, one a row. */
static fff_status make_roots(const struct settled *of, bool as_integers, const float *zeros, struct made *made) {
    const struct layer_data *part = of->part;
    fff_layer_desc desc =
        as_integers ? layer_data_desc(part, FFF_ISA_GENERIC) : layer_data_float32_desc(of->stored, FFF_ISA_GENERIC);
    desc.depth = desc.leaf_width = 0;
    desc.trees = part->rows;
    desc.routes = FFF_ROUTES_STORED;
    desc.thresholds = desc.factor = desc.output_bias = desc.output_scales = desc.leaf_biases = NULL;
    desc.leaf_weights = desc.leaf_output_biases = (fff_weights){NULL, 0, 0};
    desc.output_width = 1;
    desc.output_weights = (fff_weights){zeros, 1, 1};
    desc.output_weight_type = desc.store_output = FFF_CHOOSE_F32;
    *made = (struct made){NULL, NULL, 0};
    return give_workspace(fff_layer_create(&desc, &made->layer), 1, made);
}

static fff_status settle_part(const struct store_check *check, const struct settled *of,
                              const struct layer_results *results, struct store_verdict *verdict) {
    const struct layer_data *data = check->data;
    size_t rows = of->part->rows;
    uint32_t *roots = calloc(rows, sizeof *roots);
    float *logits = calloc(rows, sizeof *logits), *zeros = calloc(rows, sizeof *zeros);
    struct made made = {NULL, NULL, 0};
    fff_status status = FFF_ERROR_OUT_OF_MEMORY;
    if (roots != NULL && logits != NULL && zeros != NULL) {
        status = make_roots(of, verdict->input == FFF_WEIGHT_I8, zeros, &made);
    }
    for (size_t token = 0; token < data->batch && status == FFF_OK; token++) {
        status = fff_route(made.layer, 1, data->input + token * data->input_width, data->input_width, roots, rows,
                           logits, rows, made.workspace, made.size, NULL);
        if (status == FFF_OK) {
            settle_token(check, of, results, token, logits, verdict);
        }
    }
    unmake(&made);
    free(roots);
    free(logits);
    free(zeros);
    return status;
}

static fff_status settle_all(struct store_check *check, const struct layer_results *results,
                             struct store_verdict *verdict) {
    check->wide_entries = calloc(verdict->nodes + 1, sizeof *check->wide_entries);
    fff_status status = check->wide_entries != NULL ? FFF_OK : FFF_ERROR_OUT_OF_MEMORY;
    struct settled of = {check->data, &check->stored, 0};
    while (of.part != NULL && status == FFF_OK) {
        status = settle_part(check, &of, results, verdict);
        of.first_entry += of.part->trees * entries_of_tree(of.part);
        of.part = of.part->next;
        of.stored = of.stored->next;
    }
    return status;
}

/* ---- The whole ------------------------------------------------------------------------------- */

fff_status store_check_open(struct store_check *check, const struct layer_data *data) {
    *check = (struct store_check){.data = data, .reference = data};
    if (stored_input_type(data) == FFF_WEIGHT_F32 && stored_output_type(data) == FFF_WEIGHT_F32) {
        return FFF_OK;
    }
    if (stored_numbers_make(&check->stored, data) != 0) {
        return FFF_ERROR_OUT_OF_MEMORY;
    }
    if (stored_input_type(data) != data->given_input.type || stored_output_type(data) != data->given_output.type ||
        data->store.routes == FFF_ROUTES_EXACT) {
        check->stored.expected_output = NULL; /* the results of other numbers */
        check->stored.expected_path = NULL;
    }
    check->reference = &check->stored;
    return FFF_OK;
}

fff_status store_check_run(struct store_check *check, const struct layer_results *results,
                           struct store_verdict *verdict) {
    const struct layer_data *data = check->data;
    *verdict = (struct store_verdict){
        .input = stored_input_type(data),
        .output = stored_output_type(data),
        .exact_routes = data->store.routes == FFF_ROUTES_EXACT,
        .tokens = data->batch,
        .nodes = data->batch * layer_path_length(data),
    };
    if (check->reference == data || data->batch == 0) {
        return FFF_OK;
    }
    fff_status status = compute(data, &check->wide);
    if (status == FFF_OK) {
        measure_distance(check, results, verdict);
    }
    if (status == FFF_OK && verdict->exact_routes) {
        status = settle_all(check, results, verdict);
    } else if (status == FFF_OK && verdict->input != FFF_WEIGHT_I8) {
        status = compare_routes(check, results, verdict);
    }
    if (status == FFF_OK && verdict->output != FFF_WEIGHT_I8) {
        status = compare_outputs(check, results, verdict);
    }
    return status;
}

const bool *store_check_wide_entries(const struct store_check *check, size_t token) {
    return check->wide_entries != NULL ? check->wide_entries + token * layer_path_length(check->data) : NULL;
}

void store_check_close(struct store_check *check) {
    free_results(&check->wide);
    free(check->wide_entries);
    if (check->reference != check->data) {
        stored_numbers_free(&check->stored);
    }
    *check = (struct store_check){.data = NULL};
}
