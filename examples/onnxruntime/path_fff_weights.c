/* The weights of a PathFFF node. */
#include "path_fff.h"

#include <stdio.h>

/* The inputs, in order, with rows = trees * (2^(depth+1) - 1). */
enum {
    INPUT_WEIGHT = FIRST_WEIGHT, /* (rows, input width): linear_in.weight */
    OUTPUT_WEIGHT,               /* (output width, rows): linear_out.weight */
    BIAS,                        /* (rows): linear_in.bias; this and what follows is optional */
    THRESHOLDS,                  /* (rows) */
    FACTOR,                      /* one number */
    INPUT_SCALES,                /* (rows), of int8 input_weight */
    OUTPUT_SCALES,               /* (rows), of int8 output_weight */
    INPUT_COUNT,
};

_Static_assert((int)INPUT_COUNT <= (int)MAX_INPUTS, "a kernel has room for all of them");

static size_t count_rows(const path_fff_kernel *kernel) {
    return kernel->trees * fff_nodes_per_tree(kernel->depth); /* below 2^32 * 2^31 */
}

/* A refusal to pack; where a weight or a scale is the reason, its place in the tensor. */
static OrtStatus *refuse_weights(const path_fff_kernel *kernel, fff_status status, const fff_bad_weight *bad) {
    char where[100];
    if (status == FFF_ERROR_SCALE)
        snprintf(where, sizeof where, "%s[%zu]", bad->of_output ? "output_scales" : "input_scales", bad->row);
    else if (status == FFF_ERROR_WEIGHT)
        snprintf(where, sizeof where, "%s[%zu, %zu]", bad->of_output ? "output_weight" : "input_weight",
                 bad->of_output ? bad->column : bad->row, bad->of_output ? bad->row : bad->column);
    else
        snprintf(where, sizeof where, "weights");
    return path_fff_fail_status(kernel, where, status);
}

static OrtStatus *check(const path_fff_kernel *kernel, const given_inputs *given) {
    static const size_t one_a_row[] = {BIAS, THRESHOLDS, INPUT_SCALES, OUTPUT_SCALES};
    size_t rows = count_rows(kernel);
    TRY(path_fff_check_rank(kernel, given, INPUT_WEIGHT, 2));
    TRY(path_fff_check_number(kernel, given, INPUT_WEIGHT, 0, rows, "nodes"));
    TRY(path_fff_check_rank(kernel, given, OUTPUT_WEIGHT, 2));
    TRY(path_fff_check_number(kernel, given, OUTPUT_WEIGHT, 1, rows, "nodes"));
    for (size_t i = 0; i < sizeof one_a_row / sizeof *one_a_row; i++) {
        TRY(path_fff_check_rank(kernel, given, one_a_row[i], 1));
        TRY(path_fff_check_number(kernel, given, one_a_row[i], 0, rows, "nodes"));
    }
    TRY(path_fff_check_factor(kernel, given, FACTOR));
    TRY(path_fff_check_scales(kernel, given, INPUT_WEIGHT, INPUT_SCALES));
    return path_fff_check_scales(kernel, given, OUTPUT_WEIGHT, OUTPUT_SCALES);
}

static OrtStatus *make_path(const path_fff_kernel *kernel, const given_inputs *given, fff_layer **layer,
                            size_t *input_width, size_t *output_width) {
    TRY(check(kernel, given));
    const tensor *in = &given->tensors[INPUT_WEIGHT], *out = &given->tensors[OUTPUT_WEIGHT];
    *input_width = (size_t)in->dims[1];
    *output_width = (size_t)out->dims[0];
    fff_bad_weight bad = {0};
    fff_layer_desc desc = path_fff_describe(kernel, given, THRESHOLDS, FACTOR);
    desc.input_width = *input_width;
    desc.output_width = *output_width;
    desc.weight_type = in->type;
    desc.input_weights = (fff_weights){in->data, *input_width, 1};
    desc.biases = given->floats[BIAS];
    desc.output_weights = (fff_weights){out->data, 1, count_rows(kernel)};
    desc.output_weight_type = (fff_weight_choice)(out->type + 1);
    desc.input_scales = given->floats[INPUT_SCALES];
    desc.output_scales = given->floats[OUTPUT_SCALES];
    desc.bad_weight = &bad;
    fff_status status = fff_layer_create(&desc, layer); /* by FFF_ISA, or the best instruction set */
    return status == FFF_OK ? NULL : refuse_weights(kernel, status, &bad);
}

const operator_kind path_fff_path = {
    .name = "PathFFF",
    .input_count = INPUT_COUNT,
    .inputs = {[INPUT_X] = {"X", 0, AS_GIVEN},
               [INPUT_WEIGHT] = {"input_weight", 0, AS_GIVEN_OR_INT8},
               [OUTPUT_WEIGHT] = {"output_weight", 0, AS_GIVEN_OR_INT8},
               [BIAS] = {"bias", 1, AS_FLOATS},
               [THRESHOLDS] = {"thresholds", 1, AS_FLOATS},
               [FACTOR] = {"factor", 1, AS_FLOATS},
               [INPUT_SCALES] = {"input_scales", 1, AS_FLOATS},
               [OUTPUT_SCALES] = {"output_scales", 1, AS_FLOATS}},
    .width_input = OUTPUT_WEIGHT,
    .width_rank = 2,
    .width_dimension = 0,
    .activation = FFF_ACTIVATION_GELU,
    .routing = FFF_ROUTING_GREATER,
    .make = make_path,
};
