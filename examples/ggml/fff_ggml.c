/* FFF layers in ggml graphs.
 *
 * ggml calls a custom operator once in each of its threads, with a barrier after the node. Here thread 0 calls
 * fff_forward() with a runner that publishes the tasks of each step, and all other threads take tasks until thread 0
 * says that it is over. So the threads walk down the trees together and fetch every row of weights once, which they
 * would not if each called fff_forward() for a share of the tokens.
 *
 * `open` is the number of tasks that nobody has taken. To take one is to lower it by compare and exchange, and only who
 * has taken a task reads `task` and `argument`: thread 0 writes those two again only when no task is unfinished. A
 * thread that slept through a whole step between its look at `open` and its exchange thus takes a task of the step that
 * is current when it wakes, or none. */
#include "fff_ggml.h"

#include <ggml-backend.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct fff_ggml_layer {
    fff_layer *layer;
    int64_t input_width, output_width;
};

enum { CACHE_LINE = 64 };

struct fff_ggml_operator {
    const fff_ggml_layer *layer;
    enum ggml_type input_type, output_type;
    int64_t max_tokens;
    size_t max_threads;
    void *workspace;
    size_t workspace_size;
    void (*task)(void *argument, size_t index); /* of the step that is open */
    void *argument;
    atomic_int status;                             /* the first failure */
    _Alignas(CACHE_LINE) atomic_size_t open;       /* tasks to take, or OVER */
    _Alignas(CACHE_LINE) atomic_size_t unfinished; /* tasks of this step that have not returned */
    atomic_int left;                               /* threads that are through with this node */
};

static const size_t OVER = SIZE_MAX;

const char *fff_ggml_status_text(int status) {
    switch (status) {
    case FFF_GGML_ERROR_TYPE:
        return "a tensor has a type that is not taken there, or the input is not of the operator's type";
    case FFF_GGML_ERROR_SHAPE: return "the weights' shapes do not fit each other, or the depth and the number of trees";
    case FFF_GGML_ERROR_WIDTH: return "the input's ne0 is not the layer's input width";
    case FFF_GGML_ERROR_STRIDE: return "the elements or blocks of a row are not adjacent, or rows overlap";
    case FFF_GGML_ERROR_DATA: return "a weight tensor has no data, or has it where the CPU cannot read it";
    case FFF_GGML_ERROR_BATCH: return "the input has more tokens than the operator was made for";
    case FFF_GGML_ERROR_COUNT: return "the largest batch or the number of threads is below 1 or too large";
    case FFF_GGML_ERROR_CONTEXT: return "the ggml context has no room for another tensor";
    default: return fff_status_text((fff_status)status);
    }
}

/* ---- Weights --------------------------------------------------------------------------------- */

/* A ggml type as libfff's; false for those that it does not have. */
static bool find_type(enum ggml_type type, fff_weight_type *found) {
    switch (type) {
    case GGML_TYPE_F32: *found = FFF_WEIGHT_F32; return true;
    case GGML_TYPE_F16: *found = FFF_WEIGHT_F16; return true;
    case GGML_TYPE_BF16: *found = FFF_WEIGHT_BF16; return true;
    default: return false;
    }
}

/* Whether a quantised tensor's blocks follow one another along a dimension, and rows along the other. */
static bool blocks_along(const struct ggml_tensor *tensor, int d) {
    return tensor->ne[d] % ggml_blck_size(tensor->type) == 0 && tensor->nb[d] == ggml_type_size(tensor->type) &&
           tensor->nb[1 - d] >= ggml_row_size(tensor->type, tensor->ne[d]);
}

/* Whether a quantised tensor's matrices, of which there may be several, lie one after another. */
static bool matrices_apart(const struct ggml_tensor *tensor) {
    int rows = blocks_along(tensor, 0) ? 1 : 0;
    return tensor->ne[2] == 1 || tensor->nb[2] >= (size_t)tensor->ne[rows] * tensor->nb[rows];
}

/* A tensor of up to `dims` dimensions, 2 or 3. */
static int check_weights(const struct ggml_tensor *tensor, int dims) {
    fff_weight_type type;
    if (tensor == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    bool plain = find_type(tensor->type, &type);
    if (!plain && (!ggml_is_quantized(tensor->type) || ggml_get_type_traits(tensor->type)->to_float == NULL)) {
        return FFF_GGML_ERROR_TYPE;
    }
    if ((dims < 3 && tensor->ne[2] != 1) || tensor->ne[3] != 1) {
        return FFF_GGML_ERROR_SHAPE;
    }
    size_t element = ggml_type_size(tensor->type);
    if (plain ? tensor->nb[0] % element != 0 || tensor->nb[1] % element != 0 || tensor->nb[2] % element != 0
              : blocks_along(tensor, 0) == blocks_along(tensor, 1) || !matrices_apart(tensor)) {
        return FFF_GGML_ERROR_STRIDE;
    }
    bool readable = tensor->buffer == NULL || ggml_backend_buffer_is_host(tensor->buffer);
    return tensor->data != NULL && readable ? FFF_OK : FFF_GGML_ERROR_DATA;
}

/* Weights: element (i, j, k) of the tensor is element i * strides[0] + j * strides[1] + k * strides[2] of the data. */
struct matrix {
    const void *data;
    float *owned; /* to free(), or NULL */
    size_t strides[3];
    fff_weight_type type;
    fff_weight_choice store; /* where the caller leaves it open */
};

/* What libfff knows stays where it is. The rest is dequantised into memory of its own. */
static int read_matrix(const struct ggml_tensor *tensor, struct matrix *matrix) {
    *matrix = (struct matrix){.data = tensor->data};
    if (find_type(tensor->type, &matrix->type)) {
        size_t element = ggml_type_size(tensor->type);
        for (int d = 0; d < 3; d++) {
            matrix->strides[d] = tensor->nb[d] / element;
        }
        return FFF_OK;
    }
    int d = blocks_along(tensor, 0) ? 0 : 1;
    size_t columns = (size_t)tensor->ne[d], rows = (size_t)tensor->ne[1 - d], matrices = (size_t)tensor->ne[2];
    float *values = calloc(rows * matrices, columns * sizeof(float));
    if (values == NULL) {
        return FFF_ERROR_OUT_OF_MEMORY;
    }
    ggml_to_float_t to_float = ggml_get_type_traits(tensor->type)->to_float;
    for (size_t row = 0; row < rows * matrices; row++) {
        size_t offset = row % rows * tensor->nb[1 - d] + row / rows * tensor->nb[2];
        to_float((const char *)tensor->data + offset, values + row * columns, tensor->ne[d]);
    }
    matrix->data = matrix->owned = values;
    matrix->strides[d] = 1;
    matrix->strides[1 - d] = columns;
    matrix->strides[2] = columns * rows;
    matrix->store = FFF_CHOOSE_I8;
    return FFF_OK;
}

/* Biases as libfff takes them: adjacent, float32. */
static int read_biases(const struct ggml_tensor *tensor, struct matrix *biases) {
    int status = read_matrix(tensor, biases);
    if (status != FFF_OK || biases->type == FFF_WEIGHT_F32) {
        return status;
    }
    biases->owned = calloc((size_t)ggml_nelements(tensor), sizeof(float));
    if (biases->owned == NULL) {
        return FFF_ERROR_OUT_OF_MEMORY;
    }
    ggml_get_type_traits(tensor->type)->to_float(tensor->data, biases->owned, ggml_nelements(tensor));
    biases->data = biases->owned;
    return FFF_OK;
}

/* ---- Shapes ---------------------------------------------------------------------------------- */

static bool is_matrix(const struct ggml_tensor *tensor, int64_t ne0, int64_t ne1) {
    return tensor->ne[0] == ne0 && tensor->ne[1] == ne1;
}

/* Biases, or NULL, of a shape; those of F32 are read where they lie, so they must be adjacent. */
static int check_biases(const struct ggml_tensor *tensor, int64_t ne0, int64_t ne1) {
    int status = tensor != NULL ? check_weights(tensor, 2) : FFF_OK;
    if (tensor == NULL || status != FFF_OK) {
        return status;
    }
    if (!is_matrix(tensor, ne0, ne1)) {
        return FFF_GGML_ERROR_SHAPE;
    }
    if (ggml_is_quantized(tensor->type)) {
        return FFF_GGML_ERROR_TYPE;
    }
    return ggml_is_contiguous(tensor) ? FFF_OK : FFF_GGML_ERROR_STRIDE;
}

/* What either kind of part may have, beside `nodes` nodes and an output width. */
static int check_numbers(const fff_ggml_weights *weights, int64_t nodes, int64_t output_width) {
    int status = check_biases(weights->thresholds, nodes, 1);
    return status == FFF_OK ? check_biases(weights->output_bias, output_width, 1) : status;
}

static int check_path(const fff_ggml_weights *weights) {
    const struct ggml_tensor *in = weights->input_weights, *out = weights->output_weights;
    if (weights->leaf_biases != NULL || weights->leaf_output_biases != NULL) {
        return FFF_ERROR_NULL_POINTER; /* leaf_weights are missing */
    }
    int status = check_weights(in, 2);
    if (status == FFF_OK) {
        status = check_weights(out, 2);
    }
    if (status != FFF_OK) {
        return status;
    }
    size_t rows = (size_t)in->ne[1], nodes = fff_nodes_per_tree(weights->depth);
    if (nodes == 0 || weights->trees == 0 || rows % nodes != 0 || rows / nodes != weights->trees ||
        out->ne[0] != in->ne[1]) {
        return FFF_GGML_ERROR_SHAPE;
    }
    status = check_biases(weights->biases, in->ne[1], 1);
    return status == FFF_OK ? check_numbers(weights, in->ne[1], out->ne[1]) : status;
}

/* The nodes of a leaf layer whose leaf weights have been checked. */
static int check_nodes(const fff_ggml_weights *weights) {
    const struct ggml_tensor *in = weights->input_weights, *leaf = weights->leaf_weights;
    int64_t nodes = leaf->ne[2] - (int64_t)weights->trees; /* a leaf less than those of each tree */
    if (nodes == 0) {
        return in == NULL && weights->biases == NULL && weights->thresholds == NULL ? FFF_OK : FFF_GGML_ERROR_SHAPE;
    }
    int status = check_weights(in, 2);
    if (status != FFF_OK) {
        return status;
    }
    if (!is_matrix(in, leaf->ne[1], nodes)) {
        return FFF_GGML_ERROR_SHAPE;
    }
    if (in->type != leaf->type && !(ggml_is_quantized(in->type) && ggml_is_quantized(leaf->type))) {
        return FFF_GGML_ERROR_TYPE;
    }
    bool column = weights->biases != NULL && weights->biases->ne[0] == 1;
    return check_biases(weights->biases, column ? 1 : nodes, column ? nodes : 1);
}

static int check_leaves(const fff_ggml_weights *weights) {
    const struct ggml_tensor *leaf = weights->leaf_weights, *out = weights->output_weights;
    int status = check_weights(leaf, 3);
    if (status == FFF_OK) {
        status = check_weights(out, 3);
    }
    if (status != FFF_OK) {
        return status;
    }
    size_t leaves = weights->depth <= FFF_MAX_DEPTH ? (size_t)1 << weights->depth : 0, all = (size_t)leaf->ne[2];
    if (leaves == 0 || weights->trees == 0 || all % leaves != 0 || all / leaves != weights->trees || leaf->ne[0] == 0 ||
        out->ne[1] != leaf->ne[0] || out->ne[2] != leaf->ne[2]) {
        return FFF_GGML_ERROR_SHAPE;
    }
    status = check_nodes(weights);
    if (status == FFF_OK) {
        status = check_numbers(weights, leaf->ne[2] - (int64_t)weights->trees, out->ne[0]);
    }
    if (status == FFF_OK) {
        status = check_biases(weights->leaf_biases, leaf->ne[0], leaf->ne[2]);
    }
    return status == FFF_OK ? check_biases(weights->leaf_output_biases, out->ne[0], out->ne[2]) : status;
}

/* ---- The layer ------------------------------------------------------------------------------- */

/* A part's tensors as they are handed over; zeros for those that there are not. */
struct given {
    struct matrix in, biases, out, leaf, leaf_biases, leaf_output_biases, thresholds, output_bias;
};

static int read_part(const fff_ggml_weights *weights, struct given *given) {
    const struct {
        const struct ggml_tensor *from;
        struct matrix *to;
        int (*read)(const struct ggml_tensor *tensor, struct matrix *matrix);
    } all[] = {
        {weights->input_weights, &given->in, read_matrix},
        {weights->output_weights, &given->out, read_matrix},
        {weights->leaf_weights, &given->leaf, read_matrix},
        {weights->biases, &given->biases, read_biases},
        {weights->leaf_biases, &given->leaf_biases, read_biases},
        {weights->leaf_output_biases, &given->leaf_output_biases, read_biases},
        {weights->thresholds, &given->thresholds, read_biases},
        {weights->output_bias, &given->output_bias, read_biases},
    };
    int status = FFF_OK;
    for (size_t i = 0; i < sizeof all / sizeof *all && status == FFF_OK; i++) {
        status = all[i].from != NULL ? all[i].read(all[i].from, all[i].to) : FFF_OK;
    }
    return status;
}

static void free_part(struct given *given) {
    free(given->in.owned);
    free(given->biases.owned);
    free(given->out.owned);
    free(given->leaf.owned);
    free(given->leaf_biases.owned);
    free(given->leaf_output_biases.owned);
    free(given->thresholds.owned);
    free(given->output_bias.owned);
}

static fff_layer_desc describe(const fff_ggml_weights *weights, const struct given *given) {
    const struct matrix *in = &given->in, *out = &given->out;
    const struct matrix *first = weights->leaf_weights != NULL ? &given->leaf : in; /* there is always one */
    return (fff_layer_desc){
        .struct_size = sizeof(fff_layer_desc),
        .depth = weights->depth,
        .trees = weights->trees,
        .activation = weights->activation,
        .routing = weights->routing,
        .weight_type = first->type,
        .isa = weights->isa,
        .input_weights = {in->data, in->strides[1], in->strides[0]}, /* a node is a row of this tensor ... */
        .biases = given->biases.data,
        .output_weights = {out->data, out->strides[0], out->strides[1]}, /* ... and a column of that one */
        .output_weight_type = (fff_weight_choice)(out->type + 1),
        .store_input = weights->store_input != FFF_CHOOSE_DEFAULT ? weights->store_input : first->store,
        .store_output = weights->store_output != FFF_CHOOSE_DEFAULT ? weights->store_output : out->store,
        .routes = weights->routes,
        .bad_weight = weights->bad_weight,
        .thresholds = given->thresholds.data,
        .factor = weights->factor,
        .output_bias = given->output_bias.data,
    };
}

/* Adds what a leaf layer has more, or otherwise: a neuron is a column of its leaf of w1s, and a row of that of w2s. */
static int describe_leaves(const fff_ggml_weights *weights, const struct given *given, fff_layer_desc *desc) {
    const struct matrix *leaf = &given->leaf, *out = &given->out;
    size_t width = (size_t)weights->leaf_weights->ne[0], leaves = (size_t)weights->leaf_weights->ne[2];
    /* From a neuron to the next. */
    size_t stride = width == 1 ? out->strides[2] : out->strides[1];
    if (leaves > 1 && (out->strides[2] != width * stride || leaf->strides[2] == 0)) { /* 0: one for all */
        return FFF_GGML_ERROR_STRIDE;
    }
    desc->leaf_width = width;
    desc->leaf_weights = (fff_weights){leaf->data, leaf->strides[0], leaf->strides[1]};
    desc->leaf_stride = leaf->strides[2];
    desc->leaf_biases = given->leaf_biases.data;
    desc->output_weights = (fff_weights){out->data, stride, out->strides[0]};
    desc->leaf_output_biases = (fff_weights){given->leaf_output_biases.data, desc->output_width, 1};
    return FFF_OK;
}

static int64_t input_width_of(const fff_ggml_weights *weights) {
    return weights->leaf_weights != NULL ? weights->leaf_weights->ne[1] : weights->input_weights->ne[0];
}

static int64_t output_width_of(const fff_ggml_weights *weights) {
    return weights->output_weights->ne[weights->leaf_weights != NULL ? 0 : 1];
}

/* Describes a checked part, which `given` gets the tensors of. */
static int read_and_describe(const fff_ggml_weights *weights, struct given *given, fff_layer_desc *desc) {
    int status = read_part(weights, given);
    if (status != FFF_OK) {
        return status;
    }
    *desc = describe(weights, given);
    desc->input_width = (size_t)input_width_of(weights);
    desc->output_width = (size_t)output_width_of(weights);
    return weights->leaf_weights != NULL ? describe_leaves(weights, given, desc) : FFF_OK;
}

/* A part's tensors and description. */
struct part {
    struct given given;
    fff_layer_desc desc;
};

static int create(const fff_ggml_weights *weights, struct part *parts, size_t count, fff_layer **layer) {
    for (size_t i = 0; i < count; i++, weights = weights->next) {
        int status = read_and_describe(weights, &parts[i].given, &parts[i].desc);
        if (status != FFF_OK) {
            return status;
        }
        parts[i].desc.next = i + 1 < count ? &parts[i + 1].desc : NULL;
    }
    return (int)fff_layer_create(&parts[0].desc, layer);
}

/* Checks all parts, and counts them. */
static int check_parts(const fff_ggml_weights *weights, size_t *count) {
    int status = FFF_OK;
    for (*count = 0; weights != NULL && status == FFF_OK; weights = weights->next, ++*count) {
        if (*count == FFF_MAX_PARTS) { /* or the last one is followed by the first */
            return FFF_ERROR_PARTS;
        }
        status = weights->leaf_weights != NULL ? check_leaves(weights) : check_path(weights);
    }
    return status;
}

int fff_ggml_layer_create(const fff_ggml_weights *weights, fff_ggml_layer **layer) {
    if (weights == NULL || layer == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    size_t count;
    int status = check_parts(weights, &count);
    if (status != FFF_OK) {
        return status;
    }
    struct part *parts = calloc(count, sizeof *parts);
    fff_ggml_layer *made = calloc(1, sizeof *made);
    status = FFF_ERROR_OUT_OF_MEMORY;
    if (parts != NULL && made != NULL) {
        made->input_width = input_width_of(weights);
        made->output_width = output_width_of(weights);
        status = create(weights, parts, count, &made->layer);
    }
    for (size_t i = 0; i < count && parts != NULL; i++) {
        free_part(&parts[i].given);
    }
    free(parts);
    if (status != FFF_OK) {
        free(made);
        return status;
    }
    *layer = made;
    return FFF_OK;
}

void fff_ggml_layer_destroy(fff_ggml_layer *layer) {
    if (layer != NULL) {
        fff_layer_destroy(layer->layer);
        free(layer);
    }
}

const fff_layer *fff_ggml_layer_behind(const fff_ggml_layer *layer) {
    return layer == NULL ? NULL : layer->layer;
}

/* ---- The operator ---------------------------------------------------------------------------- */

int fff_ggml_operator_create(const fff_ggml_layer *layer, int64_t max_tokens, int max_threads, fff_ggml_operator **op) {
    return fff_ggml_operator_create_typed(layer, max_tokens, max_threads, GGML_TYPE_F32, GGML_TYPE_F32, op);
}

int fff_ggml_operator_create_typed(const fff_ggml_layer *layer, int64_t max_tokens, int max_threads,
                                   enum ggml_type input_type, enum ggml_type output_type, fff_ggml_operator **op) {
    if (layer == NULL || op == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    if (max_tokens < 1 || max_threads < 1 || max_threads > GGML_MAX_N_THREADS) {
        return FFF_GGML_ERROR_COUNT;
    }
    fff_weight_type from, to;
    if (!find_type(input_type, &from) || !find_type(output_type, &to)) {
        return FFF_GGML_ERROR_TYPE;
    }
    size_t size = 0;
    int status = (int)fff_workspace_size_typed(layer->layer, (size_t)max_tokens, (size_t)max_threads, from, to, &size);
    if (status != FFF_OK) {
        return status;
    }
    fff_ggml_operator *made = aligned_alloc(CACHE_LINE, sizeof *made);
    void *workspace = malloc(size);
    if (made == NULL || workspace == NULL) {
        free(made);
        free(workspace);
        return FFF_ERROR_OUT_OF_MEMORY;
    }
    *made = (fff_ggml_operator){
        .layer = layer,
        .input_type = input_type,
        .output_type = output_type,
        .max_tokens = max_tokens,
        .max_threads = (size_t)max_threads,
        .workspace = workspace,
        .workspace_size = size,
    };
    *op = made;
    return FFF_OK;
}

void fff_ggml_operator_destroy(fff_ggml_operator *op) {
    if (op != NULL) {
        free(op->workspace);
        free(op);
    }
}

int fff_ggml_operator_status(fff_ggml_operator *op) {
    return op == NULL ? FFF_ERROR_NULL_POINTER : atomic_exchange(&op->status, FFF_OK);
}

/* ---- What ggml's threads do ------------------------------------------------------------------ */

/* Waits a moment, as ggml's barriers do; who has waited for long lets others have the core, should there be more
 * threads than cores. */
static void wait_a_moment(unsigned *waits) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
    if (++*waits % 4096 == 0) {
        (void)sched_yield();
    }
}

/* Takes one of the `open` tasks and does it; false if another thread was faster. */
static bool do_task(fff_ggml_operator *op, size_t open) {
    if (!atomic_compare_exchange_weak_explicit(&op->open, &open, open - 1, memory_order_acquire,
                                               memory_order_relaxed)) {
        return false;
    }
    op->task(op->argument, open - 1);
    atomic_fetch_sub_explicit(&op->unfinished, 1, memory_order_release);
    return true;
}

/* The runner's run(), in thread 0. */
static void run(void *context, size_t count, void (*task)(void *argument, size_t index), void *argument) {
    fff_ggml_operator *op = context;
    op->task = task;
    op->argument = argument;
    atomic_store_explicit(&op->unfinished, count, memory_order_relaxed);
    atomic_store_explicit(&op->open, count, memory_order_release);
    for (size_t open; (open = atomic_load_explicit(&op->open, memory_order_relaxed)) > 0;) {
        do_task(op, open);
    }
    for (unsigned waits = 0; atomic_load_explicit(&op->unfinished, memory_order_acquire) > 0;) {
        wait_a_moment(&waits);
    }
}

/* In all other threads. */
static void help(fff_ggml_operator *op) {
    unsigned waits = 0;
    for (size_t open; (open = atomic_load_explicit(&op->open, memory_order_relaxed)) != OVER;) {
        if (open == 0 || !do_task(op, open)) {
            wait_a_moment(&waits);
        }
    }
}

/* The rows of a tensor as three nested loops, the innermost first and as long as the strides allow. */
struct rows {
    size_t count[3], stride[3]; /* in bytes */
};

static struct rows rows_of(const struct ggml_tensor *tensor) {
    struct rows rows = {{1, 1, 1}, {ggml_row_size(tensor->type, tensor->ne[0]), 0, 0}};
    for (int d = 1, loops = 0; d < GGML_MAX_DIMS; d++) {
        size_t count = (size_t)tensor->ne[d];
        if (count == 1) {
            continue;
        }
        if (loops > 0 && tensor->nb[d] == rows.count[loops - 1] * rows.stride[loops - 1]) {
            rows.count[loops - 1] *= count;
        } else {
            rows.count[loops] = count;
            rows.stride[loops++] = tensor->nb[d];
        }
    }
    return rows;
}

static int forward(fff_ggml_operator *op, const struct ggml_tensor *input, struct ggml_tensor *output, size_t threads) {
    const fff_runner runner = {run, op, threads < op->max_threads ? threads : op->max_threads};
    fff_weight_type from, to;
    if (input->type != op->input_type || output->type != op->output_type || !find_type(input->type, &from) ||
        !find_type(output->type, &to)) {
        return FFF_GGML_ERROR_TYPE;
    }
    const struct rows rows = rows_of(input);
    size_t output_width = (size_t)op->layer->output_width, element = ggml_type_size(input->type);
    char *y = output->data;
    int status = FFF_OK;
    for (size_t k = 0; k < rows.count[2]; k++) {
        for (size_t j = 0; j < rows.count[1] && status == FFF_OK; j++) {
            const void *x = (const char *)input->data + j * rows.stride[1] + k * rows.stride[2];
            status = (int)fff_forward_typed(op->layer->layer, rows.count[0], from, x, rows.stride[0] / element, to, y,
                                            output_width, op->workspace, op->workspace_size, &runner);
            y += rows.count[0] * output->nb[1];
        }
    }
    return status;
}

/* Thread 0's part: the node. */
static void forward_or_fail(fff_ggml_operator *op, struct ggml_tensor *output, int threads) {
    int status = forward(op, output->src[0], output, (size_t)threads), none = FFF_OK;
    if (status != FFF_OK) {
        atomic_compare_exchange_strong(&op->status, &none, status);
        memset(output->data, 0xff, ggml_nbytes(output)); /* NaN, in each of the types */
    }
}

static void compute(struct ggml_tensor *output, int thread, int threads, void *userdata) {
    fff_ggml_operator *op = userdata;
    if (thread == 0) {
        forward_or_fail(op, output, threads);
    } else {
        help(op);
    }
    if (threads == 1) { /* nobody to tell */
        return;
    }
    if (thread == 0) {
        atomic_store_explicit(&op->open, OVER, memory_order_relaxed);
    }
    /* The last one to leave makes ready for the next node. ggml's barrier lies between. */
    if (atomic_fetch_add_explicit(&op->left, 1, memory_order_acq_rel) == threads - 1) {
        atomic_store_explicit(&op->left, 0, memory_order_relaxed);
        atomic_store_explicit(&op->open, 0, memory_order_relaxed);
    }
}

/* ---- The graph ------------------------------------------------------------------------------- */

/* Whether the context has room for a tensor with that many bytes of data. */
static bool has_room(struct ggml_context *ctx, size_t bytes) {
    size_t needed = ggml_tensor_overhead() + GGML_MEM_ALIGN + (ggml_get_no_alloc(ctx) ? 0 : bytes);
    return needed <= ggml_get_mem_size(ctx) && ggml_used_mem(ctx) <= ggml_get_mem_size(ctx) - needed;
}

int fff_ggml_forward(struct ggml_context *ctx, fff_ggml_operator *op, struct ggml_tensor *x, struct ggml_tensor **y) {
    if (ctx == NULL || op == NULL || x == NULL || y == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    if (x->type != op->input_type) {
        return FFF_GGML_ERROR_TYPE;
    }
    if (x->ne[0] != op->layer->input_width) {
        return FFF_GGML_ERROR_WIDTH;
    }
    if (ggml_nrows(x) > op->max_tokens) {
        return FFF_GGML_ERROR_BATCH;
    }
    const struct rows rows = rows_of(x);
    size_t element = ggml_type_size(x->type);
    bool aligned = true;
    for (int d = 0; d < 3; d++) {
        aligned = aligned && rows.stride[d] % element == 0;
    }
    if (x->nb[0] != element || !aligned || rows.stride[0] < x->ne[0] * element) {
        return FFF_GGML_ERROR_STRIDE;
    }
    size_t bytes;
    if (__builtin_mul_overflow((size_t)ggml_nrows(x), ggml_row_size(op->output_type, op->layer->output_width),
                               &bytes) ||
        bytes > PTRDIFF_MAX) {
        return FFF_ERROR_OVERFLOW;
    }
    if (!has_room(ctx, bytes)) {
        return FFF_GGML_ERROR_CONTEXT;
    }
    *y = ggml_custom_4d(ctx, op->output_type, op->layer->output_width, x->ne[1], x->ne[2], x->ne[3], &x, 1, compute,
                        GGML_N_TASKS_MAX, op);
    ggml_set_name(*y, "fff");
    return FFF_OK;
}
