/* The life of a PathFFF node: its weights are packed when the session is made. */
#define _GNU_SOURCE /* sched_getaffinity */
#include "path_fff.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

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
    if (status == NULL && type != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT)
        status = path_fff_fail(kernel, ORT_INVALID_ARGUMENT, "%s is not float32", what);
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

/* Refuses a weight that has another rank, or where another number than `rows` stands in its dimension of rows. */
static OrtStatus *check_rows(const path_fff_kernel *kernel, const tensor *weight, const char *what, size_t rank,
                             size_t dimension) {
    if (weight->rank != rank)
        return path_fff_fail(kernel, ORT_INVALID_ARGUMENT, "%s has %zu dimensions, not %zu", what, weight->rank, rank);
    if ((uint64_t)weight->dims[dimension] != kernel->rows)
        return path_fff_fail(kernel, ORT_INVALID_ARGUMENT,
                             "%s has %lld in dimension %zu, where depth %zu and trees %zu make %zu nodes", what,
                             (long long)weight->dims[dimension], dimension, kernel->depth, kernel->trees, kernel->rows);
    return NULL;
}

OrtStatus *path_fff_make_layer(const path_fff_kernel *kernel, const OrtValue *const *values, fff_layer **layer,
                               size_t *input_width, size_t *output_width) {
    tensor in, out, bias = {0};
    TRY(path_fff_read_tensor(kernel, values[INPUT_INPUT_WEIGHT], "input_weight", &in));
    TRY(path_fff_read_tensor(kernel, values[INPUT_OUTPUT_WEIGHT], "output_weight", &out));
    TRY(check_rows(kernel, &in, "input_weight", 2, 0));
    TRY(check_rows(kernel, &out, "output_weight", 2, 1));
    if (values[INPUT_BIAS] != NULL) {
        TRY(path_fff_read_tensor(kernel, values[INPUT_BIAS], "bias", &bias));
        TRY(check_rows(kernel, &bias, "bias", 1, 0));
    }
    *input_width = (size_t)in.dims[1];
    *output_width = (size_t)out.dims[0];
    fff_layer_desc desc = {
        .struct_size = sizeof desc,
        .input_width = *input_width,
        .output_width = *output_width,
        .depth = kernel->depth,
        .trees = kernel->trees,
        .activation = kernel->activation,
        .routing = kernel->routing,
        .input_weights = {in.data, *input_width, 1},
        .biases = bias.data,
        .output_weights = {out.data, 1, kernel->rows},
    };
    fff_status status = fff_layer_create(&desc, layer); /* by FFF_ISA, or the best instruction set */
    return status == FFF_OK ? NULL : path_fff_fail_status(kernel, "weights", status);
}

/* Packs the weights now if all are constants of the model. */
static OrtStatus *pack_constants(path_fff_kernel *kernel, const OrtKernelInfo *info) {
    const OrtApi *api = kernel->api;
    const OrtValue *values[INPUT_COUNT] = {NULL};
    for (size_t i = INPUT_INPUT_WEIGHT; i < (kernel->has_bias ? INPUT_COUNT : INPUT_BIAS); i++) {
        int constant = 0;
        TRY(api->KernelInfoGetConstantInput_tensor(info, i, &constant, &values[i]));
        if (!constant || values[i] == NULL)
            return NULL;
    }
    return path_fff_make_layer(kernel, values, &kernel->layer, &kernel->input_width, &kernel->output_width);
}

/* ---- Life ------------------------------------------------------------------------------------ */

/* Whether the node has a bias: absent inputs may still be counted, with an empty name. */
static OrtStatus *find_bias(path_fff_kernel *kernel, const OrtKernelInfo *info) {
    size_t count = 0, size = 0;
    TRY(kernel->api->KernelInfo_GetInputCount(info, &count));
    if (count > INPUT_BIAS)
        TRY(kernel->api->KernelInfo_GetInputName(info, INPUT_BIAS, NULL, &size));
    kernel->has_bias = size > 1;
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
    (void)op;
    *out = NULL;
    path_fff_kernel *kernel = calloc(1, sizeof *kernel);
    if (kernel == NULL)
        return api->CreateStatus(ORT_FAIL, "fff:PathFFF: out of memory");
    kernel->api = api;
    kernel->tasks = usable_cpus();
    read_node_name(kernel, info);
    OrtStatus *status = api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &kernel->memory);
    if (status == NULL)
        status = path_fff_read_attributes(kernel, info);
    if (status == NULL)
        status = find_bias(kernel, info);
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
