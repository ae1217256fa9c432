/* Reading a layer file. */
#include "bert/report.h"
#include "bert/safetensors.h"
#include "tools/layer_data.h"

#include <stdlib.h>
#include <string.h>

static const size_t DEFAULT_BATCH = 64;
static const uint64_t DEFAULT_SEED = 1;

struct loading {
    const fff_safetensors *file;
    struct fff_report report;
};

/* What a tensor may hold. */
enum content { FLOAT32, HALVES_TOO, WEIGHTS, INT32 };
static const struct {
    const char *names; /* of dtypes */
    unsigned types;    /* a bit each */
} contents[] = {
    [FLOAT32] = {"F32", 1u << FFF_TENSOR_F32},
    [HALVES_TOO] = {"F32, BF16 or F16", 1u << FFF_TENSOR_F32 | 1u << FFF_TENSOR_BF16 | 1u << FFF_TENSOR_F16},
    [WEIGHTS] = {"F32, BF16, F16 or I8",
                 1u << FFF_TENSOR_F32 | 1u << FFF_TENSOR_BF16 | 1u << FFF_TENSOR_F16 | 1u << FFF_TENSOR_I8},
    [INT32] = {"I32", 1u << FFF_TENSOR_I32},
};

/* A tensor, the shape that it must have, and where a copy of it goes. */
struct wanted {
    const char *name;
    bool required;
    enum content content;
    size_t rank, shape[3];
    float **floats;     /* as float32, of I8 the integers, */
    int32_t **integers; /* or for INT32; stays NULL for a tensor that is absent */
};

static bool check_tensor(const struct loading *loading, const struct wanted *wanted) {
    const fff_tensor *tensor = fff_safetensors_find(loading->file, wanted->name);
    if (tensor == NULL) {
        return !wanted->required || FFF_FAIL(&loading->report, "tensor '%s' is missing", wanted->name);
    }
    if ((contents[wanted->content].types >> tensor->type & 1) == 0) {
        return FFF_FAIL(&loading->report, "tensor '%s' has dtype %s where %s is expected", wanted->name,
                        tensor->type_name, contents[wanted->content].names);
    }
    if (tensor->rank != wanted->rank) {
        return FFF_FAIL(&loading->report, "tensor '%s' has %zu dimensions where %zu are expected", wanted->name,
                        tensor->rank, wanted->rank);
    }
    for (size_t i = 0; i < wanted->rank; i++) {
        if (tensor->shape[i] != wanted->shape[i]) {
            return FFF_FAIL(&loading->report, "tensor '%s': dimension %zu is %zu where %zu is expected", wanted->name,
                            i, tensor->shape[i], wanted->shape[i]);
        }
    }
    return true;
}

/* The elements in memory of their own: numbers of 4 bytes as they are, others as float32. NULL when out of memory. */
static void *copy_elements(const fff_tensor *tensor) {
    fff_floats floats = {0};
    if (tensor->type == FFF_TENSOR_BF16 || tensor->type == FFF_TENSOR_F16) {
        (void)fff_tensor_floats(tensor, &floats);
        return floats.owned;
    }
    float *values = allocate_matrix(tensor->count, 1);
    for (size_t i = 0; i < tensor->count && values != NULL && tensor->type == FFF_TENSOR_I8; i++) {
        values[i] = fff_tensor_element(tensor, i);
    }
    if (values != NULL && tensor->type != FFF_TENSOR_I8) {
        memcpy(values, tensor->data, tensor->bytes);
    }
    return values;
}

static bool copy_tensor(const struct loading *loading, const struct wanted *wanted) {
    const fff_tensor *tensor = fff_safetensors_find(loading->file, wanted->name);
    if (tensor == NULL) {
        return true;
    }
    void *values = copy_elements(tensor);
    if (values == NULL) {
        return FFF_FAIL(&loading->report, "tensor '%s': out of memory", wanted->name);
    }
    if (wanted->floats != NULL) {
        *wanted->floats = values;
    } else {
        *wanted->integers = values;
    }
    return true;
}

/* A file without a layer's first tensor: often it holds a whole model. */
static bool fail_without(const struct loading *loading, const char *name) {
    static const char *const parts[] = {"embedding", "layer.", "layers.", "wte.", "lm_head."};
    for (size_t i = 0; i < fff_safetensors_count(loading->file); i++) {
        const char *other = fff_safetensors_at(loading->file, i)->name;
        for (size_t part = 0; part < sizeof parts / sizeof *parts; part++) {
            if (strstr(other, parts[part]) != NULL) {
                return FFF_FAIL(&loading->report,
                                "holds a model (tensor '%s') where a layer's '%s' is expected: give the model's folder",
                                other, name);
            }
        }
    }
    return FFF_FAIL(&loading->report, "tensor '%s' is missing", name);
}

/* The shape of a matrix that the layer's own shape is read from. */
static bool find_matrix(const struct loading *loading, const char *name, const fff_tensor **tensor) {
    *tensor = fff_safetensors_find(loading->file, name);
    if (*tensor == NULL) {
        return fail_without(loading, name);
    }
    if ((*tensor)->rank != 2 || (*tensor)->count == 0) {
        return FFF_FAIL(&loading->report, "tensor '%s' has %zu dimensions and %zu elements where a matrix is expected",
                        name, (*tensor)->rank, (*tensor)->count);
    }
    return true;
}

static bool read_count(const struct loading *loading, const char *key, size_t largest, size_t *count) {
    const char *text = fff_safetensors_metadata(loading->file, key);
    if (text == NULL) {
        return FFF_FAIL(&loading->report, "the metadata lack '%s'", key);
    }
    char *end;
    unsigned long long value = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || value > largest) {
        return FFF_FAIL(&loading->report, "metadata '%s' is not a number from 0 to %zu, but '%s'", key, largest, text);
    }
    *count = (size_t)value;
    return true;
}

static bool read_options(const struct loading *loading, struct layer_data *data) {
    const char *variant = fff_safetensors_metadata(loading->file, "variant");
    if (variant != NULL && strcmp(variant, "path") != 0) {
        return FFF_FAIL(&loading->report, "metadata 'variant' is '%s'; only 'path' is supported", variant);
    }
    const char *name = fff_safetensors_metadata(loading->file, "activation");
    const char *route = fff_safetensors_metadata(loading->file, "route");
    if (name == NULL) {
        return FFF_FAIL(&loading->report, "the metadata lack 'activation': one of " ACTIVATION_NAMES);
    }
    if (!activation_by_name(name, &data->activation)) {
        return FFF_FAIL(&loading->report, "metadata 'activation' is '%s', none of " ACTIVATION_NAMES, name);
    }
    if (route == NULL || strstr(route, "> 0") != NULL) {
        data->routing = FFF_ROUTING_GREATER;
    } else if (strstr(route, ">= 0") != NULL) {
        data->routing = FFF_ROUTING_GREATER_EQUAL;
    } else {
        return FFF_FAIL(&loading->report, "metadata 'route' is '%s', which says neither '> 0' nor '>= 0'", route);
    }
    return true;
}

static bool make_input(const struct loading *loading, struct layer_data *data) {
    uint64_t state = DEFAULT_SEED;
    data->batch = DEFAULT_BATCH;
    data->input = allocate_matrix(data->batch, data->input_width);
    if (data->input == NULL) {
        return FFF_FAIL(&loading->report, "out of memory");
    }
    fill_normal(data->input, data->batch * data->input_width, 1.0f, &state);
    return true;
}

/* A weight matrix's own type, and where it lies. The library wants 16 bits aligned; a file may have them anywhere. */
static bool give_weights(const struct loading *loading, const char *name, const char *scales_name,
                         struct given_weights *given) {
    const fff_tensor *tensor = fff_safetensors_find(loading->file, name);
    switch (tensor->type) {
    case FFF_TENSOR_BF16: given->type = FFF_WEIGHT_BF16; break;
    case FFF_TENSOR_F16: given->type = FFF_WEIGHT_F16; break;
    case FFF_TENSOR_I8: given->type = FFF_WEIGHT_I8; break;
    default: given->type = FFF_WEIGHT_F32; break;
    }
    if (given->type != FFF_WEIGHT_I8 && fff_safetensors_find(loading->file, scales_name) != NULL) {
        return FFF_FAIL(&loading->report, "tensor '%s' is there, but '%s' has dtype %s and no scales", scales_name,
                        name, tensor->type_name);
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

static bool is_i8(const struct loading *loading, const char *name) {
    const fff_tensor *tensor = fff_safetensors_find(loading->file, name);
    return tensor != NULL && tensor->type == FFF_TENSOR_I8;
}

/* Integers become float32 numbers. */
static void apply_scales(const struct layer_data *data) {
    const float *input_scales = data->given_input.scales, *output_scales = data->given_output.scales;
    for (size_t row = 0; row < data->rows && input_scales != NULL; row++) {
        for (size_t column = 0; column < data->input_width; column++) {
            data->input_weights[row * data->input_width + column] *= input_scales[row];
        }
    }
    for (size_t column = 0; column < data->output_width && output_scales != NULL; column++) {
        for (size_t row = 0; row < data->rows; row++) {
            data->output_weights[column * data->rows + row] *= output_scales[row];
        }
    }
}

/* All of them, once all are found right. */
static bool copy_tensors(const struct loading *loading, struct layer_data *data) {
    static const char IN[] = "linear_in.weight", OUT[] = "linear_out.weight";
    static const char IN_SCALES[] = "linear_in.weight_scales", OUT_SCALES[] = "linear_out.weight_scales";
    const fff_tensor *input = fff_safetensors_find(loading->file, "input");
    data->batch = input != NULL && input->rank > 0 ? input->shape[0] : 0;
    const struct wanted wanted[] = {
        {IN, true, WEIGHTS, 2, {data->rows, data->input_width}, &data->input_weights, NULL},
        {"linear_in.bias", false, HALVES_TOO, 1, {data->rows}, &data->biases, NULL},
        {OUT, true, WEIGHTS, 2, {data->output_width, data->rows}, &data->output_weights, NULL},
        {IN_SCALES, is_i8(loading, IN), FLOAT32, 1, {data->rows}, &data->given_input.scales, NULL},
        {OUT_SCALES, is_i8(loading, OUT), FLOAT32, 1, {data->rows}, &data->given_output.scales, NULL},
        {"input", false, FLOAT32, 2, {data->batch, data->input_width}, &data->input, NULL},
        {"output", false, FLOAT32, 2, {data->batch, data->output_width}, &data->expected_output, NULL},
        {"path", false, INT32, 3, {data->batch, data->trees, data->depth + 1}, NULL, &data->expected_path},
    };
    size_t count = input != NULL ? sizeof wanted / sizeof *wanted : 5; /* results of no input mean nothing */
    for (size_t i = 0; i < count; i++) {
        if (!check_tensor(loading, &wanted[i])) {
            return false;
        }
    }
    if (!give_weights(loading, IN, IN_SCALES, &data->given_input) ||
        !give_weights(loading, OUT, OUT_SCALES, &data->given_output)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (!copy_tensor(loading, &wanted[i])) {
            return false;
        }
    }
    apply_scales(data);
    return input != NULL || make_input(loading, data);
}

static bool read_layer(const struct loading *loading, struct layer_data *data) {
    const fff_tensor *in, *out;
    if (!find_matrix(loading, "linear_in.weight", &in) || !find_matrix(loading, "linear_out.weight", &out) ||
        !read_count(loading, "depth", FFF_MAX_DEPTH, &data->depth) ||
        !read_count(loading, "trees", UINT32_MAX, &data->trees) || !read_options(loading, data)) {
        return false;
    }
    data->input_width = in->shape[1];
    data->output_width = out->shape[0];
    data->rows = in->shape[0];
    size_t rows;
    if (data->trees == 0 || __builtin_mul_overflow(data->trees, fff_nodes_per_tree(data->depth), &rows) ||
        rows != data->rows) {
        return FFF_FAIL(&loading->report,
                        "tensor 'linear_in.weight' has %zu rows where %zu trees of depth %zu have %zu each", data->rows,
                        data->trees, data->depth, fff_nodes_per_tree(data->depth));
    }
    return copy_tensors(loading, data);
}

int layer_data_load(const char *path, struct layer_data *data, char *error, size_t error_size) {
    *data = (struct layer_data){0};
    fff_safetensors *file = fff_safetensors_open(path, error, error_size);
    if (file == NULL) {
        return -1;
    }
    struct loading loading = {file, {path, error, error_size}};
    bool ok = read_layer(&loading, data);
    if (ok && (data->given_input.data != NULL || data->given_output.data != NULL)) {
        data->file = file; /* which the weights stay in */
    } else {
        fff_safetensors_close(file);
    }
    if (!ok) {
        layer_data_free(data);
        return -1;
    }
    return 0;
}
