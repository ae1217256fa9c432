/* The life of a node: its weights are packed when the session is made. */
#define _GNU_SOURCE /* sched_getaffinity */
#include "path_fff.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

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
    return path_fff_make(kernel, values, &kernel->layer, &kernel->input_width, &kernel->output_width);
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
