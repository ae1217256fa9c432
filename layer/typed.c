/* fff_forward() for 16-bit inputs and outputs: each task takes its tokens block by block, widens a block's inputs, has
 * it computed as any batch, and rounds the outputs. */
#include "dispatch/fp_environment.h"
#include "layer/forest.h"
#include "layer/pack.h"
#include "layer/rows.h"
#include "layer/size.h"

enum { BLOCK = 1024, LINE = FFF_WORKSPACE_ALIGNMENT };

/* One call. It lies in the workspace where tasks share it. */
struct typed_job {
    struct fff_round round;
    const fff_layer *layer;
    size_t batch, tasks, block; /* tokens in all, tasks, tokens at once */
    fff_weight_type input_type, output_type;
    const unsigned char *input;
    unsigned char *output;
    size_t input_stride, output_stride; /* in bytes */
    unsigned char *memory;              /* the workspace, aligned: this, then the tasks' states, then their slices */
    size_t states, slices;              /* byte offsets in it */
    size_t inputs, outputs, workspace, slice; /* byte offsets in a task's slice, and its size */
    size_t workspace_size;
};

static bool is_float_type(fff_weight_type type) {
    return type == FFF_WEIGHT_F32 || type == FFF_WEIGHT_BF16 || type == FFF_WEIGHT_F16;
}

/* Room for `bytes` at *end, in whole lines; false if that overflows. */
static bool reserve(size_t *end, size_t bytes, size_t *start) {
    *start = *end;
    return fff_size_add(*end, bytes, end) && fff_size_round_up(*end, LINE, end);
}

/* A block's floats, where the caller's are none. */
static bool block_bytes(size_t block, size_t width, fff_weight_type type, size_t *bytes) {
    *bytes = 0;
    return type == FFF_WEIGHT_F32 ||
           (fff_size_multiply(block, width, bytes) && fff_size_multiply(*bytes, sizeof(float), bytes));
}

/* Plans a call; false if sizes overflow. Slices have room for as many tokens as the batch has, up to a block, however
 * many tasks there are: so more of either never need less. */
static bool plan(struct typed_job *job, size_t concurrency, size_t *bytes) {
    const fff_layer *layer = job->layer;
    size_t input_bytes, output_bytes, end = 0, own, of_slices;
    job->block = fff_min(job->batch, BLOCK);
    job->tasks = fff_min(fff_max(concurrency, 1), job->batch);
    job->workspace_size = fff_forest_workspace(layer, job->block, 1);
    if (job->workspace_size == 0 || !block_bytes(job->block, layer->input_width, job->input_type, &input_bytes) ||
        !block_bytes(job->block, layer->output_width, job->output_type, &output_bytes) ||
        !reserve(&end, input_bytes, &job->inputs) || !reserve(&end, output_bytes, &job->outputs) ||
        !reserve(&end, job->workspace_size, &job->workspace)) {
        return false;
    }
    job->slice = end;
    end = 0;
    return reserve(&end, sizeof *job, &own) && reserve(&end, job->tasks, &job->states) &&
           fff_size_multiply(job->tasks, job->slice, &of_slices) && reserve(&end, of_slices, &job->slices) &&
           fff_size_add(end, LINE - 1, bytes);
}

/* `count` tokens from `first` on. */
static void run_typed_block(const struct typed_job *job, size_t first, size_t count, unsigned char *slice) {
    const fff_layer *layer = job->layer;
    size_t in = layer->input_width, out = layer->output_width;
    const unsigned char *given = job->input + first * job->input_stride;
    unsigned char *wanted = job->output + first * job->output_stride;
    bool widen = job->input_type != FFF_WEIGHT_F32, narrow = job->output_type != FFF_WEIGHT_F32;
    float *inputs = (float *)(void *)(slice + job->inputs), *outputs = (float *)(void *)(slice + job->outputs);
    for (size_t t = 0; t < count && widen; t++) {
        layer->parts[0].kernels->widen(
            job->input_type, in, (const uint16_t *)(const void *)(given + t * job->input_stride), inputs + t * in);
    }
    const struct fff_job inner = {
        .layer = layer,
        .batch = count,
        .input = widen ? inputs : (const float *)(const void *)given,
        .input_stride = widen ? in : job->input_stride / sizeof(float),
        .output = narrow ? outputs : (float *)(void *)wanted,
        .output_stride = narrow ? out : job->output_stride / sizeof(float),
    };
    /* It does not fail: the plan has room, and there is no runner. */
    (void)fff_run_forest(&inner, slice + job->workspace, job->workspace_size, NULL);
    for (size_t t = 0; t < count && narrow; t++) {
        layer->parts[0].kernels->narrow(job->output_type, out, outputs + t * out,
                                        (uint16_t *)(void *)(wanted + t * job->output_stride));
    }
}

/* Task `index`: its even share of the tokens. */
static void run_typed_tokens(void *argument, size_t index) {
    const struct typed_job *job = argument;
    size_t first = fff_share_start(job->batch, job->tasks, index);
    size_t end = fff_share_start(job->batch, job->tasks, index + 1);
    fff_fp_environment callers = fff_fp_enter();
    for (size_t count; first < end; first += count) {
        count = fff_min(end - first, job->block);
        run_typed_block(job, first, count, job->memory + job->slices + index * job->slice);
    }
    fff_fp_leave(callers);
}

fff_status fff_workspace_size_typed(const fff_layer *layer, size_t batch, size_t concurrency,
                                    fff_weight_type input_type, fff_weight_type output_type, size_t *size) {
    if (layer == NULL || size == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    if (!is_float_type(input_type) || !is_float_type(output_type)) {
        return FFF_ERROR_OPTION;
    }
    if (batch == 0 || (input_type == FFF_WEIGHT_F32 && output_type == FFF_WEIGHT_F32)) {
        return fff_workspace_size(layer, batch, concurrency, size);
    }
    struct typed_job job = {.layer = layer, .batch = batch, .input_type = input_type, .output_type = output_type};
    size_t bytes;
    if (!plan(&job, concurrency, &bytes)) {
        return FFF_ERROR_OVERFLOW;
    }
    *size = bytes;
    return FFF_OK;
}

/* Checks what a call is given, of whose workspace it needs so many bytes. */
static fff_status check_matrices(const struct typed_job *job, const void *workspace, size_t workspace_size,
                                 size_t needed) {
    struct fff_rows matrices[3]; /* the workspace and the output are written */
    size_t input_element = fff_element_bytes(job->input_type), output_element = fff_element_bytes(job->output_type);
    fff_status status = fff_check_elements(job->output, output_element, job->batch, job->layer->output_width,
                                           job->output_stride, &matrices[1]);
    if (status == FFF_OK) {
        status = fff_check_elements(job->input, input_element, job->batch, job->layer->input_width, job->input_stride,
                                    &matrices[2]);
    }
    if (status == FFF_OK && workspace != NULL && workspace_size < needed) {
        status = FFF_ERROR_WORKSPACE;
    }
    if (status == FFF_OK) {
        status = fff_check_bytes(workspace, workspace_size, &matrices[0]);
    }
    if (status != FFF_OK) {
        return status;
    }
    return fff_any_overlap(matrices, 2, 3) ? FFF_ERROR_OVERLAP : FFF_OK;
}

fff_status fff_forward_typed(const fff_layer *layer, size_t batch, fff_weight_type input_type, const void *input,
                             size_t input_stride, fff_weight_type output_type, void *output, size_t output_stride,
                             void *workspace, size_t workspace_size, const fff_runner *runner) {
    if (layer == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    if (!is_float_type(input_type) || !is_float_type(output_type)) {
        return FFF_ERROR_OPTION;
    }
    if (batch == 0 || (input_type == FFF_WEIGHT_F32 && output_type == FFF_WEIGHT_F32)) {
        return fff_forward(layer, batch, input, input_stride, output, output_stride, workspace, workspace_size, runner);
    }
    struct typed_job alone = {
        .layer = layer,
        .batch = batch,
        .input_type = input_type,
        .output_type = output_type,
        .input = input,
        .output = output,
        .input_stride = input_stride,
        .output_stride = output_stride,
    };
    bool shared = runner != NULL && runner->concurrency > 1;
    if (shared && runner->run == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    size_t needed;
    if (!plan(&alone, shared ? runner->concurrency : 1, &needed)) {
        return FFF_ERROR_OVERFLOW;
    }
    fff_status status = check_matrices(&alone, workspace, workspace_size, needed);
    if (status != FFF_OK) {
        return status;
    }
    /* Of a single row, a stride means nothing; of more, it is known to fit. */
    alone.input_stride = batch > 1 ? input_stride * fff_element_bytes(input_type) : 0;
    alone.output_stride = batch > 1 ? output_stride * fff_element_bytes(output_type) : 0;
    alone.memory = fff_align_workspace(workspace);
    if (alone.tasks == 1) {
        run_typed_tokens(&alone, 0);
        return FFF_OK;
    }
    struct typed_job *job = (struct typed_job *)(void *)alone.memory;
    const fff_runner callers = *runner; /* the caller's may lie in memory that the job writes */
    *job = alone;
    job->round.count = job->tasks;
    job->round.states = (atomic_uchar *)(void *)(job->memory + job->states);
    return fff_run_round(&job->round, &callers, run_typed_tokens, job) ? FFF_OK : FFF_ERROR_RUNNER;
}
