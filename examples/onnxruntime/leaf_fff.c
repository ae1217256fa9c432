/* fff:LeafFFF: the weights of a leaf layer (arXiv 2308.14711), in the shapes of the fastfeedforward package. */
#include "path_fff.h"

#include <stdio.h>
#include <stdlib.h>

/* The inputs, in order, with 2^depth - 1 nodes and 2^depth leaves of `leaf width` neurons. */
enum {
    NODE_WEIGHTS = FIRST_WEIGHT, /* (nodes, input width), of w1s' type */
    NODE_BIASES,                 /* (nodes, 1) or (nodes), optional */
    W1S,                         /* (leaves, input width, leaf width) */
    B1S,                         /* (leaves, leaf width), optional */
    W2S,                         /* (leaves, leaf width, output width) */
    B2S,                         /* (leaves, output width), optional */
    INPUT_COUNT,
};

static const char *const names[INPUT_COUNT] = {"X", "node_weights", "node_biases", "w1s", "b1s", "w2s", "b2s"};

_Static_assert((int)INPUT_COUNT <= (int)MAX_INPUTS, "a kernel has room for all of them");

/* ---- Shapes ---------------------------------------------------------------------------------- */

typedef struct leaf_sizes {
    size_t nodes, leaves, input, leaf, output; /* numbers, and widths */
} leaf_sizes;

static OrtStatus *check_rank(const path_fff_kernel *kernel, const tensor *tensors, size_t input, size_t rank) {
    if (tensors[input].rank == rank)
        return NULL;
    return path_fff_fail(kernel, ORT_INVALID_ARGUMENT, "%s has %zu dimensions, not %zu", names[input],
                         tensors[input].rank, rank);
}

/* Refuses another number than depth makes in dimension 0. */
static OrtStatus *check_number(const path_fff_kernel *kernel, const tensor *tensors, size_t input, size_t number,
                               const char *of) {
    if ((uint64_t)tensors[input].dims[0] == number)
        return NULL;
    return path_fff_fail(kernel, ORT_INVALID_ARGUMENT, "%s has %lld in dimension 0, where depth %zu makes %zu %s",
                         names[input], (long long)tensors[input].dims[0], kernel->depth, number, of);
}

/* Refuses another width than the one that the shape of `told_by` tells. */
static OrtStatus *check_width(const path_fff_kernel *kernel, const tensor *tensors, size_t input, size_t dimension,
                              size_t width, const char *of, size_t told_by) {
    if ((uint64_t)tensors[input].dims[dimension] == width)
        return NULL;
    return path_fff_fail(kernel, ORT_INVALID_ARGUMENT, "%s has %lld in dimension %zu, where the %s width of %s is %zu",
                         names[input], (long long)tensors[input].dims[dimension], dimension, of, names[told_by], width);
}

/* w1s tells the input width and the leaf width, w2s the output width. */
static OrtStatus *find_sizes(const path_fff_kernel *kernel, const tensor *tensors, leaf_sizes *sizes) {
    TRY(check_rank(kernel, tensors, W1S, 3));
    TRY(check_rank(kernel, tensors, W2S, 3));
    *sizes = (leaf_sizes){
        .nodes = ((size_t)1 << kernel->depth) - 1,
        .leaves = (size_t)1 << kernel->depth,
        .input = (size_t)tensors[W1S].dims[1],
        .leaf = (size_t)tensors[W1S].dims[2],
        .output = (size_t)tensors[W2S].dims[2],
    };
    TRY(check_number(kernel, tensors, W1S, sizes->leaves, "leaves"));
    if (sizes->input == 0 || sizes->leaf == 0) /* a leaf width of 0 would mean another kind of layer */
        return path_fff_fail(kernel, ORT_INVALID_ARGUMENT, "%s has a width of 0", names[W1S]);
    TRY(check_number(kernel, tensors, W2S, sizes->leaves, "leaves"));
    TRY(check_width(kernel, tensors, W2S, 1, sizes->leaf, "leaf", W1S));
    if (sizes->output == 0)
        return path_fff_fail(kernel, ORT_INVALID_ARGUMENT, "%s has a width of 0", names[W2S]);
    return NULL;
}

static OrtStatus *check_nodes(const path_fff_kernel *kernel, const tensor *tensors, const leaf_sizes *sizes) {
    TRY(check_rank(kernel, tensors, NODE_WEIGHTS, 2));
    TRY(check_number(kernel, tensors, NODE_WEIGHTS, sizes->nodes, "nodes"));
    TRY(check_width(kernel, tensors, NODE_WEIGHTS, 1, sizes->input, "input", W1S));
    if (sizes->nodes > 0 && tensors[NODE_WEIGHTS].type != tensors[W1S].type)
        return path_fff_fail(kernel, ORT_INVALID_ARGUMENT, "%s is %s, where %s is %s: they must be of one type",
                             names[NODE_WEIGHTS], fff_weight_type_name(tensors[NODE_WEIGHTS].type), names[W1S],
                             fff_weight_type_name(tensors[W1S].type));
    if (!kernel->has[NODE_BIASES])
        return NULL;
    const tensor *biases = &tensors[NODE_BIASES];
    if (biases->rank > 2 || (biases->rank == 2 && biases->dims[1] != 1))
        return path_fff_fail(kernel, ORT_INVALID_ARGUMENT, "%s is neither (%zu, 1) nor (%zu)", names[NODE_BIASES],
                             sizes->nodes, sizes->nodes);
    return check_number(kernel, tensors, NODE_BIASES, sizes->nodes, "nodes");
}

static OrtStatus *check_leaf_biases(const path_fff_kernel *kernel, const tensor *tensors, const leaf_sizes *sizes) {
    if (kernel->has[B1S]) {
        TRY(check_rank(kernel, tensors, B1S, 2));
        TRY(check_number(kernel, tensors, B1S, sizes->leaves, "leaves"));
        TRY(check_width(kernel, tensors, B1S, 1, sizes->leaf, "leaf", W1S));
    }
    if (kernel->has[B2S]) {
        TRY(check_rank(kernel, tensors, B2S, 2));
        TRY(check_number(kernel, tensors, B2S, sizes->leaves, "leaves"));
        TRY(check_width(kernel, tensors, B2S, 1, sizes->output, "output", W2S));
    }
    return NULL;
}

/* ---- The layer ------------------------------------------------------------------------------- */

/* A refusal to pack; where a weight is the reason, its place in the tensor. */
static OrtStatus *refuse_weights(const path_fff_kernel *kernel, fff_status status, const fff_bad_weight *bad,
                                 size_t leaf_width) {
    char where[120];
    if (status != FFF_ERROR_WEIGHT)
        return path_fff_fail_status(kernel, "weights", status);
    size_t leaf = bad->row / leaf_width, neuron = bad->row % leaf_width;
    if (bad->of_output == 2)
        snprintf(where, sizeof where, "%s[%zu, %zu, %zu]", names[W1S], leaf, bad->column, neuron);
    else if (bad->of_output == 1)
        snprintf(where, sizeof where, "%s[%zu, %zu, %zu]", names[W2S], leaf, neuron, bad->column);
    else
        snprintf(where, sizeof where, "%s[%zu, %zu]", names[NODE_WEIGHTS], bad->row, bad->column);
    return path_fff_fail_status(kernel, where, status);
}

/* Packs weights whose shapes fit; biases[i] are those of input i. */
static OrtStatus *pack(const path_fff_kernel *kernel, const tensor *tensors, const leaf_sizes *sizes,
                       const float *const *biases, fff_layer **layer) {
    fff_bad_weight bad = {0};
    fff_layer_desc desc = path_fff_describe(kernel);
    desc.input_width = sizes->input;
    desc.output_width = sizes->output;
    desc.leaf_width = sizes->leaf;
    desc.weight_type = tensors[W1S].type;
    desc.input_weights = (fff_weights){tensors[NODE_WEIGHTS].data, sizes->input, 1};
    desc.biases = biases[NODE_BIASES];
    desc.leaf_weights = (fff_weights){tensors[W1S].data, 1, sizes->leaf}; /* a neuron is a column of its leaf */
    desc.leaf_stride = sizes->input * sizes->leaf;
    desc.leaf_biases = biases[B1S];
    desc.output_weights = (fff_weights){tensors[W2S].data, sizes->output, 1};
    desc.output_weight_type = (fff_weight_choice)(tensors[W2S].type + 1);
    desc.leaf_output_biases = (fff_weights){biases[B2S], sizes->output, 1};
    desc.bad_weight = &bad;
    fff_status status = fff_layer_create(&desc, layer); /* by FFF_ISA, or the best instruction set */
    return status == FFF_OK ? NULL : refuse_weights(kernel, status, &bad, sizes->leaf);
}

static OrtStatus *make_leaves(const path_fff_kernel *kernel, const OrtValue *const *values, fff_layer **layer,
                              size_t *input_width, size_t *output_width) {
    static const size_t of_biases[] = {NODE_BIASES, B1S, B2S};
    tensor tensors[INPUT_COUNT] = {0};
    leaf_sizes sizes;
    for (size_t i = FIRST_WEIGHT; i < INPUT_COUNT; i++)
        if (kernel->has[i] || !kernel->kind->optional[i])
            TRY(path_fff_read_tensor(kernel, values[i], names[i], &tensors[i]));
    TRY(find_sizes(kernel, tensors, &sizes));
    TRY(check_nodes(kernel, tensors, &sizes));
    TRY(check_leaf_biases(kernel, tensors, &sizes));
    const float *biases[INPUT_COUNT] = {NULL};
    float *owned[INPUT_COUNT] = {NULL};
    OrtStatus *status = NULL;
    for (size_t i = 0; i < sizeof of_biases / sizeof *of_biases && status == NULL; i++) {
        size_t input = of_biases[i];
        status = path_fff_read_biases(kernel, names[input], &tensors[input], &biases[input], &owned[input]);
    }
    if (status == NULL)
        status = pack(kernel, tensors, &sizes, biases, layer);
    for (size_t i = 0; i < INPUT_COUNT; i++)
        free(owned[i]);
    *input_width = sizes.input;
    *output_width = sizes.output;
    return status;
}

const operator_kind path_fff_leaf = {
    .name = "LeafFFF",
    .input_count = INPUT_COUNT,
    .optional = {[NODE_BIASES] = 1, [B1S] = 1, [B2S] = 1},
    .width_input = W2S,
    .width_rank = 3,
    .width_dimension = 2,
    .most_trees = 1,
    .activation = FFF_ACTIVATION_RELU,
    .routing = FFF_ROUTING_GREATER_EQUAL,
    .make = make_leaves,
};
