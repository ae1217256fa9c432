/* The feedforward's weights: kept in the type that the file has them in, and packed for the kernels; the dense ways get
 * float32 ones. */
#include "bert/load.h"

#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One matrix. */
struct matrix {
    struct fff_found weight, scales; /* the latter's tensor is NULL where there are none */
    size_t rows, columns, neurons;
    bool of_output;
};

bool fff_bert_by_kernels(const fff_bert *model) {
    fff_bert_feedforward way = model->options.feedforward;
    return way == FFF_BERT_TREES || (way == FFF_BERT_AS_STORED && model->config.fast_feedforward);
}

/* ---- Finding --------------------------------------------------------------------------------- */

static bool is_i8(const struct matrix *matrix) {
    return matrix->weight.tensor->type == FFF_TENSOR_I8;
}

static bool find_matrix(const struct fff_loading *loading, const char *prefix, struct matrix *matrix) {
    char name[FFF_LONGEST_NAME], scales[FFF_LONGEST_NAME];
    fff_load_name(name, "%s.weight", prefix);
    fff_load_name(scales, "%s.weight_scales", prefix);
    if (!fff_load_find(loading, name, matrix->rows, matrix->columns, &matrix->weight)) {
        return false;
    }
    const struct fff_found *weight = &matrix->weight;
    if (!is_i8(matrix) && !fff_tensor_has_floats(weight->tensor)) {
        return FFF_FAIL(&weight->report, "tensor '%s' has dtype %s where F32, BF16, F16, F64 or I8 is expected",
                        weight->name, weight->tensor->type_name);
    }
    if (!is_i8(matrix)) {
        matrix->scales.tensor = NULL;
        return !fff_load_has(loading, scales) ||
               FFF_FAIL(&weight->report, "tensor '%s' has dtype %s, and scales ('%s'), which only I8 has", weight->name,
                        weight->tensor->type_name, scales);
    }
    if (!fff_load_find(loading, scales, 0, matrix->neurons, &matrix->scales)) {
        return false;
    }
    return matrix->scales.tensor->type == FFF_TENSOR_F32 ||
           FFF_FAIL(&matrix->scales.report, "tensor '%s' has dtype %s where F32 is expected", matrix->scales.name,
                    matrix->scales.tensor->type_name);
}

/* ---- Given weights --------------------------------------------------------------------------- */

static fff_weight_type type_of(const fff_tensor *tensor) {
    switch (tensor->type) {
    case FFF_TENSOR_BF16: return FFF_WEIGHT_BF16;
    case FFF_TENSOR_F16: return FFF_WEIGHT_F16;
    case FFF_TENSOR_I8: return FFF_WEIGHT_I8;
    default: return FFF_WEIGHT_F32; /* F64, too, which is rounded */
    }
}

/* What the library refuses of int8, so that all ways refuse it. */
static bool check_i8(const struct matrix *matrix, const float *scales) {
    const signed char *integers = matrix->weight.tensor->data;
    for (size_t i = 0; i < matrix->neurons; i++) {
        if (!(scales[i] > 0 && isfinite(scales[i]))) {
            return FFF_FAIL(&matrix->scales.report,
                            "tensor '%s', element %zu is %g where a positive number is expected", matrix->scales.name,
                            i, (double)scales[i]);
        }
    }
    for (size_t i = 0; i < matrix->weight.tensor->count; i++) {
        if (integers[i] == -128) {
            return FFF_FAIL(&matrix->weight.report, "tensor '%s', row %zu, column %zu is -128, below int8's -127",
                            matrix->weight.name, i / matrix->columns, i % matrix->columns);
        }
    }
    return true;
}

/* Where the file has 16 bits at an odd place, which the format allows, they are copied. */
static bool give(struct fff_loading *loading, const struct matrix *matrix, struct given *given) {
    const fff_tensor *tensor = matrix->weight.tensor;
    bool is_short = tensor->type == FFF_TENSOR_BF16 || tensor->type == FFF_TENSOR_F16;
    given->data = tensor->data;
    if (is_i8(matrix)) {
        return fff_load_floats(loading, &matrix->scales, &given->scales) && check_i8(matrix, given->scales);
    }
    if (!is_short || (uintptr_t)tensor->data % _Alignof(uint16_t) == 0) {
        return true;
    }
    void *copy = malloc(tensor->bytes > 0 ? tensor->bytes : 1);
    if (copy == NULL) {
        return FFF_FAIL(&matrix->weight.report, "tensor '%s': out of memory", matrix->weight.name);
    }
    memcpy(copy, tensor->data, tensor->bytes);
    given->data = copy;
    return fff_load_own(loading, copy);
}

/* Integers times scales, each product rounded to float32. */
static bool widen_i8(struct fff_loading *loading, const struct matrix *matrix, const float *scales,
                     const float **values) {
    const signed char *integers = matrix->weight.tensor->data;
    size_t count = matrix->weight.tensor->count, bytes;
    float *widened = __builtin_mul_overflow(count, sizeof *widened, &bytes) ? NULL : malloc(bytes > 0 ? bytes : 1);
    if (widened == NULL) {
        return FFF_FAIL(&matrix->weight.report, "tensor '%s': out of memory", matrix->weight.name);
    }
    for (size_t i = 0; i < count; i++) {
        widened[i] = (float)integers[i] * scales[matrix->of_output ? i % matrix->columns : i / matrix->columns];
    }
    *values = widened;
    return fff_load_own(loading, widened);
}

bool fff_load_feedforward(struct fff_loading *loading, const char *prefix, bool of_output, bool bias,
                          struct bert_layer *layer) {
    const fff_bert_config *config = &loading->model->config;
    struct matrix matrix = {.rows = of_output ? config->hidden_size : config->neurons,
                            .columns = of_output ? config->neurons : config->hidden_size,
                            .neurons = config->neurons,
                            .of_output = of_output};
    struct linear *linear = of_output ? &layer->out : &layer->in;
    struct given *given = of_output ? &layer->given_out : &layer->given_in;
    char name[FFF_LONGEST_NAME];
    if (!find_matrix(loading, prefix, &matrix)) {
        return false;
    }
    *linear = (struct linear){.in = matrix.columns, .out = matrix.rows, .stored = matrix.weight.tensor};
    *given = (struct given){.type = type_of(matrix.weight.tensor)};
    if (bias && !fff_load(loading, fff_load_name(name, "%s.bias", prefix), 0, matrix.rows, &linear->bias)) {
        return false;
    }
    if (loading->checking) {
        return true;
    }
    if (given->type == FFF_WEIGHT_F32) {
        bool ok = fff_load_floats(loading, &matrix.weight, &linear->weight);
        given->data = linear->weight;
        return ok;
    }
    if (!give(loading, &matrix, given)) {
        return false;
    }
    return fff_bert_by_kernels(loading->model) ||
           (is_i8(&matrix) ? widen_i8(loading, &matrix, given->scales, &linear->weight)
                           : fff_load_floats(loading, &matrix.weight, &linear->weight));
}

/* ---- Packing --------------------------------------------------------------------------------- */

fff_layer_desc fff_bert_layer_desc(const fff_bert *model, size_t layer) {
    const fff_bert_config *config = &model->config;
    const struct bert_layer *of = &model->layers[layer];
    return (fff_layer_desc){
        .struct_size = sizeof(fff_layer_desc),
        .input_width = config->hidden_size,
        .output_width = config->hidden_size,
        .depth = config->depth,
        .trees = config->trees,
        .activation = config->activation,
        .weight_type = of->given_in.type,
        .isa = model->options.isa,
        .sleef = model->options.sleef,
        .input_weights = {of->given_in.data, config->hidden_size, 1},
        .biases = of->in.bias,
        .output_weights = {of->given_out.data, 1, config->neurons},
        .output_weight_type = (fff_weight_choice)(of->given_out.type + 1),
        .store_input = model->options.store_input,
        .store_output = model->options.store_output,
        .routes = model->options.routes,
        .input_scales = of->given_in.scales,
        .output_scales = of->given_out.scales,
    };
}

/* Packs one layer, and gives back the pages of the mapping that it was read from. */
static bool pack(struct fff_loading *loading, size_t index) {
    struct fff_bert *model = loading->model;
    fff_layer_desc desc = fff_bert_layer_desc(model, index);
    fff_bad_weight bad = {0};
    desc.bad_weight = &bad;
    fff_status status = fff_layer_create(&desc, &model->layers[index].trees);
    if (status == FFF_ERROR_WEIGHT) {
        return FFF_FAIL(&loading->report, "layer %zu, %s weights, row %zu, column %zu: %s", index,
                        bad.of_output ? "output" : "input", bad.row, bad.column, fff_status_text(status));
    }
    if (status != FFF_OK) {
        return FFF_FAIL(&loading->report, "layer %zu: %s", index, fff_status_text(status));
    }
    fff_tensor_release(model->layers[index].in.stored);
    fff_tensor_release(model->layers[index].out.stored);
    return true;
}

bool fff_load_pack(struct fff_loading *loading) {
    struct fff_bert *model = loading->model;
    fff_bert_config *config = &model->config;
    bool kernels = fff_bert_by_kernels(model);
    if (model->options.neurons > config->neurons) {
        return FFF_FAIL(&loading->report, "%zu neurons are asked for where a layer has %zu", model->options.neurons,
                        config->neurons);
    }
    if (!kernels && config->neurons > INT_MAX) {
        return FFF_FAIL(&loading->report, "%zu neurons are more than CBLAS can count", config->neurons);
    }
    for (size_t i = 0; i < config->layers && kernels; i++) {
        if (!pack(loading, i)) {
            return false;
        }
    }
    return true;
}
