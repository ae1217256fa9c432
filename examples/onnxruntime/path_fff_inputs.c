/* Reading and checking what a node is given. */
#include "path_fff.h"

#include <stdlib.h>
#include <string.h>

/* ONNX Runtime's type as libfff's; 0 for those that the operators do not take. */
static int find_type(ONNXTensorElementDataType type, fff_weight_type *found) {
    switch (type) {
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT: *found = FFF_WEIGHT_F32; return 1;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16: *found = FFF_WEIGHT_F16; return 1;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16: *found = FFF_WEIGHT_BF16; return 1;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8: *found = FFF_WEIGHT_I8; return 1;
    default: return 0;
    }
}

static OrtStatus *read_tensor(const path_fff_kernel *kernel, const OrtValue *value, const char *what, int or_int8,
                              tensor *out) {
    const OrtApi *api = kernel->api;
    if (value == NULL)
        return path_fff_fail(kernel, ORT_INVALID_ARGUMENT, "%s is missing", what);
    OrtTensorTypeAndShapeInfo *shape = NULL;
    TRY(api->GetTensorTypeAndShape(value, &shape));
    ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    OrtStatus *status = api->GetTensorElementType(shape, &type);
    if (status == NULL)
        status = api->GetTensorShapeElementCount(shape, &out->count);
    if (status == NULL)
        status = api->GetDimensionsCount(shape, &out->rank);
    if (status == NULL && (!find_type(type, &out->type) || (out->type == FFF_WEIGHT_I8 && !or_int8)))
        status = path_fff_fail(kernel, ORT_INVALID_ARGUMENT, "%s is not float32, float16%s", what,
                               or_int8 ? ", bfloat16 or int8" : " or bfloat16");
    if (status == NULL && (out->rank == 0 || out->rank > MAX_RANK))
        status = path_fff_fail(kernel, ORT_INVALID_ARGUMENT, "%s has %zu dimensions, not 1 to %d", what, out->rank,
                               MAX_RANK);
    if (status == NULL)
        status = api->GetDimensions(shape, out->dims, out->rank);
    api->ReleaseTensorTypeAndShapeInfo(shape);
    TRY(status);
    void *data = NULL;
    TRY(api->GetTensorMutableData((OrtValue *)value, &data)); /* read only; the API has no other way */
    out->data = data;
    return NULL;
}

/* ---- Weights --------------------------------------------------------------------------------- */

/* A 16-bit number as float32, which is exact. */
static float widen(uint16_t bits, fff_weight_type type) {
    uint32_t wide = (uint32_t)bits << 16; /* bfloat16 is the upper half */
    float value;
    if (type == FFF_WEIGHT_F16) {
        uint32_t exponent = bits >> 10 & 31, fraction = bits & 1023, sign = (uint32_t)bits >> 15 << 31;
        if (exponent == 31) { /* infinity or NaN */
            wide = sign | UINT32_C(0x7f800000) | fraction << 13;
        } else { /* an integer below 2048, times a power of 2 */
            uint32_t power = ((exponent > 0 ? exponent : 1) + 102) << 23;
            memcpy(&value, &power, sizeof value);
            value *= (float)(exponent > 0 ? fraction + 1024 : fraction);
            memcpy(&wide, &value, sizeof wide);
            wide |= sign;
        }
    }
    memcpy(&value, &wide, sizeof value);
    return value;
}

/* As float32: *owned is memory of its own, to free(), if that had to be made. */
static OrtStatus *read_floats(const path_fff_kernel *kernel, const char *what, const tensor *tensor,
                              const float **floats, float **owned) {
    *floats = tensor->data;
    if (tensor->type == FFF_WEIGHT_F32)
        return NULL;
    const uint16_t *given = tensor->data;
    float *made = malloc(tensor->count * sizeof *made + 1);
    if (made == NULL)
        return path_fff_fail_status(kernel, what, FFF_ERROR_OUT_OF_MEMORY);
    for (size_t i = 0; i < tensor->count; i++)
        made[i] = widen(given[i], tensor->type);
    *floats = *owned = made;
    return NULL;
}

static OrtStatus *read_inputs(const path_fff_kernel *kernel, const OrtValue *const *values, given_inputs *given) {
    for (size_t i = FIRST_WEIGHT; i < kernel->kind->input_count; i++) {
        const input_kind *kind = &kernel->kind->inputs[i];
        if (!kernel->has[i] && kind->optional)
            continue;
        TRY(read_tensor(kernel, values[i], kind->name, kind->read == AS_GIVEN_OR_INT8, &given->tensors[i]));
        if (kind->read == AS_FLOATS)
            TRY(read_floats(kernel, kind->name, &given->tensors[i], &given->floats[i], &given->owned[i]));
    }
    return NULL;
}

OrtStatus *path_fff_read_tensor(const path_fff_kernel *kernel, const OrtValue *value, const char *what, tensor *out) {
    return read_tensor(kernel, value, what, 0, out);
}

OrtStatus *path_fff_make(const path_fff_kernel *kernel, const OrtValue *const *values, fff_layer **layer,
                         size_t *input_width, size_t *output_width) {
    given_inputs given = {0};
    OrtStatus *status = read_inputs(kernel, values, &given);
    if (status == NULL)
        status = kernel->kind->make(kernel, &given, layer, input_width, output_width);
    for (size_t i = 0; i < MAX_INPUTS; i++)
        free(given.owned[i]);
    return status;
}

/* ---- What both operators say and check of a layer --------------------------------------------- */

fff_layer_desc path_fff_describe(const path_fff_kernel *kernel, const given_inputs *given, size_t thresholds,
                                 size_t factor) {
    return (fff_layer_desc){
        .struct_size = sizeof(fff_layer_desc),
        .depth = kernel->depth,
        .trees = kernel->trees,
        .activation = kernel->activation,
        .routing = kernel->routing,
        .store_input = kernel->store_input,
        .store_output = kernel->store_output,
        .routes = kernel->routes,
        .thresholds = given->floats[thresholds],
        .factor = given->floats[factor],
    };
}

OrtStatus *path_fff_check_rank(const path_fff_kernel *kernel, const given_inputs *given, size_t input, size_t rank) {
    const tensor *tensor = &given->tensors[input];
    if (!kernel->has[input] || tensor->rank == rank)
        return NULL;
    return path_fff_fail(kernel, ORT_INVALID_ARGUMENT, "%s has %zu dimensions, not %zu",
                         kernel->kind->inputs[input].name, tensor->rank, rank);
}

OrtStatus *path_fff_check_number(const path_fff_kernel *kernel, const given_inputs *given, size_t input,
                                 size_t dimension, size_t number, const char *of) {
    const tensor *tensor = &given->tensors[input];
    if (!kernel->has[input] || (uint64_t)tensor->dims[dimension] == number)
        return NULL;
    return path_fff_fail(kernel, ORT_INVALID_ARGUMENT,
                         "%s has %lld in dimension %zu, where depth %zu and trees %zu make %zu %s",
                         kernel->kind->inputs[input].name, (long long)tensor->dims[dimension], dimension, kernel->depth,
                         kernel->trees, number, of);
}

OrtStatus *path_fff_check_factor(const path_fff_kernel *kernel, const given_inputs *given, size_t factor) {
    if (!kernel->has[factor] || given->tensors[factor].count == 1)
        return NULL;
    return path_fff_fail(kernel, ORT_INVALID_ARGUMENT, "%s has %zu elements, not 1", kernel->kind->inputs[factor].name,
                         given->tensors[factor].count);
}

OrtStatus *path_fff_check_scales(const path_fff_kernel *kernel, const given_inputs *given, size_t weight,
                                 size_t scales) {
    const char *of = kernel->kind->inputs[weight].name, *name = kernel->kind->inputs[scales].name;
    fff_weight_type type = given->tensors[weight].type;
    if (kernel->has[scales] == (type == FFF_WEIGHT_I8))
        return NULL;
    return kernel->has[scales]
               ? path_fff_fail(kernel, ORT_INVALID_ARGUMENT, "%s are for int8 weights, and %s is %s", name, of,
                               fff_weight_type_name(type))
               : path_fff_fail(kernel, ORT_INVALID_ARGUMENT, "%s are missing, where %s is int8", name, of);
}
