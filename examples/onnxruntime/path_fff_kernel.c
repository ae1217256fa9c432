/* The life of a node: its weights are packed when the session is made. */
#define _GNU_SOURCE /* sched_getaffinity */
#include "path_fff.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ONNX Runtime's type as libfff's; 0 for those that the operators do not take. */
static int find_type(ONNXTensorElementDataType type, fff_weight_type *found) {
    switch (type) {
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT: *found = FFF_WEIGHT_F32; return 1;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16: *found = FFF_WEIGHT_F16; return 1;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16: *found = FFF_WEIGHT_BF16; return 1;
    default: return 0;
    }
}

OrtStatus *path_fff_read_tensor(const path_fff_kernel *kernel, const OrtValue *value, const char *what, tensor *out) {
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
    if (status == NULL && !find_type(type, &out->type))
        status = path_fff_fail(kernel, ORT_INVALID_ARGUMENT, "%s is not float32, float16 or bfloat16", what);
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

OrtStatus *path_fff_read_biases(const path_fff_kernel *kernel, const char *what, const tensor *bias,
                                const float **biases, float **owned) {
    *biases = bias->data;
    *owned = NULL;
    if (bias->data == NULL || bias->type == FFF_WEIGHT_F32)
        return NULL;
    const uint16_t *given = bias->data;
    float *made = malloc(bias->count * sizeof *made);
    if (made == NULL)
        return path_fff_fail_status(kernel, what, FFF_ERROR_OUT_OF_MEMORY);
    for (size_t i = 0; i < bias->count; i++)
        made[i] = widen(given[i], bias->type);
    *biases = *owned = made;
    return NULL;
}

/* Packs the weights now if all are constants of the model. */
static OrtStatus *pack_constants(path_fff_kernel *kernel, const OrtKernelInfo *info) {
    const OrtApi *api = kernel->api;
    const OrtValue *values[MAX_INPUTS] = {NULL};
    for (size_t i = FIRST_WEIGHT; i < kernel->kind->input_count; i++) {
        int constant = 0;
        if (!kernel->has[i])
            continue;
        TRY(api->KernelInfoGetConstantInput_tensor(info, i, &constant, &values[i]));
        if (!constant || values[i] == NULL)
            return NULL;
    }
    return kernel->kind->make(kernel, values, &kernel->layer, &kernel->input_width, &kernel->output_width);
}

/* ---- Life ------------------------------------------------------------------------------------ */

/* Which inputs the node has: absent ones may still be counted, with an empty name. */
static OrtStatus *find_inputs(path_fff_kernel *kernel, const OrtKernelInfo *info) {
    size_t count = 0;
    TRY(kernel->api->KernelInfo_GetInputCount(info, &count));
    for (size_t i = 0; i < kernel->kind->input_count; i++) {
        size_t size = 0;
        if (i < count)
            TRY(kernel->api->KernelInfo_GetInputName(info, i, NULL, &size));
        kernel->has[i] = size > 1;
    }
    return NULL;
}

static void read_node_name(path_fff_kernel *kernel, const OrtKernelInfo *info) {
    size_t size = sizeof kernel->node;
    OrtStatus *status = kernel->api->KernelInfo_GetNodeName(info, kernel->node, &size);
    if (status != NULL) { /* longer than anybody reads */
        kernel->api->ReleaseStatus(status);
        strcpy(kernel->node, "(a long name)");
    }
}

/* The CPUs that this process may use: as many tasks can be of use. How many threads the session has, ONNX Runtime does
 * not tell its operators. */
static size_t usable_cpus(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 1;
    return (size_t)CPU_COUNT(&set);
}

OrtStatus *path_fff_create(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info, void **out) {
    *out = NULL;
    path_fff_kernel *kernel = calloc(1, sizeof *kernel);
    if (kernel == NULL)
        return api->CreateStatus(ORT_FAIL, "fff: out of memory");
    kernel->kind = ((const typed_op *)op)->kind;
    kernel->api = api;
    kernel->tasks = usable_cpus();
    read_node_name(kernel, info);
    OrtStatus *status = api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &kernel->memory);
    if (status == NULL)
        status = path_fff_read_attributes(kernel, info);
    if (status == NULL)
        status = find_inputs(kernel, info);
    if (status == NULL)
        status = pack_constants(kernel, info);
    if (status != NULL) {
        path_fff_destroy(kernel);
        return status;
    }
    *out = kernel;
    return NULL;
}

void path_fff_destroy(void *memory) {
    path_fff_kernel *kernel = memory;
    if (kernel == NULL)
        return;
    fff_layer_destroy(kernel->layer);
    if (kernel->memory != NULL)
        kernel->api->ReleaseMemoryInfo(kernel->memory);
    free(kernel);
}
