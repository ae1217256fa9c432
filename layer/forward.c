/* Forward, route and accumulate: check the arguments, split the batch into tasks, and each task's
 * tokens into blocks that fit its slice of the workspace. */
#include "dispatch/fp_environment.h"
#include "layer/layer.h"
#include "layer/route.h"
#include "layer/size.h"

enum {
    CACHE_LINE = 64,
    /* A block's inputs, nodes and logits stay in L2 while its tokens walk down level by level. At 768 wide
     * these are 257 tokens; 1024 took 20 % longer, and 64 took 7 %. */
    BLOCK_BYTES = 800 << 10,
    BLOCK_TOKENS = 1024,
};

/* ---- The workspace --------------------------------------------------------------------------- */

/* How a batch is cut, and what lies where in a task's slice of the workspace (byte offsets). */
struct plan {
    size_t tasks, block; /* tasks at most; tokens a block */
    size_t logits_offset, order_offset, scratch_offset;
    size_t slice; /* bytes a task */
};

/* path_length is at most 2^32, so nothing here overflows but the sum over tasks. */
static struct plan make_plan(const fff_layer *layer, size_t batch, size_t concurrency) {
    struct plan plan;
    plan.tasks = concurrency < 1 ? 1 : concurrency;
    if (plan.tasks > batch) {
        plan.tasks = batch;
    }
    size_t own_bytes = layer->path_length * (sizeof(uint32_t) + sizeof(float)) + 2 * sizeof(uint32_t);
    plan.block = BLOCK_BYTES / (own_bytes + layer->trees.input_width * sizeof(float));
    if (plan.block > BLOCK_TOKENS) {
        plan.block = BLOCK_TOKENS;
    }
    if (plan.block > batch) {
        plan.block = batch;
    }
    if (plan.block < 1) {
        plan.block = 1;
    }
    plan.logits_offset = plan.block * layer->path_length * sizeof(uint32_t);
    plan.order_offset = plan.logits_offset + plan.block * layer->path_length * sizeof(float);
    plan.scratch_offset = plan.order_offset + plan.block * sizeof(uint32_t);
    size_t used = plan.scratch_offset + plan.block * sizeof(uint32_t);
    plan.slice = (used + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    return plan;
}

/* The whole workspace, with room to align its start. */
static bool plan_size(const struct plan *plan, size_t *size) {
    return fff_size_multiply(plan->tasks, plan->slice, size) && fff_size_add(*size, CACHE_LINE - 1, size);
}

fff_status fff_workspace_size(const fff_layer *layer, size_t batch, size_t concurrency, size_t *size) {
    if (layer == NULL || size == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    struct plan plan = make_plan(layer, batch, concurrency);
    size_t bytes;
    if (!plan_size(&plan, &bytes)) {
        return FFF_ERROR_OVERFLOW;
    }
    *size = batch == 0 ? 0 : bytes;
    return FFF_OK;
}

/* ---- One call's work ------------------------------------------------------------------------- */

/* What a call is to do. A whole forward has nodes and logits only in the workspace: its `nodes` and
 * `logits` are NULL. Routing has no output, accumulation no input. */
struct job {
    const fff_layer *layer;
    struct plan plan;
    unsigned char *workspace; /* aligned */
    size_t batch;
    const float *input;
    size_t input_stride;
    uint32_t *routed_nodes; /* fff_route's results */
    float *routed_logits;
    const uint32_t *nodes; /* fff_accumulate's arguments */
    const float *logits;
    size_t node_stride, logit_stride;
    float *output;
    size_t output_stride;
};

/* `activations` has room for the path lengths of all `count` tokens. */
static void accumulate_block(const fff_layer *layer, size_t count, const uint32_t *nodes, size_t node_stride,
                             const float *logits, size_t logit_stride, float *activations, float *output,
                             size_t output_stride) {
    size_t path_length = layer->path_length;
    if (logit_stride == path_length) {
        layer->kernels->activate_f32(layer->activation, count * path_length, logits, activations);
    } else {
        for (size_t t = 0; t < count; t++) {
            layer->kernels->activate_f32(layer->activation, path_length, logits + t * logit_stride,
                                         activations + t * path_length);
        }
    }
    for (size_t t = 0; t < count; t++) {
        layer->kernels->accumulate_f32(&layer->trees, nodes + t * node_stride, activations + t * path_length,
                                       output + t * output_stride);
    }
}

/* Tokens first to first + count - 1 of a job, count at most the plan's block. */
static void run_block(const struct job *job, unsigned char *slice, size_t first, size_t count) {
    const fff_layer *layer = job->layer;
    uint32_t *own_nodes = (uint32_t *)(void *)slice;
    float *own_logits = (float *)(void *)(slice + job->plan.logits_offset);
    uint32_t *order = (uint32_t *)(void *)(slice + job->plan.order_offset);
    uint32_t *scratch = (uint32_t *)(void *)(slice + job->plan.scratch_offset);

    if (job->nodes != NULL) {
        accumulate_block(layer, count, job->nodes + first * job->node_stride, job->node_stride,
                         job->logits + first * job->logit_stride, job->logit_stride, own_logits,
                         job->output + first * job->output_stride, job->output_stride);
    } else if (job->routed_nodes != NULL) {
        fff_route_block(layer, count, job->input + first * job->input_stride, job->input_stride, false,
                        job->routed_nodes + first * job->node_stride, job->node_stride,
                        job->routed_logits + first * job->logit_stride, job->logit_stride, order, scratch);
    } else {
        fff_route_block(layer, count, job->input + first * job->input_stride, job->input_stride, true, own_nodes,
                        layer->path_length, own_logits, layer->path_length, order, scratch);
        accumulate_block(layer, count, own_nodes, layer->path_length, own_logits, layer->path_length, own_logits,
                         job->output + first * job->output_stride, job->output_stride);
    }
}

/* Task `index`: its even share of the tokens, block by block. Every token costs the same, whatever
 * its route, so even shares are balanced. */
static void run_task(void *argument, size_t index) {
    const struct job *job = argument;
    size_t tasks = job->plan.tasks;
    size_t share = job->batch / tasks, extra = job->batch % tasks;
    size_t first = index * share + (index < extra ? index : extra);
    size_t end = first + share + (index < extra ? 1 : 0);
    unsigned char *slice = job->workspace + index * job->plan.slice;

    fff_fp_environment callers = fff_fp_enter();
    while (first < end) {
        size_t count = end - first < job->plan.block ? end - first : job->plan.block;
        run_block(job, slice, first, count);
        first += count;
    }
    fff_fp_leave(callers);
}

static fff_status run_job(struct job *job, void *workspace, size_t workspace_size, const fff_runner *runner) {
    bool shared = runner != NULL && runner->concurrency > 1;
    if (shared && runner->run == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    job->plan = make_plan(job->layer, job->batch, shared ? runner->concurrency : 1);
    size_t needed;
    if (!plan_size(&job->plan, &needed)) {
        return FFF_ERROR_OVERFLOW;
    }
    if (workspace == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    if (workspace_size < needed) {
        return FFF_ERROR_WORKSPACE;
    }
    size_t misaligned = (uintptr_t)workspace % CACHE_LINE;
    job->workspace = (unsigned char *)workspace + (misaligned == 0 ? 0 : CACHE_LINE - misaligned);
    if (job->plan.tasks == 1) {
        run_task(job, 0);
    } else {
        runner->run(runner->context, job->plan.tasks, run_task, job);
    }
    return FFF_OK;
}

/* ---- Checks ---------------------------------------------------------------------------------- */

/* A matrix of 4-byte elements in the caller's memory. */
struct block_of_rows {
    uintptr_t start;
    size_t rows, columns, stride; /* in elements */
    size_t bytes;                 /* from the first to past the last element */
};

static fff_status check_rows(const void *data, size_t rows, size_t columns, size_t stride,
                             struct block_of_rows *checked) {
    if (data == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    if ((uintptr_t)data % sizeof(float) != 0) {
        return FFF_ERROR_ALIGNMENT;
    }
    if (stride < columns) {
        return FFF_ERROR_STRIDE;
    }
    size_t unused;
    *checked = (struct block_of_rows){.start = (uintptr_t)data, .rows = rows, .columns = columns, .stride = stride};
    if (!fff_size_extent(rows, stride, columns, 1, sizeof(float), &checked->bytes) ||
        !fff_size_add(checked->start, checked->bytes, &unused)) {
        return FFF_ERROR_OVERFLOW;
    }
    return FFF_OK;
}

/* Whether two matrices share memory. Rows of equal stride may interleave: then it is the offset
 * within the stride that tells. */
static bool rows_overlap(const struct block_of_rows *a, const struct block_of_rows *b) {
    if (a->start > b->start) {
        const struct block_of_rows *swapped = a;
        a = b;
        b = swapped;
    }
    size_t distance = b->start - a->start;
    if (distance >= a->bytes) {
        return false;
    }
    if (a->stride != b->stride) {
        return true;
    }
    size_t offset = distance / sizeof(float) % a->stride;
    return offset < a->columns || offset + b->columns > a->stride;
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
    struct block_of_rows in, out;
    fff_status status = check_rows(input, batch, layer->trees.input_width, input_stride, &in);
    if (status == FFF_OK) {
        status = check_rows(output, batch, layer->trees.output_width, output_stride, &out);
    }
    if (status != FFF_OK) {
        return status;
    }
    if (rows_overlap(&in, &out)) {
        return FFF_ERROR_OVERLAP;
    }
    struct job job = {
        .layer = layer,
        .batch = batch,
        .input = input,
        .input_stride = input_stride,
        .output = output,
        .output_stride = output_stride,
    };
    return run_job(&job, workspace, workspace_size, runner);
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
    struct block_of_rows in, node_rows, logit_rows;
    fff_status status = check_rows(input, batch, layer->trees.input_width, input_stride, &in);
    if (status == FFF_OK) {
        status = check_rows(nodes, batch, layer->path_length, node_stride, &node_rows);
    }
    if (status == FFF_OK) {
        status = check_rows(logits, batch, layer->path_length, logit_stride, &logit_rows);
    }
    if (status != FFF_OK) {
        return status;
    }
    if (rows_overlap(&in, &node_rows) || rows_overlap(&in, &logit_rows) || rows_overlap(&node_rows, &logit_rows)) {
        return FFF_ERROR_OVERLAP;
    }
    struct job job = {
        .layer = layer,
        .batch = batch,
        .input = input,
        .input_stride = input_stride,
        .routed_nodes = nodes,
        .node_stride = node_stride,
        .routed_logits = logits,
        .logit_stride = logit_stride,
    };
    return run_job(&job, workspace, workspace_size, runner);
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
    struct block_of_rows node_rows, logit_rows, out;
    fff_status status = check_rows(nodes, batch, layer->path_length, node_stride, &node_rows);
    if (status == FFF_OK) {
        status = check_rows(logits, batch, layer->path_length, logit_stride, &logit_rows);
    }
    if (status == FFF_OK) {
        status = check_rows(output, batch, layer->trees.output_width, output_stride, &out);
    }
    if (status != FFF_OK) {
        return status;
    }
    if (rows_overlap(&node_rows, &out) || rows_overlap(&logit_rows, &out)) {
        return FFF_ERROR_OVERLAP;
    }
    for (size_t t = 0; t < batch; t++) {
        for (size_t e = 0; e < layer->path_length; e++) {
            if (nodes[t * node_stride + e] >= layer->trees.nodes) {
                return FFF_ERROR_NODE;
            }
        }
    }
    struct job job = {
        .layer = layer,
        .batch = batch,
        .nodes = nodes,
        .node_stride = node_stride,
        .logits = logits,
        .logit_stride = logit_stride,
        .output = output,
        .output_stride = output_stride,
    };
    return run_job(&job, workspace, workspace_size, runner);
}
