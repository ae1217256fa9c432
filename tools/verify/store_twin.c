#include "tools/verify/store_twin.h"

#include <stdlib.h>

fff_status twin_give_workspace(fff_status status, size_t batch, struct twin *twin) {
    if (status == FFF_OK) {
        status = fff_workspace_size(twin->layer, batch, 1, &twin->size);
    }
    if (status == FFF_OK) {
        twin->workspace = malloc(twin->size);
        status = twin->workspace != NULL ? FFF_OK : FFF_ERROR_OUT_OF_MEMORY;
    }
    return status;
}

fff_status twin_make(const struct layer_data *data, size_t batch, struct twin *twin) {
    *twin = (struct twin){NULL, NULL, 0};
    return twin_give_workspace(layer_data_create(data, FFF_ISA_GENERIC, layer_data_float32_desc, &twin->layer), batch,
                               twin);
}

void twin_free(struct twin *twin) {
    fff_layer_destroy(twin->layer);
    free(twin->workspace);
}

void layer_results_free(struct layer_results *results) {
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

fff_status twin_accumulate(const struct layer_data *data, const struct twin *twin, const struct layer_results *from,
                           float *output) {
    size_t path = layer_path_length(data);
    return fff_accumulate(twin->layer, data->batch, from->nodes, path, from->logits, path, output, data->output_width,
                          twin->workspace, twin->size, NULL);
}

fff_status twin_compute(const struct layer_data *data, struct layer_results *results) {
    struct twin twin;
    size_t path = layer_path_length(data);
    fff_status status = twin_make(data, data->batch, &twin);
    if (status == FFF_OK && !allocate_results(data, results)) {
        status = FFF_ERROR_OUT_OF_MEMORY;
    }
    if (status == FFF_OK) {
        status = fff_route(twin.layer, data->batch, data->input, data->input_width, results->nodes, path,
                           results->logits, path, twin.workspace, twin.size, NULL);
    }
    if (status == FFF_OK) {
        status = twin_accumulate(data, &twin, results, results->output);
    }
    twin_free(&twin);
    return status;
}
