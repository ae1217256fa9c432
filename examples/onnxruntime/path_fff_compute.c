/* A run of a node. */
#include "path_fff.h"

/* Weights that a task should read at least, in elements, to be worth waking a thread for: some 50 us of work. */
static const size_t TASK_ELEMENTS = (size_t)1 << 19;

/* ---- Work sharing ---------------------------------------------------------------------------- */

typedef struct session_threads {
    const OrtApi *api;
    const OrtKernelContext *context;
} session_threads;

/* An fff_runner's `run`, on the session's intra-op threads. */
static void run_tasks(void *memory, size_t count, void (*task)(void *argument, size_t index), void *argument) {
    const session_threads *threads = memory;
    OrtStatus *status = threads->api->KernelContext_ParallelFor(threads->context, task, count, count, argument);
    if (status == NULL)
        return;
    threads->api->ReleaseStatus(status); /* refused, so nothing has run yet */
    for (size_t i = 0; i < count; i++)
        task(argument, i);
}

/* How many tasks are worth their threads for a batch; bits do not depend on it. */
static size_t count_tasks(const path_fff_kernel *kernel, const fff_layer *layer, size_t batch, size_t widths) {
    size_t per_token = fff_layer_path_length(layer) * widths;
    size_t tokens = per_token < TASK_ELEMENTS ? TASK_ELEMENTS / per_token : 1; /* of a task */
    size_t tasks = batch / tokens;
    return tasks < 1 ? 1 : tasks < kernel->tasks ? tasks : kernel->tasks;
}

/* ---- The run --------------------------------------------------------------------------------- */

/* fff_forward_typed() of contiguous rows, outputs of the inputs' type, with a workspace from `allocator`. */
static OrtStatus *forward_in(const path_fff_kernel *kernel, const fff_layer *layer, OrtAllocator *allocator,
                             const fff_runner *runner, size_t batch, fff_weight_type type, size_t input_width,
                             const void *input, size_t output_width, void *output) {
    size_t size = 0;
    fff_status status = fff_workspace_size_typed(layer, batch, runner->concurrency, type, type, &size);
    if (status != FFF_OK)
        return path_fff_fail_status(kernel, "workspace", status);
    void *workspace = NULL;
    TRY(kernel->api->AllocatorAlloc(allocator, size, &workspace));
    status = fff_forward_typed(layer, batch, type, input, input_width, type, output, output_width, workspace, size,
                               runner->concurrency > 1 ? runner : NULL);
    TRY(kernel->api->AllocatorFree(allocator, workspace));
    return status == FFF_OK ? NULL : path_fff_fail_status(kernel, "forward", status);
}

static OrtStatus *forward(const path_fff_kernel *kernel, OrtKernelContext *context, const fff_layer *layer,
                          size_t input_width, size_t output_width, const OrtValue *x) {
    const OrtApi *api = kernel->api;
    tensor input;
    TRY(path_fff_read_tensor(kernel, x, "X", &input));
    if ((uint64_t)input.dims[input.rank - 1] != input_width)
        return path_fff_fail(kernel, ORT_INVALID_ARGUMENT, "X is %lld wide, where the layer's input width is %zu",
                             (long long)input.dims[input.rank - 1], input_width);
    size_t batch = input.count / input_width;
    input.dims[input.rank - 1] = (int64_t)output_width;
    OrtValue *y = NULL;
    TRY(api->KernelContext_GetOutput(context, 0, input.dims, input.rank, &y));
    void *output = NULL;
    TRY(api->GetTensorMutableData(y, &output));
    if (batch == 0)
        return NULL; /* an empty tensor may have no memory */

    OrtAllocator *allocator = NULL; /* the session's */
    TRY(api->KernelContext_GetAllocator(context, kernel->memory, &allocator));
    session_threads threads = {api, context};
    fff_runner runner = {run_tasks, &threads, count_tasks(kernel, layer, batch, input_width + output_width)};
    OrtStatus *result =
        forward_in(kernel, layer, allocator, &runner, batch, input.type, input_width, input.data, output_width, output);
    api->ReleaseAllocator(allocator);
    return result;
}

OrtStatus *path_fff_compute(void *memory, OrtKernelContext *context) {
    const path_fff_kernel *kernel = memory;
    const OrtApi *api = kernel->api;
    const OrtValue *values[MAX_INPUTS] = {NULL};
    TRY(api->KernelContext_GetInput(context, INPUT_X, &values[INPUT_X]));
    if (kernel->layer != NULL)
        return forward(kernel, context, kernel->layer, kernel->input_width, kernel->output_width, values[INPUT_X]);

    for (size_t i = FIRST_WEIGHT; i < kernel->kind->input_count; i++)
        if (kernel->has[i])
            TRY(api->KernelContext_GetInput(context, i, &values[i]));
    fff_layer *layer = NULL;
    size_t input_width = 0, output_width = 0;
    TRY(path_fff_make(kernel, values, &layer, &input_width, &output_width));
    OrtStatus *status = forward(kernel, context, layer, input_width, output_width, values[INPUT_X]);
    fff_layer_destroy(layer);
    return status;
}
