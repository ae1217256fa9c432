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

/* ---- Any of the calls ------------------------------------------------------------------------ */

/* What a call is given: these of its job's matrices. */
enum { OUTPUT = 1, ROUTED_PATHS = 2, GIVEN_PATHS = 4, INPUT = 8 };

/* All matrices of a call: its workspace first, then what else it writes, then what it reads. */
enum { MOST_MATRICES = 5 };

static fff_status check_and_run(const struct fff_job *job, unsigned given, void *workspace, size_t workspace_size,
                                const fff_runner *runner) {
    const fff_layer *layer = job->layer;
    if (layer == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    size_t batch = job->batch, path = layer->path_length;
    if (batch == 0) {
        return FFF_OK;
    }
    struct fff_rows matrices[MOST_MATRICES];
    size_t count = 1, written;
    fff_status status = FFF_OK;
    if ((given & OUTPUT) != 0) {
        status = fff_check_rows(job->output, batch, layer->output_width, job->output_stride, &matrices[count++]);
    }
    written = (given & ROUTED_PATHS) != 0 ? count + 2 : count;
    if (status == FFF_OK && (given & (ROUTED_PATHS | GIVEN_PATHS)) != 0) {
        bool routed = (given & ROUTED_PATHS) != 0;
        const uint32_t *nodes = routed ? job->routed_nodes : job->nodes;
        const float *logits = routed ? job->routed_logits : job->logits;
        status = fff_check_rows(nodes, batch, path, job->node_stride, &matrices[count++]);
        if (status == FFF_OK) {
            status = fff_check_rows(logits, batch, path, job->logit_stride, &matrices[count++]);
        }
    }
    if (status == FFF_OK && (given & INPUT) != 0) {
        status = fff_check_rows(job->input, batch, layer->input_width, job->input_stride, &matrices[count++]);
    }
    if (status == FFF_OK) {
        status = fff_check_forest(job, workspace, workspace_size, runner);
    }
    if (status == FFF_OK) {
        status = fff_check_bytes(workspace, workspace_size, &matrices[0]);
    }
    if (status == FFF_OK && fff_any_overlap(matrices, written, count)) {
        status = FFF_ERROR_OVERLAP;
    }
    if (status == FFF_OK && (given & GIVEN_PATHS) != 0) {
        status = fff_check_nodes(layer, batch, job->nodes, job->node_stride);
    }
    return status == FFF_OK ? fff_run_forest(job, workspace, workspace_size, runner) : status;
}

/* ---- The public functions -------------------------------------------------------------------- */

fff_status fff_forward(const fff_layer *layer, size_t batch, const float *input, size_t input_stride, float *output,
                       size_t output_stride, void *workspace, size_t workspace_size, const fff_runner *runner) {
    const struct fff_job job = {
        .layer = layer,
        .batch = batch,
        .input = input,
        .input_stride = input_stride,
        .output = output,
        .output_stride = output_stride,
    };
    return check_and_run(&job, INPUT | OUTPUT, workspace, workspace_size, runner);
}

fff_status fff_route(const fff_layer *layer, size_t batch, const float *input, size_t input_stride, uint32_t *nodes,
                     size_t node_stride, float *logits, size_t logit_stride, void *workspace, size_t workspace_size,
                     const fff_runner *runner) {
    const struct fff_job job = {
        .layer = layer,
        .batch = batch,
        .input = input,
        .input_stride = input_stride,
        .routed_nodes = nodes,
        .node_stride = node_stride,
        .routed_logits = logits,
        .logit_stride = logit_stride,
    };
    return check_and_run(&job, INPUT | ROUTED_PATHS, workspace, workspace_size, runner);
}

fff_status fff_accumulate(const fff_layer *layer, size_t batch, const uint32_t *nodes, size_t node_stride,
                          const float *logits, size_t logit_stride, float *output, size_t output_stride,
                          void *workspace, size_t workspace_size, const fff_runner *runner) {
    const struct fff_job job = {
        .layer = layer,
        .batch = batch,
        .nodes = nodes,
        .node_stride = node_stride,
        .logits = logits,
        .logit_stride = logit_stride,
        .output = output,
        .output_stride = output_stride,
    };
    return check_and_run(&job, GIVEN_PATHS | OUTPUT, workspace, workspace_size, runner);
}

fff_status fff_forward_paths(const fff_layer *layer, size_t batch, const float *input, size_t input_stride,
                             float *output, size_t output_stride, uint32_t *nodes, size_t node_stride, float *logits,
                             size_t logit_stride, void *workspace, size_t workspace_size, const fff_runner *runner) {
    const struct fff_job job = {
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
    return check_and_run(&job, INPUT | ROUTED_PATHS | OUTPUT, workspace, workspace_size, runner);
}
