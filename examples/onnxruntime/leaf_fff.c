/* fff:LeafFFF: the weights of a leaf layer (arXiv 2308.14711), in the shapes of the fastfeedforward package; of several
 * trees, one after the other. */
#include "path_fff.h"

#include <stdio.h>

/* The inputs, in order, with 2^depth - 1 nodes and 2^depth leaves of `leaf width` neurons a tree. */
enum {
    NODE_WEIGHTS = FIRST_WEIGHT, /* (nodes, input width), of w1s' type */
    NODE_BIASES,                 /* (nodes, 1) or (nodes), optional */
    W1S,                         /* (leaves, input width, leaf width) */
    B1S,                         /* (leaves, leaf width), optional */
    W2S,                         /* (leaves, leaf width, output width) */
    B2S,                         /* (leaves, output width); this and what follows is optional */
    THRESHOLDS,                  /* (nodes) */
    FACTOR,                      /* one number */
    NODE_SCALES,                 /* (nodes), of int8 node_weights */
    LEAF_SCALES,                 /* (leaves, leaf width), of int8 w1s */
    OUTPUT_SCALES,               /* (leaves, leaf width), of int8 w2s */
    INPUT_COUNT,
};

_Static_assert((int)INPUT_COUNT <= (int)MAX_INPUTS, "a kernel has room for all of them");

static const char *name_of(size_t input) {
    return path_fff_leaf.inputs[input].name;
}

/* ---- Shapes ---------------------------------------------------------------------------------- */

typedef struct leaf_sizes {
    size_t nodes, leaves, input, leaf, output; /* numbers in all trees, and widths */
} leaf_sizes;

/* Refuses an input that is there, but has another width than the one that the shape of `told_by` tells. */
static OrtStatus *check_width(const path_fff_kernel *kernel, const given_inputs *given, size_t input, size_t dimension,
                              size_t width, const char *of, size_t told_by) {
    const tensor *tensor = &given->tensors[input];
    if (!kernel->has[input] || (uint64_t)tensor->dims[dimension] == width)
        return NULL;
    return path_fff_fail(kernel, ORT_INVALID_ARGUMENT, "%s has %lld in dimension %zu, where the %s width of %s is %zu",
                         name_of(input), (long long)tensor->dims[dimension], dimension, of, name_of(told_by), width);
}

/* w1s tells the input width and the leaf width, w2s the output width. */
static OrtStatus *find_sizes(const path_fff_kernel *kernel, const given_inputs *given, leaf_sizes *sizes) {
    const tensor *first = &given->tensors[W1S], *second = &given->tensors[W2S];
    TRY(path_fff_check_rank(kernel, given, W1S, 3));
    TRY(path_fff_check_rank(kernel, given, W2S, 3));
    *sizes = (leaf_sizes){
        .nodes = kernel->trees * (((size_t)1 << kernel->depth) - 1), /* below 2^32 * 2^30 */
        .leaves = kernel->trees << kernel->depth,
        .input = (size_t)first->dims[1],
        .leaf = (size_t)first->dims[2],
        .output = (size_t)second->dims[2],
    };
    TRY(path_fff_check_number(kernel, given, W1S, 0, sizes->leaves, "leaves"));
    if (sizes->input == 0 || sizes->leaf == 0) /* a leaf width of 0 would mean another kind of layer */
        return path_fff_fail(kernel, ORT_INVALID_ARGUMENT, "%s has a width of 0", name_of(W1S));
    TRY(path_fff_check_number(kernel, given, W2S, 0, sizes->leaves, "leaves"));
    TRY(check_width(kernel, given, W2S, 1, sizes->leaf, "leaf", W1S));
    if (sizes->output == 0)
        return path_fff_fail(kernel, ORT_INVALID_ARGUMENT, "%s has a width of 0", name_of(W2S));
    return NULL;
}

static OrtStatus *check_nodes(const path_fff_kernel *kernel, const given_inputs *given, const leaf_sizes *sizes) {
    const tensor *weights = &given->tensors[NODE_WEIGHTS], *biases = &given->tensors[NODE_BIASES];
    TRY(path_fff_check_rank(kernel, given, NODE_WEIGHTS, 2));
    TRY(path_fff_check_number(kernel, given, NODE_WEIGHTS, 0, sizes->nodes, "nodes"));
    TRY(check_width(kernel, given, NODE_WEIGHTS, 1, sizes->input, "input", W1S));
    if (sizes->nodes > 0 && weights->type != given->tensors[W1S].type)
        return path_fff_fail(kernel, ORT_INVALID_ARGUMENT, "%s is %s, where %s is %s: they must be of one type",
                             name_of(NODE_WEIGHTS), fff_weight_type_name(weights->type), name_of(W1S),
                             fff_weight_type_name(given->tensors[W1S].type));
    if (biases->rank > 2 || (biases->rank == 2 && biases->dims[1] != 1))
        return path_fff_fail(kernel, ORT_INVALID_ARGUMENT, "%s is neither (%zu, 1) nor (%zu)", name_of(NODE_BIASES),
                             sizes->nodes, sizes->nodes);
    TRY(path_fff_check_number(kernel, given, NODE_BIASES, 0, sizes->nodes, "nodes"));
    for (size_t i = 0; i < 2; i++) {
        size_t input = i == 0 ? THRESHOLDS : NODE_SCALES;
        TRY(path_fff_check_rank(kernel, given, input, 1));
        TRY(path_fff_check_number(kernel, given, input, 0, sizes->nodes, "nodes"));
    }
    /* Without nodes, there is nothing to scale. */
    return sizes->nodes == 0 ? NULL : path_fff_check_scales(kernel, given, NODE_WEIGHTS, NODE_SCALES);
}

static OrtStatus *check_leaves(const path_fff_kernel *kernel, const given_inputs *given, const leaf_sizes *sizes) {
    static const size_t one_a_neuron[] = {B1S, LEAF_SCALES, OUTPUT_SCALES};
    for (size_t i = 0; i < sizeof one_a_neuron / sizeof *one_a_neuron; i++) {
        TRY(path_fff_check_rank(kernel, given, one_a_neuron[i], 2));
        TRY(path_fff_check_number(kernel, given, one_a_neuron[i], 0, sizes->leaves, "leaves"));
        TRY(check_width(kernel, given, one_a_neuron[i], 1, sizes->leaf, "leaf", W1S));
    }
    TRY(path_fff_check_rank(kernel, given, B2S, 2));
    TRY(path_fff_check_number(kernel, given, B2S, 0, sizes->leaves, "leaves"));
    TRY(check_width(kernel, given, B2S, 1, sizes->output, "output", W2S));
    TRY(path_fff_check_scales(kernel, given, W1S, LEAF_SCALES));
    TRY(path_fff_check_scales(kernel, given, W2S, OUTPUT_SCALES));
    return path_fff_check_factor(kernel, given, FACTOR);
}

/* ---- The layer ------------------------------------------------------------------------------- */

/* A refusal to pack; where a weight or a scale is the reason, its place in the tensor. */
static OrtStatus *refuse_weights(const path_fff_kernel *kernel, fff_status status, const fff_bad_weight *bad,
                                 size_t leaf_width) {
    static const size_t scales[] = {NODE_SCALES, OUTPUT_SCALES, LEAF_SCALES}; /* by of_output */
    char where[120];
    if (status != FFF_ERROR_WEIGHT && status != FFF_ERROR_SCALE)
        return path_fff_fail_status(kernel, "weights", status);
    size_t leaf = bad->row / leaf_width, neuron = bad->row % leaf_width;
    if (status == FFF_ERROR_SCALE && bad->of_output == 0)
        snprintf(where, sizeof where, "%s[%zu]", name_of(NODE_SCALES), bad->row);
    else if (status == FFF_ERROR_SCALE)
        snprintf(where, sizeof where, "%s[%zu, %zu]", name_of(scales[bad->of_output]), leaf, neuron);
    else if (bad->of_output == 2)
        snprintf(where, sizeof where, "%s[%zu, %zu, %zu]", name_of(W1S), leaf, bad->column, neuron);
    else if (bad->of_output == 1)
        snprintf(where, sizeof where, "%s[%zu, %zu, %zu]", name_of(W2S), leaf, neuron, bad->column);
    else
        snprintf(where, sizeof where, "%s[%zu, %zu]", name_of(NODE_WEIGHTS), bad->row, bad->column);
    return path_fff_fail_status(kernel, where, status);
}

static OrtStatus *make_leaves(const path_fff_kernel *kernel, const given_inputs *given, fff_layer **layer,
                              size_t *input_width, size_t *output_width) {
    leaf_sizes sizes;
    TRY(find_sizes(kernel, given, &sizes));
    TRY(check_nodes(kernel, given, &sizes));
    TRY(check_leaves(kernel, given, &sizes));
    *input_width = sizes.input;
    *output_width = sizes.output;
    const tensor *tensors = given->tensors;
    fff_bad_weight bad = {0};
    fff_layer_desc desc = path_fff_describe(kernel, given, THRESHOLDS, FACTOR);
    desc.input_width = sizes.input;
    desc.output_width = sizes.output;
    desc.leaf_width = sizes.leaf;
    desc.weight_type = tensors[W1S].type;
    desc.input_weights = (fff_weights){tensors[NODE_WEIGHTS].data, sizes.input, 1};
    desc.input_scales = given->floats[NODE_SCALES];
    desc.biases = given->floats[NODE_BIASES];
    desc.leaf_weights = (fff_weights){tensors[W1S].data, 1, sizes.leaf}; /* a neuron is a column of its leaf */
    desc.leaf_stride = sizes.input * sizes.leaf;
    desc.leaf_scales = given->floats[LEAF_SCALES];
    desc.leaf_biases = given->floats[B1S];
    desc.output_weights = (fff_weights){tensors[W2S].data, sizes.output, 1};
    desc.output_weight_type = (fff_weight_choice)(tensors[W2S].type + 1);
    desc.output_scales = given->floats[OUTPUT_SCALES];
    desc.leaf_output_biases = (fff_weights){given->floats[B2S], sizes.output, 1};
    desc.bad_weight = &bad;
    fff_status status = fff_layer_create(&desc, layer); /* by FFF_ISA, or the best instruction set */
    return status == FFF_OK ? NULL : refuse_weights(kernel, status, &bad, sizes.leaf);
}

const operator_kind path_fff_leaf = {
    .name = "LeafFFF",
    .input_count = INPUT_COUNT,
    .inputs = {[INPUT_X] = {"X", 0, AS_GIVEN},
               [NODE_WEIGHTS] = {"node_weights", 0, AS_GIVEN_OR_INT8},
               [NODE_BIASES] = {"node_biases", 1, AS_FLOATS},
               [W1S] = {"w1s", 0, AS_GIVEN_OR_INT8},
               [B1S] = {"b1s", 1, AS_FLOATS},
               [W2S] = {"w2s", 0, AS_GIVEN_OR_INT8},
               [B2S] = {"b2s", 1, AS_FLOATS},
               [THRESHOLDS] = {"thresholds", 1, AS_FLOATS},
               [FACTOR] = {"factor", 1, AS_FLOATS},
               [NODE_SCALES] = {"node_scales", 1, AS_FLOATS},
               [LEAF_SCALES] = {"leaf_scales", 1, AS_FLOATS},
               [OUTPUT_SCALES] = {"output_scales", 1, AS_FLOATS}},
    .width_input = W2S,
    .width_rank = 3,
    .width_dimension = 2,
    .activation = FFF_ACTIVATION_RELU,
    .routing = FFF_ROUTING_GREATER_EQUAL,
    .make = make_leaves,
};
