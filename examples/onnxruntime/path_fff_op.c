/* fff:PathFFF and fff:LeafFFF for ONNX Runtime: their description, shape inference and registration.
 *
 * Written against API version 17 of onnxruntime_c_api.h (ONNX Runtime 1.17) in plain C. Every later runtime offers that
 * version too; an older one is refused with a message. The library is not linked with ONNX Runtime: all calls go
 * through the table that the runtime hands over. */
#include "path_fff.h"

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include <fff/fff.h>

static const char *get_name(const OrtCustomOp *op) {
    return ((const typed_op *)op)->kind->name;
}

static const char *get_execution_provider(const OrtCustomOp *op) {
    (void)op;
    return NULL; /* the CPU's */
}

/* Of weights, any: the kernel refuses those that it does not take, with the name of the node. */
static ONNXTensorElementDataType get_input_type(const OrtCustomOp *op, size_t index) {
    return index == INPUT_X ? ((const typed_op *)op)->type : ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
}

static ONNXTensorElementDataType get_output_type(const OrtCustomOp *op, size_t index) {
    (void)index;
    return ((const typed_op *)op)->type;
}

static size_t get_input_count(const OrtCustomOp *op) {
    return ((const typed_op *)op)->kind->input_count;
}

static size_t get_output_count(const OrtCustomOp *op) {
    (void)op;
    return 1;
}

static OrtCustomOpInputOutputCharacteristic get_input_characteristic(const OrtCustomOp *op, size_t index) {
    return ((const typed_op *)op)->kind->inputs[index].optional ? INPUT_OUTPUT_OPTIONAL : INPUT_OUTPUT_REQUIRED;
}

static OrtCustomOpInputOutputCharacteristic get_output_characteristic(const OrtCustomOp *op, size_t index) {
    (void)op, (void)index;
    return INPUT_OUTPUT_REQUIRED;
}

static OrtMemType get_memory_type(const OrtCustomOp *op, size_t index) {
    (void)op, (void)index;
    return OrtMemTypeDefault;
}

static int get_start_version(const OrtCustomOp *op) {
    (void)op;
    return 1;
}

static int get_end_version(const OrtCustomOp *op) {
    (void)op;
    return INT_MAX;
}

enum { MAX_INFERRED_RANK = 8, MAX_WIDTH_RANK = 3 };

/* Sets an output shape of X's dimensions, names of unknown ones included, with the output width last. */
static OrtStatus *set_output_shape(const OrtApi *api, OrtShapeInferContext *context, OrtTensorTypeAndShapeInfo *output,
                                   ONNXTensorElementDataType type, size_t rank, const int64_t *dims,
                                   const char **names) {
    TRY(api->SetTensorElementType(output, type));
    TRY(api->SetSymbolicDimensions(output, names, rank));
    TRY(api->SetDimensions(output, dims, rank));
    return api->ShapeInferContext_SetOutputTypeShape(context, 0, output);
}

/* Overloads share one inference, that of the first: the type is X's, not that of the operator that is asked. */
static OrtStatus *infer_shape(const operator_kind *kind, const OrtApi *api, OrtShapeInferContext *context) {
    OrtTensorTypeAndShapeInfo *x = NULL, *weight = NULL; /* the context's own */
    size_t rank = 0, weight_rank = 0;
    int64_t dims[MAX_INFERRED_RANK], weight_dims[MAX_WIDTH_RANK];
    const char *names[MAX_INFERRED_RANK], *weight_names[MAX_WIDTH_RANK];
    TRY(api->ShapeInferContext_GetInputTypeShape(context, INPUT_X, &x));
    TRY(api->ShapeInferContext_GetInputTypeShape(context, kind->width_input, &weight));
    ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    TRY(api->GetTensorElementType(x, &type));
    TRY(api->GetDimensionsCount(x, &rank));
    TRY(api->GetDimensionsCount(weight, &weight_rank));
    if (rank == 0 || rank > MAX_INFERRED_RANK || weight_rank != kind->width_rank)
        return NULL; /* not known yet, or wrong: the kernel will say so */
    TRY(api->GetDimensions(x, dims, rank));
    TRY(api->GetSymbolicDimensions(x, names, rank));
    TRY(api->GetDimensions(weight, weight_dims, weight_rank));
    TRY(api->GetSymbolicDimensions(weight, weight_names, weight_rank));
    dims[rank - 1] = weight_dims[kind->width_dimension];
    names[rank - 1] = weight_names[kind->width_dimension];
    for (size_t i = 0; i < rank; i++)
        if (dims[i] < 0 && (names[i] == NULL || names[i][0] == '\0'))
            return NULL; /* unknown and without a name: the runtime would take -1 for its size */
    OrtTensorTypeAndShapeInfo *output = NULL;
    TRY(api->CreateTensorTypeAndShapeInfo(&output));
    OrtStatus *status = set_output_shape(api, context, output, type, rank, dims, names);
    api->ReleaseTensorTypeAndShapeInfo(output);
    return status;
}

/* ---- Registration ---------------------------------------------------------------------------- */

static const ONNXTensorElementDataType types[] = {
    ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16, ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16};
enum { TYPES = sizeof types / sizeof *types };

static const operator_kind *const kinds[] = {&path_fff_path, &path_fff_leaf};
enum { KINDS = sizeof kinds / sizeof *kinds };

/* What one runtime is given: the operators, and the domain that holds them. A process with several copies of ONNX
 * Runtime has several of these. They live until the library is unloaded, since sessions keep pointers to them. */
typedef struct registration {
    typed_op ops[KINDS * TYPES];
    const OrtApi *api;
    OrtCustomOpDomain *domain;
    struct registration *next;
} registration;

static pthread_mutex_t registrations_lock = PTHREAD_MUTEX_INITIALIZER;
static registration *registrations;

/* ONNX Runtime 1.17 to 1.23 follow a null pointer before they call an operator's shape inference, where an optional
 * input is named as absent (""). They load such models, without inferred shapes, if the operator has none. */
#define SAFE_INFERENCE_VERSION 24

static OrtStatus *infer_output_shape(const OrtCustomOp *op, OrtShapeInferContext *context) {
    const typed_op *typed = (const typed_op *)op;
    const OrtApi *api = typed->api;
    OrtStatus *status = infer_shape(typed->kind, api, context);
    if (status != NULL)
        api->ReleaseStatus(status); /* shapes are a convenience: a model loads without */
    return NULL;
}

static const OrtCustomOp callbacks = {
    .version = ORT_API_VERSION,
    .GetName = get_name,
    .GetExecutionProviderType = get_execution_provider,
    .GetInputType = get_input_type,
    .GetInputTypeCount = get_input_count,
    .GetOutputType = get_output_type,
    .GetOutputTypeCount = get_output_count,
    .KernelDestroy = path_fff_destroy,
    .GetInputCharacteristic = get_input_characteristic,
    .GetOutputCharacteristic = get_output_characteristic,
    .GetInputMemoryType = get_memory_type,
    .CreateKernelV2 = path_fff_create,
    .KernelComputeV2 = path_fff_compute,
    .GetStartVersion = get_start_version,
    .GetEndVersion = get_end_version,
};

static void release_registration(registration *entry) {
    if (entry->domain != NULL)
        entry->api->ReleaseCustomOpDomain(entry->domain);
    free(entry);
}

__attribute__((destructor)) static void release_registrations(void) {
    while (registrations != NULL) {
        registration *entry = registrations;
        registrations = entry->next;
        release_registration(entry);
    }
}

/* The runtime's registration, made at its first call. Under the lock. */
static OrtStatus *find_registration(const OrtApiBase *base, const OrtApi *api, registration **found) {
    for (registration *entry = registrations; entry != NULL; entry = entry->next)
        if (entry->api == api) {
            *found = entry;
            return NULL;
        }
    registration *entry = calloc(1, sizeof *entry);
    if (entry == NULL)
        return api->CreateStatus(ORT_FAIL, "fff: out of memory");
    entry->api = api;
    OrtStatus *status = api->CreateCustomOpDomain(OP_DOMAIN, &entry->domain);
    for (size_t i = 0; i < KINDS * TYPES && status == NULL; i++) {
        entry->ops[i] = (typed_op){callbacks, kinds[i / TYPES], api, types[i % TYPES]};
        if (base->GetApi(SAFE_INFERENCE_VERSION) != NULL)
            entry->ops[i].op.InferOutputShapeFn = infer_output_shape;
        status = api->CustomOpDomain_Add(entry->domain, &entry->ops[i].op);
    }
    if (status != NULL) {
        release_registration(entry);
        return status;
    }
    entry->next = registrations;
    registrations = entry;
    *found = entry;
    return NULL;
}

/* Whether the libfff that was loaded offers what the header promised: the same major version, no older. */
static int libfff_fits(void) {
    int major = -1, minor = -1;
    return sscanf(fff_version(), "%d.%d", &major, &minor) == 2 && major == FFF_VERSION_MAJOR &&
           minor >= FFF_VERSION_MINOR;
}

/* What ONNX Runtime calls when the library is registered with session options. */
FFF_API OrtStatus *RegisterCustomOps(OrtSessionOptions *options, const OrtApiBase *base) {
    char message[200];
    const OrtApi *api = base->GetApi(ORT_API_VERSION);
    if (api == NULL) {
        /* Version 1 is offered by every runtime, and its first entries make a status. */
        snprintf(message, sizeof message, "fff:PathFFF needs ONNX Runtime 1.%d or later; this is %s", ORT_API_VERSION,
                 base->GetVersionString());
        return base->GetApi(1)->CreateStatus(ORT_FAIL, message);
    }
    if (!libfff_fits()) {
        snprintf(message, sizeof message, "fff:PathFFF was built for libfff %d.%d and found %s", FFF_VERSION_MAJOR,
                 FFF_VERSION_MINOR, fff_version());
        return api->CreateStatus(ORT_FAIL, message);
    }
    registration *entry = NULL;
    pthread_mutex_lock(&registrations_lock);
    OrtStatus *status = find_registration(base, api, &entry);
    pthread_mutex_unlock(&registrations_lock);
    return status != NULL ? status : api->AddCustomOpDomain(options, entry->domain);
}
