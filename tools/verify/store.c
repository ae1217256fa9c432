#include "tools/verify/store.h"

#include "tools/dense/stored_numbers.h"
#include "tools/verify/bits.h"
#include "tools/verify/store_twin.h"

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

/* ---- The float32 layer of the stored numbers ------------------------------------------------- */

static fff_status compare_routes(const struct store_check *check, const struct layer_results *results,
                                 struct store_verdict *verdict) {
    struct layer_results widened = {NULL, NULL, NULL};
    fff_status status = twin_compute(&check->stored, &widened);
    for (size_t entry = 0; entry < verdict->nodes && status == FFF_OK; entry++) {
        verdict->differing_routes += results->nodes[entry] != widened.nodes[entry];
        verdict->differing_routes += !same_float(results->logits[entry], widened.logits[entry]);
    }
    layer_results_free(&widened);
    return status;
}

static fff_status compare_outputs(const struct store_check *check, const struct layer_results *results,
                                  struct store_verdict *verdict) {
    const struct layer_data *data = check->data;
    struct twin twin;
    size_t values = data->batch * data->output_width;
    float *output = calloc(values + 1, sizeof *output);
    fff_status status = twin_make(&check->stored, data->batch, &twin);
    status = output == NULL ? FFF_ERROR_OUT_OF_MEMORY : status;
    if (status == FFF_OK) {
        status = twin_accumulate(data, &twin, results, output);
    }
    if (status == FFF_OK) {
        verdict->differing_outputs += differing_floats(output, results->output, values);
    }
    twin_free(&twin);
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

/* ---- The whole ------------------------------------------------------------------------------- */

fff_status store_check_open(struct store_check *check, const struct layer_data *data) {
    *check = (struct store_check){.data = data, .reference = data};
    bool integers = data->given_input.type == FFF_WEIGHT_I8 || data->given_output.type == FFF_WEIGHT_I8;
    bool float32 = stored_input_type(data) == FFF_WEIGHT_F32 && stored_output_type(data) == FFF_WEIGHT_F32;
    if (float32 && !integers) {
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
    fff_status status = twin_compute(data, &check->wide);
    if (status == FFF_OK) {
        measure_distance(check, results, verdict);
    }
    if (status == FFF_OK && verdict->exact_routes) {
        status = store_check_exact(check, results, verdict);
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
    layer_results_free(&check->wide);
    free(check->wide_entries);
    if (check->reference != check->data) {
        stored_numbers_free(&check->stored);
    }
    *check = (struct store_check){.data = NULL};
}
