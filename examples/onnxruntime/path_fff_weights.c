/* The weights of a PathFFF node. */
#include "path_fff.h"

#include <stdio.h>
#include <stdlib.h>

/* The inputs, in order; the last is optional. */
enum {
    INPUT_WEIGHT = FIRST_WEIGHT, /* (rows, input width), rows = trees * (2^(depth+1) - 1): linear_in.weight */
    OUTPUT_WEIGHT,               /* (output width, rows): linear_out.weight */
    BIAS,                        /* (rows): linear_in.bias */
    INPUT_COUNT,
};

static size_t count_rows(const path_fff_kernel *kernel) {
    return kernel->trees * fff_nodes_per_tree(kernel->depth); /* below 2^32 * 2^31 */
}

/* A refusal to pack; where a weight is the reason, its place in the tensor. */
static OrtStatus *refuse_weights(const path_fff_kernel *kernel, fff_status status, const fff_bad_weight *bad) {
    char where[100];
    if (status != FFF_ERROR_WEIGHT)
        return path_fff_fail_status(kernel, "weights", status);
    snprintf(where, sizeof where, "%s[%zu, %zu]", bad->of_output ? "output_weight" : "input_weight",
             bad->of_output ? bad->column : bad->row, bad->of_output ? bad->row : bad->column);
    return path_fff_fail_status(kernel, where, status);
}

/* Refuses a weight that has another rank, or where another number than `rows` stands in its dimension of rows. */
static OrtStatus *check_rows(const path_fff_kernel *kernel, const tensor *weight, const char *what, size_t rank,
                             size_t dimension) {
    size_t rows = count_rows(kernel);
    if (weight->rank != rank)
        return path_fff_fail(kernel, ORT_INVALID_ARGUMENT, "%s has %zu dimensions, not %zu", what, weight->rank, rank);
    if ((uint64_t)weight->dims[dimension] != rows)
        return path_fff_fail(kernel, ORT_INVALID_ARGUMENT,
                             "%s has %lld in dimension %zu, where depth %zu and trees %zu make %zu nodes", what,
                             (long long)weight->dims[dimension], dimension, kernel->depth, kernel->trees, rows);
    return NULL;
}

static OrtStatus *make_path(const path_fff_kernel *kernel, const OrtValue *const *values, fff_layer **layer,
                            size_t *input_width, size_t *output_width) {
    tensor in, out, bias = {0};
    TRY(path_fff_read_tensor(kernel, values[INPUT_WEIGHT], "input_weight", &in));
    TRY(path_fff_read_tensor(kernel, values[OUTPUT_WEIGHT], "output_weight", &out));
    TRY(check_rows(kernel, &in, "input_weight", 2, 0));
    TRY(check_rows(kernel, &out, "output_weight", 2, 1));
    if (values[BIAS] != NULL) {
        TRY(path_fff_read_tensor(kernel, values[BIAS], "bias", &bias));
        TRY(check_rows(kernel, &bias, "bias", 1, 0));
    }
    *input_width = (size_t)in.dims[1];
    *output_width = (size_t)out.dims[0];
    const float *biases;
    float *owned;
    TRY(path_fff_read_biases(kernel, "bias", &bias, &biases, &owned));
    fff_bad_weight bad = {0};
    fff_layer_desc desc = path_fff_describe(kernel);
    desc.input_width = *input_width;
    desc.output_width = *output_width;
    desc.weight_type = in.type;
    desc.input_weights = (fff_weights){in.data, *input_width, 1};
    desc.biases = biases;
    desc.output_weights = (fff_weights){out.data, 1, count_rows(kernel)};
    desc.output_weight_type = (fff_weight_choice)(out.type + 1);
    desc.bad_weight = &bad;
    fff_status status = fff_layer_create(&desc, layer); /* by FFF_ISA, or the best instruction set */
    free(owned);
    return status == FFF_OK ? NULL : refuse_weights(kernel, status, &bad);
}

const operator_kind path_fff_path = {
    .name = "PathFFF",
    .input_count = INPUT_COUNT,
    .optional = {[BIAS] = 1},
    .width_input = OUTPUT_WEIGHT,
    .width_rank = 2,
    .width_dimension = 0,
    .most_trees = UINT32_MAX,
    .activation = FFF_ACTIVATION_GELU,
    .routing = FFF_ROUTING_GREATER,
    .make = make_path,
};
