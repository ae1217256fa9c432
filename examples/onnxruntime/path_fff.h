/* The parts of the custom-operator library: path_fff_op.c tells ONNX Runtime what the operators look like,
 * path_fff_attributes.c and path_fff_kernel.c make a node, path_fff_inputs.c reads its weights, path_fff_compute.c runs
 * it. There are two operators, PathFFF and LeafFFF; what tells them apart is an operator_kind, in path_fff_weights.c
 * and leaf_fff.c.
 *
 * Weights that are constants of the model are packed once, when the session is made. Weights that are not (inputs of
 * the model, or computed in it) are packed again at every run, since nothing tells when they changed.
 *
 * A kernel does not change once it is made, and a run takes its workspace from the session's allocator, so one session
 * may run on any number of threads at once. Large batches are shared out on the session's own intra-op threads. */
#ifndef FFF_EXAMPLES_PATH_FFF_H
#define FFF_EXAMPLES_PATH_FFF_H

#include <fff/fff.h>
#include <onnxruntime_c_api.h>

#define OP_DOMAIN "fff"

/* The first input of either operator, (..., input width). The weights follow. Each input is float32, float16 or
 * bfloat16, and weights with scales may be int8; the output has X's type. */
enum { INPUT_X, FIRST_WEIGHT, MAX_INPUTS = 12 };

/* Leaves the calling function with the status of a call that failed. */
#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        OrtStatus *status_ = (call);                                                                                   \
        if (status_ != NULL)                                                                                           \
            return status_;                                                                                            \
    } while (0)

enum { MAX_RANK = 32, MAX_NAME = 128 };

/* A view of a tensor of ONNX Runtime's. */
typedef struct tensor {
    const void *data; /* NULL of an absent optional input */
    fff_weight_type type;
    size_t rank, count; /* dimensions, elements */
    int64_t dims[MAX_RANK];
} tensor;

/* A node's inputs but X. */
typedef struct given_inputs {
    tensor tensors[MAX_INPUTS];
    const float *floats[MAX_INPUTS]; /* of those that are read AS_FLOATS; NULL of an absent one */
    float *owned[MAX_INPUTS];        /* what has been widened for that */
} given_inputs;

struct path_fff_kernel;

/* Checks and packs the weights. The caller destroys the layer. */
typedef OrtStatus *make_layer(const struct path_fff_kernel *kernel, const given_inputs *given, fff_layer **layer,
                              size_t *input_width, size_t *output_width);

/* An input: whether it may be absent, and how it is read. */
enum { AS_GIVEN, AS_GIVEN_OR_INT8, AS_FLOATS };
typedef struct input_kind {
    const char *name;
    int optional, read;
} input_kind;

/* One of the operators. */
typedef struct operator_kind {
    const char *name;
    size_t input_count;
    input_kind inputs[MAX_INPUTS];
    /* The weight that tells the output width, for shape inference: which input, of how many dimensions, and which. */
    size_t width_input, width_rank, width_dimension;
    fff_activation activation; /* where the attribute is absent, and so the routing */
    fff_routing routing;
    make_layer *make;
} operator_kind;

extern const operator_kind path_fff_path, path_fff_leaf;

/* An operator for one type of X. The runtime takes those of one name for overloads, and chooses by the types. */
typedef struct typed_op {
    OrtCustomOp op; /* first: callbacks get its address, and find the rest behind it */
    const operator_kind *kind;
    const OrtApi *api;
    ONNXTensorElementDataType type;
} typed_op;

typedef struct path_fff_kernel {
    const operator_kind *kind;
    const OrtApi *api;
    OrtMemoryInfo *memory; /* the CPU's, as workspaces want it */
    size_t depth, trees;
    size_t tasks; /* that can be of use at once */
    fff_activation activation;
    fff_routing routing;
    fff_weight_choice store_input, store_output;
    fff_routes routes;
    int has[MAX_INPUTS];              /* which inputs there are */
    fff_layer *layer;                 /* NULL if weights are no constants */
    size_t input_width, output_width; /* of `layer` */
    char node[MAX_NAME];
} path_fff_kernel;

/* A status whose text names the node. */
__attribute__((format(printf, 3, 4))) OrtStatus *path_fff_fail(const path_fff_kernel *kernel, OrtErrorCode code,
                                                               const char *format, ...);
OrtStatus *path_fff_fail_status(const path_fff_kernel *kernel, const char *what, fff_status status);

/* Sets what the attributes say, or says what is wrong with them. */
OrtStatus *path_fff_read_attributes(path_fff_kernel *kernel, const OrtKernelInfo *info);

/* Refuses a value that is missing, of another type than float32, float16 and bfloat16, a scalar, or of more than
 * MAX_RANK dimensions. */
OrtStatus *path_fff_read_tensor(const path_fff_kernel *kernel, const OrtValue *value, const char *what, tensor *out);

/* Reads, checks and packs the weights, values[i] being NULL for an absent optional input. */
OrtStatus *path_fff_make(const path_fff_kernel *kernel, const OrtValue *const *values, fff_layer **layer,
                         size_t *input_width, size_t *output_width);

/* ---- What both operators say and check of a layer --------------------------------------------- */

/* What the attributes and the inputs `thresholds` and `factor` say of a layer; the weights are to be added. */
fff_layer_desc path_fff_describe(const path_fff_kernel *kernel, const given_inputs *given, size_t thresholds,
                                 size_t factor);

/* Refuses an input that is there, but not of that rank. */
OrtStatus *path_fff_check_rank(const path_fff_kernel *kernel, const given_inputs *given, size_t input, size_t rank);

/* Refuses an input that is there, but has another number in that dimension than there are nodes, say. */
OrtStatus *path_fff_check_number(const path_fff_kernel *kernel, const given_inputs *given, size_t input,
                                 size_t dimension, size_t number, const char *of);

/* Refuses a factor that is not one number. */
OrtStatus *path_fff_check_factor(const path_fff_kernel *kernel, const given_inputs *given, size_t factor);

/* Refuses scales without int8 weights, and int8 weights without scales. */
OrtStatus *path_fff_check_scales(const path_fff_kernel *kernel, const given_inputs *given, size_t weight,
                                 size_t scales);

/* OrtCustomOp's callbacks for a node's life. A kernel may compute on any number of threads at once. */
OrtStatus *path_fff_create(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info, void **kernel);
OrtStatus *path_fff_compute(void *kernel, OrtKernelContext *context);
void path_fff_destroy(void *kernel);

#endif
