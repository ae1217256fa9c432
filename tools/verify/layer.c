#include "tools/verify/layer.h"

#include "tools/verify/bits.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* One instruction set's results for the whole batch. */
struct run {
    fff_layer *layer;
    float *output;
    uint32_t *nodes;
    float *logits;
};

/* One call of verify_layer(). */
struct verification {
    const struct layer_data *data;
    struct store_check store;
    struct dense_f64 *dense;
    struct run generic, runs[FFF_ISA_COUNT];
};

static void run_free(struct run *run) {
    fff_layer_destroy(run->layer);
    free(run->output);
    free(run->nodes);
    free(run->logits);
}

int verdict_holds(const struct verdict *verdict) {
    return verdict->differing_values == 0 && agreement_holds(&verdict->dense) && agreement_holds(&verdict->expected) &&
           verdict->expected_mismatches == 0;
}

int verdicts_hold(const struct verdict *verdicts, size_t count) {
    int hold = 1;
    for (size_t i = 0; i < count; i++) {
        hold = hold && verdict_holds(&verdicts[i]);
    }
    return hold;
}

void verdict_add(struct verdict *sum, const struct verdict *more) {
    sum->isa = more->isa;
    sum->differing_values += more->differing_values;
    sum->expected_mismatches += more->expected_mismatches;
    agreement_add(&sum->dense, &more->dense);
    agreement_add(&sum->expected, &more->expected);
    file_comparison_add(&sum->file, &more->file);
}

/* Tasks one after another, last first: whatever the order, the bits must not change. */
static void run_backwards(void *context, size_t count, void (*task)(void *argument, size_t index), void *argument) {
    (void)context;
    while (count > 0) {
        task(argument, --count);
    }
}
static const fff_runner backwards = {run_backwards, NULL, 3};

/* The whole batch in pieces of `piece` tokens. */
static fff_status forward_in_pieces(const struct layer_data *data, const fff_layer *layer, size_t piece,
                                    const fff_runner *runner, float *output, void *workspace, size_t workspace_size) {
    fff_status status = FFF_OK;
    for (size_t first = 0; first < data->batch && status == FFF_OK; first += piece) {
        size_t count = data->batch - first < piece ? data->batch - first : piece;
        status =
            fff_forward(layer, count, data->input + first * data->input_width, data->input_width,
                        output + first * data->output_width, data->output_width, workspace, workspace_size, runner);
    }
    return status;
}

/* Fills `run` and counts the values in which any way of computing them differs from the first. */
static fff_status run_all_ways(const struct layer_data *data, enum verify_splits splits, struct run *run,
                               void *workspace, size_t workspace_size, size_t *differing) {
    static const size_t pieces[] = {1, 7, 2, 3, 4, 5, 8, 13, 16, 32, 61, 64, 128, 500};
    size_t piece_count = splits == VERIFY_FEW_SPLITS ? 2 : sizeof pieces / sizeof *pieces;
    size_t path_length = layer_path_length(data), outputs = data->batch * data->output_width;
    fff_status status = forward_in_pieces(data, run->layer, data->batch, NULL, run->output, workspace, workspace_size);
    if (status == FFF_OK) {
        status = fff_route(run->layer, data->batch, data->input, data->input_width, run->nodes, path_length,
                           run->logits, path_length, workspace, workspace_size, NULL);
    }
    float *other = allocate_matrix(data->batch, data->output_width);
    if (other == NULL) {
        return FFF_ERROR_OUT_OF_MEMORY;
    }
    if (status == FFF_OK) {
        status = fff_accumulate(run->layer, data->batch, run->nodes, path_length, run->logits, path_length, other,
                                data->output_width, workspace, workspace_size, NULL);
        *differing += differing_floats(other, run->output, outputs);
    }
    for (size_t i = 0; i < piece_count && status == FFF_OK; i++) {
        if (pieces[i] < data->batch) {
            status = forward_in_pieces(data, run->layer, pieces[i], NULL, other, workspace, workspace_size);
            *differing += differing_floats(other, run->output, outputs);
        }
    }
    if (status == FFF_OK) {
        status = forward_in_pieces(data, run->layer, data->batch, &backwards, other, workspace, workspace_size);
        *differing += differing_floats(other, run->output, outputs);
    }
    free(other);
    return status;
}

static fff_status make_run(const struct layer_data *data, fff_isa isa, enum verify_splits splits, struct run *run,
                           size_t *differing) {
    size_t path_length = layer_path_length(data);
    fff_status status = layer_data_create(data, isa, layer_data_desc, &run->layer);
    size_t workspace_size = 0;
    if (status == FFF_OK) {
        status = fff_workspace_size(run->layer, data->batch, backwards.concurrency, &workspace_size);
    }
    if (status != FFF_OK) {
        return status;
    }
    run->output = allocate_matrix(data->batch, data->output_width);
    run->nodes = allocate_matrix(data->batch, path_length); /* as large as floats */
    run->logits = allocate_matrix(data->batch, path_length);
    void *workspace = malloc(workspace_size);
    if (run->output == NULL || run->nodes == NULL || run->logits == NULL || workspace == NULL) {
        status = FFF_ERROR_OUT_OF_MEMORY;
    } else {
        status = run_all_ways(data, splits, run, workspace, workspace_size, differing);
    }
    free(workspace);
    return status;
}

static void check_token(const struct layer_data *data, struct dense_f64 *dense, size_t token, const struct run *run,
                        struct verdict *verdict) {
    size_t path_length = layer_path_length(data);
    dense_f64_check(dense, roundings_of_library(data), run->nodes + token * path_length,
                    run->logits + token * path_length, run->output + token * data->output_width, &verdict->dense);
    if (data->expected_output != NULL || data->expected_path != NULL) {
        const struct token_results kernels = {token, run->nodes + token * path_length,
                                              run->logits + token * path_length,
                                              run->output + token * data->output_width};
        verdict->expected_mismatches += compare_file_results(data, dense, &kernels, &verdict->expected, &verdict->file);
    }
}

static size_t differing_values(const struct layer_data *data, const struct run *run, const struct run *reference) {
    size_t entries = data->batch * layer_path_length(data);
    size_t differing = differing_floats(run->output, reference->output, data->batch * data->output_width) +
                       differing_floats(run->logits, reference->logits, entries);
    for (size_t e = 0; e < entries; e++) {
        differing += run->nodes[e] != reference->nodes[e];
    }
    return differing;
}

/* All runs, compared with generic's; and that with layers that store float32. */
static fff_status run_all(struct verification *v, const fff_isa *isas, size_t count, enum verify_splits splits,
                          struct verdict *verdicts, struct store_verdict *store) {
    const struct layer_data *data = v->data;
    size_t unused = 0;
    bool generic_asked_for = count > 0 && isas[0] == FFF_ISA_GENERIC;
    fff_status status = FFF_OK;
    if (data->batch > 0 && !generic_asked_for) {
        status = make_run(data, FFF_ISA_GENERIC, VERIFY_FEW_SPLITS, &v->generic, &unused);
    }
    const struct run *reference = generic_asked_for ? &v->runs[0] : &v->generic;
    for (size_t i = 0; i < count && status == FFF_OK; i++) {
        verdicts[i] = (struct verdict){.isa = isas[i]};
        if (data->batch > 0) {
            status = make_run(data, isas[i], splits, &v->runs[i], &verdicts[i].differing_values);
        }
        if (data->batch > 0 && status == FFF_OK) {
            verdicts[i].differing_values += differing_values(data, &v->runs[i], reference);
        }
    }
    const struct layer_results results = {reference->nodes, reference->logits, reference->output};
    return status == FFF_OK ? store_check_run(&v->store, &results, store) : status;
}

static void check_tokens(struct verification *v, size_t count, struct verdict *verdicts) {
    for (size_t token = 0; token < v->data->batch; token++) {
        dense_f64_evaluate(v->dense, token);
        const bool *wide = store_check_wide_entries(&v->store, token);
        if (wide != NULL) {
            dense_f64_use_rows_of(v->dense, v->data, wide);
        }
        for (size_t i = 0; i < count; i++) {
            check_token(v->store.reference, v->dense, token, &v->runs[i], &verdicts[i]);
        }
    }
}

fff_status verify_layer(const struct layer_data *data, const fff_isa *isas, size_t count, enum verify_splits splits,
                        struct verdict *verdicts, struct store_verdict *store) {
    struct verification v = {.data = data};
    struct store_verdict unused;
    fff_status status = store_check_open(&v.store, data);
    if (status == FFF_OK) {
        v.dense = dense_f64_create(v.store.reference);
        status = v.dense == NULL ? FFF_ERROR_OUT_OF_MEMORY : FFF_OK;
    }
    if (status == FFF_OK) {
        status = run_all(&v, isas, count, splits, verdicts, store != NULL ? store : &unused);
    }
    if (status == FFF_OK) {
        check_tokens(&v, count, verdicts);
    }
    for (size_t i = 0; i < count; i++) {
        run_free(&v.runs[i]);
    }
    run_free(&v.generic);
    dense_f64_destroy(v.dense);
    store_check_close(&v.store);
    return status;
}
