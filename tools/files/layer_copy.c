/* A layer's numbers copied from its description. */
#include "tools/files/layer_data.h"

#include <stdlib.h>
#include <string.h>

/* A matrix of a description: rows are nodes, of which int8 ones have scales. A copy lies as PyTorch has it: node after
 * node, or column after column. */
struct view {
    const fff_weights *weights;
    fff_weight_type type;
    const float *scales;
    size_t rows, columns;
    bool by_columns;
};

/* The place in the caller's matrix of element `i` of the copy. */
static size_t place_of(const struct view *view, size_t i) {
    size_t row = view->by_columns ? i % view->rows : i / view->columns;
    size_t column = view->by_columns ? i / view->rows : i % view->columns;
    return row * view->weights->node_stride + column * view->weights->column_stride;
}

static float *copy_as_floats(const struct view *view) {
    static const fff_tensor_type types[FFF_WEIGHT_TYPE_COUNT] = {[FFF_WEIGHT_F32] = FFF_TENSOR_F32,
                                                                 [FFF_WEIGHT_BF16] = FFF_TENSOR_BF16,
                                                                 [FFF_WEIGHT_F16] = FFF_TENSOR_F16,
                                                                 [FFF_WEIGHT_I8] = FFF_TENSOR_I8};
    const fff_tensor tensor = {.type = types[view->type], .data = view->weights->data};
    float *copy = allocate_matrix(view->rows, view->columns);
    for (size_t i = 0; i < view->rows * view->columns && copy != NULL; i++) {
        copy[i] = fff_tensor_element(&tensor, place_of(view, i));
        if (view->scales != NULL) {
            copy[i] *= view->scales[view->by_columns ? i % view->rows : i / view->columns];
        }
    }
    return copy;
}

/* The weights in their own type; false when out of memory. */
static bool copy_given(const struct view *view, struct given_weights *given) {
    size_t size = view->type == FFF_WEIGHT_I8 ? 1 : 2;
    *given = (struct given_weights){.type = view->type};
    if (view->type == FFF_WEIGHT_F32) {
        return true;
    }
    unsigned char *copy = allocate_matrix(view->rows, view->columns);
    for (size_t i = 0; i < view->rows * view->columns && copy != NULL; i++) {
        memcpy(copy + i * size, (const unsigned char *)view->weights->data + place_of(view, i) * size, size);
    }
    given->data = given->aligned = copy;
    if (view->scales != NULL) {
        given->scales = allocate_matrix(view->rows, 1);
    }
    if (given->scales != NULL) {
        memcpy(given->scales, view->scales, view->rows * sizeof *given->scales);
    }
    return copy != NULL && (view->scales == NULL || given->scales != NULL);
}

int layer_data_copy(struct layer_data *data, const fff_layer_desc *desc, size_t batch, const float *input) {
    size_t rows = desc->trees * fff_nodes_per_tree(desc->depth), in = desc->input_width, out = desc->output_width;
    const fff_weights given_biases = {desc->biases, 1, 1}, given_input = {input, in, 1};
    fff_weight_type output_type = desc->output_weight_type == FFF_CHOOSE_DEFAULT
                                      ? desc->weight_type
                                      : (fff_weight_type)(desc->output_weight_type - 1);
    const struct view inputs = {&desc->input_weights, desc->weight_type, desc->input_scales, rows, in, false};
    const struct view outputs = {&desc->output_weights, output_type, desc->output_scales, rows, out, true};
    const struct view biases = {&given_biases, FFF_WEIGHT_F32, NULL, rows, 1, false};
    const struct view tokens = {&given_input, FFF_WEIGHT_F32, NULL, batch, in, false};
    *data = (struct layer_data){
        .input_width = in,
        .output_width = out,
        .depth = desc->depth,
        .trees = desc->trees,
        .rows = rows,
        .activation = desc->activation,
        .routing = desc->routing,
        .sleef = desc->sleef,
        .store = {desc->store_input, desc->store_output, desc->routes},
        .batch = batch,
        .input_weights = copy_as_floats(&inputs),
        .biases = desc->biases != NULL ? copy_as_floats(&biases) : NULL,
        .output_weights = copy_as_floats(&outputs),
        .input = copy_as_floats(&tokens),
    };
    if (data->input_weights == NULL || (desc->biases != NULL && data->biases == NULL) || data->output_weights == NULL ||
        data->input == NULL || !copy_given(&inputs, &data->given_input) || !copy_given(&outputs, &data->given_output)) {
        layer_data_free(data);
        return -1;
    }
    return 0;
}
