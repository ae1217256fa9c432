/* The public functions that compute: check the arguments, then do the job. */
#include "layer/forest.h"
#include "layer/nodes.h"
#include "layer/rows.h"
#include "layer/size.h"

fff_status fff_workspace_size(const fff_layer *layer, size_t batch, size_t concurrency, size_t *size) {
    if (layer == NULL || size == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    if (batch == 0) {
        *size = 0;
        return FFF_OK;
    }
    size_t bytes = fff_forest_workspace(layer, batch, concurrency);
    if (bytes == 0) {
        return FFF_ERROR_OVERFLOW;
    }
    *size = bytes;
    return FFF_OK;
}

/* ---- Checks ---------------------------------------------------------------------------------- */

/* All matrices that a call is given, its workspace first, then what else it writes, then what it reads. */
enum { MOST_MATRICES = 5 };
struct matrices {
    struct fff_rows rows[MOST_MATRICES];
    size_t count, written;
};

/* What there is to check when each matrix but the workspace is known to be good; then the job can run. */
static fff_status prepare(const struct fff_job *job, struct matrices *matrices, void *workspace, size_t workspace_size,
                          const fff_runner *runner) {
    fff_status status = fff_check_forest(job, workspace, workspace_size, runner);
    if (status == FFF_OK) {
        status = fff_check_bytes(workspace, workspace_size, &matrices->rows[0]);
    }
    return status == FFF_OK && fff_any_overlap(matrices->rows, matrices->written, matrices->count) ? FFF_ERROR_OVERLAP
                                                                                                   : status;
}

/* ---- The public functions -------------------------------------------------------------------- */

fff_status fff_forward(const fff_layer *layer, size_t batch, const float *input, size_t input_stride, float *output,
                       size_t output_stride, void *workspace, size_t workspace_size, const fff_runner *runner) {
    if (layer == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    if (batch == 0) {
        return FFF_OK;
    }
    struct fff_job job = {
        .layer = layer,
        .batch = batch,
        .input = input,
        .input_stride = input_stride,
        .output = output,
        .output_stride = output_stride,
    };
    struct matrices matrices = {.count = 3, .written = 2};
    fff_status status = fff_check_rows(output, batch, layer->output_width, output_stride, &matrices.rows[1]);
    if (status == FFF_OK) {
        status = fff_check_rows(input, batch, layer->input_width, input_stride, &matrices.rows[2]);
    }
    if (status == FFF_OK) {
        status = prepare(&job, &matrices, workspace, workspace_size, runner);
    }
    return status == FFF_OK ? fff_run_forest(&job, workspace, workspace_size, runner) : status;
}

fff_status fff_route(const fff_layer *layer, size_t batch, const float *input, size_t input_stride, uint32_t *nodes,
                     size_t node_stride, float *logits, size_t logit_stride, void *workspace, size_t workspace_size,
                     const fff_runner *runner) {
    if (layer == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    if (batch == 0) {
        return FFF_OK;
    }
    struct fff_job job = {
        .layer = layer,
        .batch = batch,
        .input = input,
        .input_stride = input_stride,
        .routed_nodes = nodes,
        .node_stride = node_stride,
        .routed_logits = logits,
        .logit_stride = logit_stride,
    };
    struct matrices matrices = {.count = 4, .written = 3};
    fff_status status = fff_check_rows(nodes, batch, layer->path_length, node_stride, &matrices.rows[1]);
    if (status == FFF_OK) {
        status = fff_check_rows(logits, batch, layer->path_length, logit_stride, &matrices.rows[2]);
    }
    if (status == FFF_OK) {
        status = fff_check_rows(input, batch, layer->input_width, input_stride, &matrices.rows[3]);
    }
    if (status == FFF_OK) {
        status = prepare(&job, &matrices, workspace, workspace_size, runner);
    }
    return status == FFF_OK ? fff_run_forest(&job, workspace, workspace_size, runner) : status;
}

fff_status fff_accumulate(const fff_layer *layer, size_t batch, const uint32_t *nodes, size_t node_stride,
                          const float *logits, size_t logit_stride, float *output, size_t output_stride,
                          void *workspace, size_t workspace_size, const fff_runner *runner) {
    if (layer == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    if (batch == 0) {
        return FFF_OK;
    }
    struct fff_job job = {
        .layer = layer,
        .batch = batch,
        .nodes = nodes,
        .node_stride = node_stride,
        .logits = logits,
        .logit_stride = logit_stride,
        .output = output,
        .output_stride = output_stride,
    };
    struct matrices matrices = {.count = 4, .written = 2};
    fff_status status = fff_check_rows(output, batch, layer->output_width, output_stride, &matrices.rows[1]);
    if (status == FFF_OK) {
        status = fff_check_rows(nodes, batch, layer->path_length, node_stride, &matrices.rows[2]);
    }
    if (status == FFF_OK) {
        status = fff_check_rows(logits, batch, layer->path_length, logit_stride, &matrices.rows[3]);
    }
    if (status == FFF_OK) {
        status = prepare(&job, &matrices, workspace, workspace_size, runner);
    }
    if (status == FFF_OK) {
        status = fff_check_nodes(layer, batch, nodes, node_stride);
    }
    return status == FFF_OK ? fff_run_forest(&job, workspace, workspace_size, runner) : status;
}

fff_status fff_forward_paths(const fff_layer *layer, size_t batch, const float *input, size_t input_stride,
                             float *output, size_t output_stride, uint32_t *nodes, size_t node_stride, float *logits,
                             size_t logit_stride, void *workspace, size_t workspace_size, const fff_runner *runner) {
    if (layer == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    if (batch == 0) {
        return FFF_OK;
    }
    struct fff_job job = {
        .layer = layer,
        .batch = batch,
        .input = input,
        .input_stride = input_stride,
        .output = output,
        .output_stride = output_stride,
        .routed_nodes = nodes,
        .node_stride = node_stride,
        .routed_logits = logits,
        .logit_stride = logit_stride,
    };
    struct matrices matrices = {.count = 5, .written = 4};
    fff_status status = fff_check_rows(output, batch, layer->output_width, output_stride, &matrices.rows[1]);
    if (status == FFF_OK) {
        status = fff_check_rows(nodes, batch, layer->path_length, node_stride, &matrices.rows[2]);
    }
    if (status == FFF_OK) {
        status = fff_check_rows(logits, batch, layer->path_length, logit_stride, &matrices.rows[3]);
    }
    if (status == FFF_OK) {
        status = fff_check_rows(input, batch, layer->input_width, input_stride, &matrices.rows[4]);
    }
    if (status == FFF_OK) {
        status = prepare(&job, &matrices, workspace, workspace_size, runner);
    }
    return status == FFF_OK ? fff_run_forest(&job, workspace, workspace_size, runner) : status;
}
