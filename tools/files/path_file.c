/* A path sum in a layer file: linear_in, linear_out. */
#include "tools/files/tensors.h"

#include <stdlib.h>
#include <string.h>

static const char IN[] = "linear_in.weight", OUT[] = "linear_out.weight";
static const char IN_SCALES[] = "linear_in.weight_scales", OUT_SCALES[] = "linear_out.weight_scales";

/* A weight matrix's own type, and where it lies. The library wants 16 bits aligned; a file may have them anywhere. */
static bool give_weights(const struct loading *loading, const char *name, struct given_weights *given) {
    const fff_tensor *tensor = find_tensor(loading, name);
    switch (tensor->type) {
    case FFF_TENSOR_BF16: given->type = FFF_WEIGHT_BF16; break;
    case FFF_TENSOR_F16: given->type = FFF_WEIGHT_F16; break;
    case FFF_TENSOR_I8: given->type = FFF_WEIGHT_I8; break;
    default: given->type = FFF_WEIGHT_F32; break;
    }
    if (given->type == FFF_WEIGHT_F32) {
        return true;
    }
    given->data = tensor->data;
    if (given->type != FFF_WEIGHT_I8 && (uintptr_t)tensor->data % _Alignof(uint16_t) != 0) {
        given->data = given->aligned = malloc(tensor->bytes);
        if (given->aligned == NULL) {
            return FFF_FAIL(&loading->report, "tensor '%s': out of memory", name);
        }
        memcpy(given->aligned, tensor->data, tensor->bytes);
    }
    return true;
}

/* Integers become float32 numbers. A single part's, which are given to the library as they are too, it checks itself.
 */
static void apply_given_scales(const struct layer_data *part) {
    const float *input_scales = part->given_input.scales, *output_scales = part->given_output.scales;
    for (size_t row = 0; row < part->rows && input_scales != NULL; row++) {
        for (size_t column = 0; column < part->input_width; column++) {
            part->input_weights[row * part->input_width + column] *= input_scales[row];
        }
    }
    for (size_t column = 0; column < part->output_width && output_scales != NULL; column++) {
        for (size_t row = 0; row < part->rows; row++) {
            part->output_weights[column * part->rows + row] *= output_scales[row];
        }
    }
}

/* Those of a part of several, which has no scales afterwards. */
static bool make_float32(const struct loading *loading, struct layer_data *part) {
    float **input_scales = &part->given_input.scales, **output_scales = &part->given_output.scales;
    size_t inputs = part->rows * part->input_width, outputs = part->rows * part->output_width;
    const struct integers in = {IN, IN_SCALES, part->input_weights, *input_scales, inputs, part->input_width, 1};
    const struct integers out = {OUT, OUT_SCALES, part->output_weights, *output_scales, outputs, SIZE_MAX, part->rows};
    bool ok = apply_scales(loading, &in) && apply_scales(loading, &out);
    free(*input_scales);
    free(*output_scales);
    *input_scales = *output_scales = NULL;
    return ok;
}

/* All of them, once all are found right. Of a layer of several parts all weights become float32. */
static bool read_weights(const struct loading *loading, struct layer_data *part) {
    bool alone = loading->prefix[0] == '\0';
    const struct wanted wanted[] = {
        {IN, true, WEIGHTS, 2, {part->rows, part->input_width}, &part->input_weights, NULL},
        {"linear_in.bias", false, HALVES_TOO, 1, {part->rows}, &part->biases, NULL},
        {OUT, true, WEIGHTS, 2, {part->output_width, part->rows}, &part->output_weights, NULL},
        {IN_SCALES, is_i8(loading, IN), FLOAT32, 1, {part->rows}, &part->given_input.scales, NULL},
        {OUT_SCALES, is_i8(loading, OUT), FLOAT32, 1, {part->rows}, &part->given_output.scales, NULL},
    };
    size_t count = sizeof wanted / sizeof *wanted;
    if (!check_tensors(loading, wanted, count) || !check_scales(loading, IN, IN_SCALES) ||
        !check_scales(loading, OUT, OUT_SCALES)) {
        return false;
    }
    if (!loading->copying) {
        return true;
    }
    if (alone && (!give_weights(loading, IN, &part->given_input) || !give_weights(loading, OUT, &part->given_output))) {
        return false;
    }
    if (!copy_tensors(loading, wanted, count)) {
        return false;
    }
    if (!alone) {
        return make_float32(loading, part);
    }
    apply_given_scales(part);
    return true;
}

bool read_path_sum(const struct loading *loading, struct layer_data *part) {
    const fff_tensor *in = find_shaped(loading, IN, 2), *out = in != NULL ? find_shaped(loading, OUT, 2) : NULL;
    if (out == NULL || !read_count(loading, "depth", FFF_MAX_DEPTH, &part->depth) ||
        !read_count(loading, "trees", UINT32_MAX, &part->trees)) {
        return false;
    }
    part->input_width = in->shape[1];
    part->output_width = out->shape[0];
    part->rows = in->shape[0];
    size_t rows;
    if (part->trees == 0 || __builtin_mul_overflow(part->trees, fff_nodes_per_tree(part->depth), &rows) ||
        rows != part->rows) {
        return FFF_FAIL(&loading->report, "tensor '%s%s' has %zu rows where %zu trees of depth %zu have %zu each",
                        loading->prefix, IN, part->rows, part->trees, part->depth, fff_nodes_per_tree(part->depth));
    }
    return read_weights(loading, part);
}
