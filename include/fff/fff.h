/* libfff: fast feedforward networks on the CPU.
 *
 * A fast feedforward layer (FFF) replaces a dense feedforward layer by `trees` complete binary trees
 * of neurons. A token walks every tree from its root, going left or right by the sign of each node's
 * logit, and only the neurons on its path contribute. The layer computed here is the path sum of
 * "Exponentially Faster Language Modelling" (arXiv 2311.10770), as its authors' code defines it:
 *
 *     node = 0                                            (for each tree, at each of depth + 1 levels)
 *     logit  = x . input_weights[node] + biases[node]
 *     y     += activation(logit) * output_weights[node]
 *     node   = 2 * node + 1 + (logit > 0)
 *
 * Depth 0 makes every node a root: `trees` x 0 is an ordinary dense layer of `trees` neurons.
 *
 * The other published layer is the leaf layer of "Fast Feedforward Networks" (arXiv 2308.14711): the nodes of `depth`
 * levels only route, and a tree's sum is that of the leaf which the token reaches, a small dense layer of `leaf_width`
 * neurons:
 *
 *     y += activation(x . leaf_weights[leaf][j] + leaf_biases[leaf][j]) * output_weights[leaf][j]      (for each j)
 *     y += leaf_output_biases[leaf]
 *
 * A layer may have several parts, each of trees of one kind and shape; their sums are added in order.
 *
 * Promise: for given weights and input, results have the same bits on every instruction set, for
 * every batch size and split, and for every number of threads (docs/numerics.md says how, and what
 * the promise does not cover: the sign and payload of a NaN).
 *
 * Threads: a layer is immutable; any number of threads may use one at the same time, each with its
 * own workspace and output. The library has no mutable globals and starts no threads. It prints
 * nothing. Only fff_layer_create() allocates, and only fff_layer_destroy() frees.
 *
 * Floating-point environment: the caller's rounding mode, flush-to-zero settings and trapped exceptions
 * do not change results, and nothing traps inside; they are as before when a call returns. Sticky exception
 * flags add up, as in any function that computes: a call clears none, and raises, on each thread for what
 * ran there, what its results raise, and perhaps others, for vectors are padded and some dot products
 * are computed in advance. So which ones may depend on the instruction set and the batch. (None that the caller traps,
 * on CPUs other than x86-64 and AArch64.)
 *
 * All sizes and strides of matrices count elements, not bytes.
 */
#ifndef FFF_FFF_H
#define FFF_FFF_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FFF_VERSION_MAJOR 1
#define FFF_VERSION_MINOR 0
#define FFF_VERSION_PATCH 0

/* What stands before each function of the library. Of Windows, FFF_BUILD is defined while the library is compiled; a
 * program needs no dllimport, since only functions are imported, and so links the shared and the static library alike.
 * Whoever compiles the library into one of their own may define it: empty, flags say what the functions' visibility is.
 */
#if !defined(FFF_API)
#if defined(_WIN32) && defined(FFF_BUILD)
#define FFF_API __declspec(dllexport)
#elif !defined(_WIN32) && defined(__GNUC__)
#define FFF_API __attribute__((visibility("default")))
#else
#define FFF_API
#endif
#endif

/* The version of the library that runs, "major.minor.patch". */
FFF_API const char *fff_version(void);

/* The version of SLEEF that the library was built with. The one that runs may be another: see fff_sleef_path() and
 * fff_sleef_check(). */
FFF_API const char *fff_sleef_version(void);

/* ---- Status ---------------------------------------------------------------------------------- */

/* Every function that can fail returns one of these. A call that does not return FFF_OK has
 * changed nothing that it was given, but perhaps its workspace: no output is half written. One exception:
 * FFF_ERROR_RUNNER is known only when the work is done, or not; then results may be written in part. */
typedef enum fff_status {
    FFF_OK = 0,
    FFF_ERROR_NULL_POINTER,      /* a required pointer is NULL */
    FFF_ERROR_STRUCT_SIZE,       /* struct_size is too small, or fields unknown to this version are set */
    FFF_ERROR_SHAPE,             /* a width or the number of trees is 0, or depth > FFF_MAX_DEPTH */
    FFF_ERROR_OPTION,            /* an enumeration holds a value that is not one of its own */
    FFF_ERROR_OVERFLOW,          /* sizes multiply to more than memory can hold or an index can count */
    FFF_ERROR_STRIDE,            /* a stride makes rows overlap */
    FFF_ERROR_ALIGNMENT,         /* a pointer is not aligned for its element type */
    FFF_ERROR_OVERLAP,           /* input, output and workspace share memory */
    FFF_ERROR_WORKSPACE,         /* the workspace is smaller than fff_workspace_size() says */
    FFF_ERROR_NODE,              /* a node index lies outside its tree; a row's outside its matrix, or out of order */
    FFF_ERROR_ISA_UNKNOWN,       /* no instruction set has that name */
    FFF_ERROR_ISA_NOT_BUILT,     /* the library was built without that instruction set */
    FFF_ERROR_ISA_NOT_SUPPORTED, /* this CPU, or its operating system, lacks that instruction set */
    FFF_ERROR_OUT_OF_MEMORY,     /* the allocator returned NULL */
    FFF_ERROR_RUNNER,            /* the runner left out a task or ran one twice: the output is not to be used */
    FFF_ERROR_SLEEF,             /* the SLEEF library that is loaded returns other bits than the recorded ones */
    FFF_ERROR_WEIGHT,            /* a weight does not fit the type that the layer is to store */
    FFF_ERROR_SCALE,             /* scales are missing where weights are int8, or one is not positive and finite */
    FFF_ERROR_NUMBER,            /* a threshold or the part's factor is NaN or infinite; a setting is out of range */
    FFF_ERROR_PARTS, /* parts of a layer disagree on what they have in common, or are more than FFF_MAX_PARTS */
} fff_status;

/* A sentence about a status, for people; never NULL, valid for ever. */
FFF_API const char *fff_status_text(fff_status status);

/* ---- Instruction sets ------------------------------------------------------------------------ */

typedef enum fff_isa {
    FFF_ISA_AUTO = 0, /* the one that the environment's FFF_ISA names, else the best usable one */
    FFF_ISA_GENERIC,
    FFF_ISA_X86_AVX2,   /* AVX2, FMA and F16C */
    FFF_ISA_X86_AVX512, /* AVX-512 F, DQ, BW and VL, besides what FFF_ISA_X86_AVX2 needs */
    FFF_ISA_ARM_NEON,   /* AArch64 Advanced SIMD */
} fff_isa;
#define FFF_ISA_COUNT 5 /* instruction sets are numbered 1 to FFF_ISA_COUNT - 1 */

/* The name used by FFF_ISA and by the tools: "auto", "generic", "x86_avx2", "x86_avx512",
 * "arm_neon"; NULL for any other value. */
FFF_API const char *fff_isa_name(fff_isa isa);

/* The instruction set of that name. FFF_ERROR_ISA_UNKNOWN, with *isa untouched, if there is none. */
FFF_API fff_status fff_isa_by_name(const char *name, fff_isa *isa);

/* Whether an instruction set can be used here: FFF_OK, FFF_ERROR_ISA_NOT_BUILT or
 * FFF_ERROR_ISA_NOT_SUPPORTED; FFF_ERROR_OPTION for a value that is no instruction set. */
FFF_API fff_status fff_isa_usable(fff_isa isa);

/* Resolves a choice as fff_layer_create() does. FFF_ISA_AUTO becomes the instruction set that the
 * environment variable FFF_ISA names (unset, empty or "auto": the best usable one). Fails as
 * fff_isa_by_name() and fff_isa_usable() do, with *chosen untouched. */
FFF_API fff_status fff_isa_choose(fff_isa requested, fff_isa *chosen);

/* A CPU feature that some instruction set of this library needs, or can use. */
typedef struct fff_cpu_feature {
    const char *name; /* as the compiler spells it, e.g. "avx512f" */
    fff_isa isa;      /* the instruction set that needs it, the lowest if several do */
    int present;      /* 1 if CPU and operating system both support it */
} fff_cpu_feature;

/* Writes up to `capacity` features that instruction sets of this architecture need, and returns how many there are. */
FFF_API size_t fff_cpu_features(fff_cpu_feature *features, size_t capacity);

/* Likewise, those that an instruction set does without, but which make int8 weights faster, with the same bits. */
FFF_API size_t fff_cpu_optional_features(fff_cpu_feature *features, size_t capacity);

/* ---- SLEEF ------------------------------------------------------------------------------------ */

/* GELU_TANH and SILU use SLEEF's tanh and exp, from whatever libsleef the system loads. Which ones are accepted: */
typedef enum fff_sleef {
    FFF_SLEEF_RECORDED =
        0,         /* one whose functions return the recorded bits where they are probed, else FFF_ERROR_SLEEF */
    FFF_SLEEF_ANY, /* any: results may have other bits than elsewhere */
} fff_sleef;

/* The file that SLEEF was loaded from, as the system names it; NULL if the system does not tell. Where SLEEF is
 * linked statically it is the file of the program or library that holds it; where this library was compiled into a
 * program that is not position-independent (-fno-pie -no-pie), the program, in which functions of shared libraries have
 * their addresses then. Valid while that is loaded. */
FFF_API const char *fff_sleef_path(void);

/* Probes the SLEEF functions of an instruction set, for all activations and derivatives: FFF_OK, or FFF_ERROR_SLEEF if
 * one returns other bits than the recorded ones. Fails as fff_isa_choose() does. */
FFF_API fff_status fff_sleef_check(fff_isa isa);

/* ---- A layer --------------------------------------------------------------------------------- */

#define FFF_MAX_DEPTH 30
#define FFF_MAX_PARTS 1024

typedef enum fff_activation {
    FFF_ACTIVATION_GELU = 0,  /* z/2 (1 + erf(z / sqrt 2)) */
    FFF_ACTIVATION_GELU_TANH, /* z/2 (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3))) */
    FFF_ACTIVATION_RELU,      /* max(z, 0) */
    FFF_ACTIVATION_RELU2,     /* max(z, 0)^2 */
    FFF_ACTIVATION_SILU,      /* z / (1 + exp(-z)) */
    FFF_ACTIVATION_IDENTITY,  /* z */
} fff_activation;
#define FFF_ACTIVATION_COUNT 6

/* 1 if an activation is computed with SLEEF, 0 if not or if the value is none of them. Since 0.3. (Its derivative is
 * another matter: fff_differentiate().) */
FFF_API int fff_activation_uses_sleef(fff_activation activation);

/* Where a logit of exactly 0 goes. A NaN logit always goes left. */
typedef enum fff_routing {
    FFF_ROUTING_GREATER = 0,   /* right if logit > 0: the path-sum layer's rule */
    FFF_ROUTING_GREATER_EQUAL, /* right if logit >= 0 */
} fff_routing;

/* bfloat16 is the upper half of a float32; float16 is IEEE 754's binary16; an int8 row has integers from -127 to 127,
 * each times the row's scale. */
typedef enum fff_weight_type {
    FFF_WEIGHT_F32 = 0,
    FFF_WEIGHT_BF16,
    FFF_WEIGHT_F16,
    FFF_WEIGHT_I8,
} fff_weight_type;
#define FFF_WEIGHT_TYPE_COUNT 4

/* The name used by the tools: "f32", "bf16", "f16", "i8"; NULL for any other value. */
FFF_API const char *fff_weight_type_name(fff_weight_type type);

/* A weight type that may be left open: 0, or 1 more than a fff_weight_type. */
typedef enum fff_weight_choice {
    FFF_CHOOSE_DEFAULT = 0,
    FFF_CHOOSE_F32,
    FFF_CHOOSE_BF16,
    FFF_CHOOSE_F16,
    FFF_CHOOSE_I8,
} fff_weight_choice;

/* By which input rows a layer routes. */
typedef enum fff_routes {
    FFF_ROUTES_STORED = 0, /* by those that it stores */
    FFF_ROUTES_EXACT,      /* by the given ones, as float32: every route is that of the layer that stores float32 */
} fff_routes;

/* Which weight was refused. */
typedef struct fff_bad_weight {
    int of_output; /* 0: of the input weights, or their scales; 1: of the output weights; 2: of the leaf weights */
    size_t row, column;
} fff_bad_weight;

/* A view of a weight matrix in the caller's memory: one row a node, row r column c at element
 * r * node_stride + c * column_stride. Node-major weights have column_stride 1; PyTorch's
 * `linear_out.weight`, stored output-major, has node_stride 1 and column_stride trees * nodes. */
typedef struct fff_weights {
    const void *data; /* aligned for its type */
    size_t node_stride;
    size_t column_stride;
} fff_weights;

/* Where a layer's memory comes from; absent, the C library. `allocate` returns `size` bytes aligned
 * to `alignment` (a power of two), or NULL; `release` gets the same size back. Called only by
 * fff_layer_create() and fff_layer_destroy(); both must stay callable until the latter returns. */
typedef struct fff_allocator {
    void *(*allocate)(void *context, size_t size, size_t alignment);
    void (*release)(void *context, void *memory, size_t size);
    void *context;
} fff_allocator;

/* What fff_layer_create() is told. Zero it, then set struct_size = sizeof(fff_layer_desc) and the
 * fields that matter: zero is the default of every other one. */
typedef struct fff_layer_desc {
    size_t struct_size;
    size_t input_width;  /* 1 or more */
    size_t output_width; /* 1 or more */
    size_t depth;        /* 0 to FFF_MAX_DEPTH; a tree has 2^(depth+1) - 1 nodes, in heap order; for leaves see below */
    size_t trees;        /* 1 or more; node j of tree k is row k * nodes + j of the weights */
    fff_activation activation;
    fff_routing routing;
    fff_weight_type weight_type;
    fff_isa isa;
    fff_weights input_weights;      /* trees * nodes x input_width */
    const float *biases;            /* trees * nodes, or NULL for zeros */
    fff_weights output_weights;     /* trees * nodes x output_width */
    const fff_allocator *allocator; /* NULL: the C library's; the struct is copied */
    /* Since 0.2 */
    fff_sleef sleef; /* matters where the activation uses SLEEF */
    /* Since 0.3. `weight_type` is the type of the given weights, input_weights and output_weights; these say what the
     * layer stores. Rounding is to nearest, ties to even. */
    fff_weight_choice output_weight_type; /* of the given output weights; default: weight_type */
    fff_weight_choice store_input;        /* the stored input rows, which decide routes; default: as given */
    fff_weight_choice store_output;       /* the stored output rows, which only scale; default: as given */
    fff_routes routes;
    const float *input_scales;  /* given int8 input weights: one a row; NULL for all others */
    const float *output_scales; /* likewise */
    fff_bad_weight *bad_weight; /* NULL, or what FFF_ERROR_WEIGHT and FFF_ERROR_SCALE fill in */
    /* Since 0.4. A leaf layer, if leaf_width is not 0: a tree has 2^depth - 1 nodes, which only route, and 2^depth
     * leaves of leaf_width neurons. input_weights, biases and input_scales are the nodes' (of depth 0, none);
     * output_weights and output_scales have a row a neuron: neuron j of leaf l of tree k is row
     * (k * leaves + l) * leaf_width + j. The stored types are those of the nodes and of the neurons alike. */
    size_t leaf_width;
    fff_weights leaf_weights; /* trees * leaves * leaf_width x input_width, of type weight_type */
    size_t leaf_stride;       /* elements from a leaf's first neuron to the next leaf's; 0: leaf_width * node_stride */
    const float *leaf_scales; /* given int8 leaf weights: one a neuron */
    const float *leaf_biases; /* one a neuron, or NULL for zeros */
    fff_weights leaf_output_biases; /* float32, trees * leaves x output_width; data NULL: none */
    /* Of either layer. */
    const float *thresholds;  /* one a node: what its logit is compared with; NULL: 0. Those of nodes that do not route,
                               * the path sum's leaves, mean nothing, but must be numbers. */
    const float *factor;      /* one number that multiplies all activations and leaf_output_biases; NULL: 1 */
    const float *output_bias; /* output_width floats that outputs begin from, of the first part only; NULL: zeros */
    const struct fff_layer_desc *next; /* NULL, or another part of the layer: its sums are added after this one's.
                                        * Widths must be the same, and isa, sleef and allocator zero or the same. */
    /* Since 0.5. 1: the layer keeps no copy of this part's rows and biases, but reads the caller's whenever it is used:
     * those of input_weights, biases, output_weights, leaf_weights, leaf_biases, leaf_output_biases, and output_bias.
     * They may change between calls, as in training, and must stay until the layer is destroyed; no call may write to
     * them. Thresholds and factor are copied. Given and stored types must be float32, else FFF_ERROR_OPTION; the
     * columns of a row must lie side by side, and rows of leaves, too, one stride apart, else FFF_ERROR_STRIDE. All
     * results are those of the layer that keeps a copy. Parts may differ in this. */
    int borrow;
} fff_layer_desc;

typedef struct fff_layer fff_layer; /* opaque and immutable */

/* The number of nodes of a tree, 2^(depth+1) - 1; 0 if depth > FFF_MAX_DEPTH. */
FFF_API size_t fff_nodes_per_tree(size_t depth);

/* Makes a layer: checks the description and packs the weights (a copy; the caller's may go
 * afterwards, unless it borrows them). trees * nodes must be below 2^32. On success *layer is owned by the caller until
 * fff_layer_destroy(); on failure *layer is untouched. NaN and infinity in weights are legal, but not where int8 is to
 * be stored; a finite weight that is infinite as a float16 is FFF_ERROR_WEIGHT, too, as is -128 in given int8 weights.
 * fff_layer_memory() says how much memory it will take.
 *
 * A layer that stores bfloat16 or float16 computes what the float32 layer of the same, rounded numbers does, bit for
 * bit, unless its routes are exact. One that stores int8 input rows rounds each token's input to 8 bits as well
 * (docs/numerics.md). */
FFF_API fff_status fff_layer_create(const fff_layer_desc *desc, fff_layer **layer);

/* Frees a layer that no call is using any more. NULL is allowed. */
FFF_API void fff_layer_destroy(fff_layer *layer);

/* The instruction set the layer runs on; FFF_ISA_AUTO for NULL. */
FFF_API fff_isa fff_layer_isa(const fff_layer *layer);

/* The number of nodes that a token visits: trees * (depth + 1); of a leaf layer, with its neurons, trees * (depth +
 * leaf_width); of several parts, their sum. 0 for NULL. */
FFF_API size_t fff_layer_path_length(const fff_layer *layer);

/* Bytes of memory that the layer holds; 0 for NULL. That is, of all nodes and neurons, a bias and a row. A row has an
 * input and an output part, of input_width and output_width weights of 4, 2 or 1 bytes (of bfloat16, up to 16 weights
 * that are left of a multiple of 32 take 4 bytes each, and more of them 64); nodes of a leaf layer have the input part
 * only. If both parts come to at most 64 bytes, the row takes the next power of two; else each is rounded up to a
 * multiple of 64, and 128 are added if that makes a multiple of 4096. A row of int8 input weights takes 12 more, one of
 * int8 output weights 4, a threshold 4. Exact routes take 8 more a node, and its float32 input row, padded likewise,
 * unless the stored type holds the given weights without loss. Output biases are rows of floats. Of what is borrowed
 * there is nothing, and of biases that were not given, zeros. On top comes less than 1 KB, and 2 KB for each part of
 * the layer. What is more than 2 MB is rounded up to a multiple of that, and less than 1 KB, or 2 KB for each part,
 * comes on top of it. */
FFF_API size_t fff_layer_memory(const fff_layer *layer);

/* The types of a layer's stored rows, of several parts the first one's; FFF_WEIGHT_F32 for NULL. */
FFF_API fff_weight_type fff_layer_input_type(const fff_layer *layer);
FFF_API fff_weight_type fff_layer_output_type(const fff_layer *layer);

/* ---- Forward --------------------------------------------------------------------------------- */

/* How the caller shares work among threads. `run` calls task(argument, i) once for each i from 0 to
 * count - 1, in any order, on any threads, and returns when all have returned. `concurrency` is the
 * number of tasks that can usefully run at once (0 counts as 1) and bounds the workspace; `count` is
 * at most that. A forward call may call `run` more than once, or, with a single task, not at all.
 *
 * Every call of `run` is checked. Where a task has not run, or not ended, when `run` returns, or `run`
 * has called one a second time or with an index of `count` or more, the call returns FFF_ERROR_RUNNER
 * at once. Surplus calls do nothing, nor does any call of `task` that comes after FFF_ERROR_RUNNER, or
 * after success, as long as the workspace is neither freed nor used again. A call that is left over from one
 * `run`, and comes while the forward call goes on, does nothing or is one of the calls of the next `run`: it may run a
 * task there, of which `run`'s own call is surplus then. A task that still runs after FFF_ERROR_RUNNER
 * goes on reading and writing: until it has returned, the layer and all memory that the call was given
 * must stay. */
typedef struct fff_runner {
    void (*run)(void *context, size_t count, void (*task)(void *argument, size_t index), void *argument);
    void *context;
    size_t concurrency;
} fff_runner;

/* The bytes of workspace that fff_forward(), fff_route(), fff_forward_paths() and fff_accumulate() need for batches of
 * up to `batch` tokens with runners of up to `concurrency`. More of either never need less. It grows with batch
 * only up to a bound, 1024 tokens for each task or 65536 in all, and with concurrency only as far as the batch
 * can use it: it is never more than 32 KB, and for each token of the batch 512 bytes and 32 for each entry of its
 * path; where input rows are int8, 512 more and twice input_width; where routes are exact, 128 more. Of a layer of
 * several parts, or with an output bias, it is at most that for the largest part, or for each task that for 1024
 * tokens.
 * FFF_ERROR_NULL_POINTER or FFF_ERROR_OVERFLOW, with *size untouched. */
FFF_API fff_status fff_workspace_size(const fff_layer *layer, size_t batch, size_t concurrency, size_t *size);

/* output[t] = layer(input[t]) for `batch` tokens.
 *
 * input   batch x input_width, row t at input + t * input_stride; input_stride >= input_width
 * output  batch x output_width, likewise; overwritten. Only the output_width elements of each row
 *         are touched. Input and output rows may interleave, with equal strides or others, but share no
 *         element: else FFF_ERROR_OVERLAP.
 * workspace  workspace_size bytes of scratch at any alignment, used by this call alone: they may lie between
 *         rows, but none may be an element's, however many of them are needed: else FFF_ERROR_OVERLAP
 * runner  how to share the work, or NULL to stay on the calling thread
 *
 * A batch of 0 succeeds and touches nothing. Allocates nothing and takes no lock. */
FFF_API fff_status fff_forward(const fff_layer *layer, size_t batch, const float *input, size_t input_stride,
                               float *output, size_t output_stride, void *workspace, size_t workspace_size,
                               const fff_runner *runner);

/* fff_forward() for inputs and outputs that are bfloat16 or float16, one of them or both: inputs are widened exactly on
 * the way in, outputs rounded once, to nearest, ties to even, on the way out; what overflows becomes infinite. Each
 * matrix is aligned for its type. FFF_ERROR_OPTION for FFF_WEIGHT_I8. The workspace is larger, as
 * fff_workspace_size_typed() says: for each task that can run at once it has room for the float32 inputs and outputs of
 * up to 1024 tokens. All else is as for fff_forward(). */
FFF_API fff_status fff_forward_typed(const fff_layer *layer, size_t batch, fff_weight_type input_type,
                                     const void *input, size_t input_stride, fff_weight_type output_type, void *output,
                                     size_t output_stride, void *workspace, size_t workspace_size,
                                     const fff_runner *runner);

/* As fff_workspace_size(), for fff_forward_typed(). */
FFF_API fff_status fff_workspace_size_typed(const fff_layer *layer, size_t batch, size_t concurrency,
                                            fff_weight_type input_type, fff_weight_type output_type, size_t *size);

/* The routing half of fff_forward() alone: for each token the nodes visited and their logits.
 *
 * nodes   batch x path length: entry k * (depth + 1) + l is the index, within tree k, of the node
 *         visited at level l; row t at nodes + t * node_stride; node_stride >= path length. Of a leaf layer, entry
 *         k * (depth + leaf_width) + l: after the depth nodes come the neurons of the leaf, which are counted on from
 *         the tree's last node, 2^depth - 1 + leaf * leaf_width + j. Several parts follow each other.
 * logits  likewise; the logit of that node, bias included, before the activation
 *
 * None of input, nodes, logits and workspace may share an element with another; rows may interleave. */
FFF_API fff_status fff_route(const fff_layer *layer, size_t batch, const float *input, size_t input_stride,
                             uint32_t *nodes, size_t node_stride, float *logits, size_t logit_stride, void *workspace,
                             size_t workspace_size, const fff_runner *runner);

/* The other half: output[t] = sum over entries e of activation(logits[t][e]) * output_weights[nodes[t][e]].
 * Given what fff_route() wrote, it completes fff_forward() to the same bits. The nodes need not form
 * paths: any index below fff_nodes_per_tree(depth) will do, others are FFF_ERROR_NODE. Of a leaf layer, a tree's nodes
 * mean nothing, and its neurons must be those of one leaf, in order. Neither
 * output nor workspace may share an element with any other matrix; rows may interleave. */
FFF_API fff_status fff_accumulate(const fff_layer *layer, size_t batch, const uint32_t *nodes, size_t node_stride,
                                  const float *logits, size_t logit_stride, float *output, size_t output_stride,
                                  void *workspace, size_t workspace_size, const fff_runner *runner);

/* fff_forward() and fff_route() in one, with the bits of both, in less time: for training, whose backward pass wants
 * the paths. Since 0.5. */
FFF_API fff_status fff_forward_paths(const fff_layer *layer, size_t batch, const float *input, size_t input_stride,
                                     float *output, size_t output_stride, uint32_t *nodes, size_t node_stride,
                                     float *logits, size_t logit_stride, void *workspace, size_t workspace_size,
                                     const fff_runner *runner);

/* ---- Given rows ------------------------------------------------------------------------------- */

/* For layers whose neurons something else selects (product keys, experts): the two halves for rows that the caller
 * lists, `count` for each token, of a layer of one path-sum part without an output bias. rows[t][e] = tree * nodes +
 * node, else FFF_ERROR_NODE; a layer that is not such is FFF_ERROR_OPTION, and so is the sum of int8 output rows of
 * trees of depth 3 or more. A sum of no rows is zeros.
 *
 *     logits[t][e] = x[t] . input_weights[rows[t][e]] + biases[rows[t][e]]
 *     output[t]    = sum over e of factors[t][e] * output_weights[rows[t][e]]
 *
 * Strides and what may overlap are as for fff_route() and fff_accumulate(). The second applies no activation: use
 * fff_activate(), and multiply by whatever weighs the neurons. Of a layer that stores int8 input rows, inputs are
 * quantised as in fff_forward(). fff_dot_rows() needs a workspace of fff_workspace_size(layer, 1, 1), both run on the
 * calling thread, and tokens may be shared among threads by calls of their own. */
FFF_API fff_status fff_dot_rows(const fff_layer *layer, size_t batch, size_t count, const float *input,
                                size_t input_stride, const uint32_t *rows, size_t row_stride, float *logits,
                                size_t logit_stride, void *workspace, size_t workspace_size);
FFF_API fff_status fff_sum_rows(const fff_layer *layer, size_t batch, size_t count, const uint32_t *rows,
                                size_t row_stride, const float *factors, size_t factor_stride, float *output,
                                size_t output_stride);

/* activations[i] = activation(logits[i]), with the same bits as inside a layer, for dense code that
 * wants to match. In place is allowed; any other overlap is FFF_ERROR_OVERLAP. FFF_SLEEF_RECORDED probes
 * SLEEF in every call, where the activation uses it, which takes as long as some 20 logits: for a few logits at a time
 * rather call fff_sleef_check() once, and this with FFF_SLEEF_ANY. */
FFF_API fff_status fff_activate(fff_isa isa, fff_activation activation, fff_sleef sleef, size_t count,
                                const float *logits, float *activations);

/* ---- Training: since 0.5 ----------------------------------------------------------------------- */

/* Rows of floats in the caller's memory, row r's columns from data + r * stride on. */
typedef struct fff_gradient_rows {
    float *data; /* NULL: not wanted */
    size_t stride;
} fff_gradient_rows;

/* Where fff_backward() puts the gradients of one part's weights. Zero it, then set struct_size = sizeof(fff_gradients).
 *
 * A row of a gradient belongs to a neuron: of a path sum a node, of a leaf layer a neuron of a leaf (nodes that only
 * route have no gradient). There are two ways. Without `rows` a gradient has as many rows as the part has neurons, and
 * what the batch contributes is added to them: rows of neurons that no token met are not touched. With `rows`, a list
 * of row_count different neurons in ascending order, which holds at least those that fff_visited_rows() lists, and of a
 * leaf all neurons or none, row i belongs to neuron rows[i], and is overwritten. */
typedef struct fff_gradients {
    size_t struct_size;
    const uint32_t *rows; /* or NULL */
    size_t row_count;
    fff_gradient_rows input_weights;  /* input_width columns; of a leaf layer, the gradient of leaf_weights */
    float *biases;                    /* one a row, or NULL; of a leaf layer, of leaf_biases */
    fff_gradient_rows output_weights; /* output_width columns */
    fff_gradient_rows
        leaf_output_biases;           /* output_width columns, for each leaf_width rows one: of these neurons' leaf */
    float *output_bias;               /* of the first part only: output_width floats, which are added to; or NULL */
    const struct fff_gradients *next; /* of the layer's next part; NULL after the last */
} fff_gradients;

/* The bytes of workspace that fff_visited_rows() and fff_backward() need, as fff_workspace_size() tells those of the
 * other calls: it grows with the batch up to a bound. */
FFF_API fff_status fff_backward_workspace_size(const fff_layer *layer, size_t batch, size_t concurrency, size_t *size);

/* The neurons of a part (counted from 0) that the tokens of a batch have met, in ascending order: rows[0] to
 * rows[*count - 1]. `rows` has room for `capacity`, at least as many as there can be, else FFF_ERROR_WORKSPACE: the
 * smaller of the part's neurons and of batch times those that a token meets. `nodes` is what fff_route() wrote. */
FFF_API fff_status fff_visited_rows(const fff_layer *layer, size_t part, size_t batch, const uint32_t *nodes,
                                    size_t node_stride, uint32_t *rows, size_t capacity, size_t *count, void *workspace,
                                    size_t workspace_size);

/* The backward pass: of some loss, given its gradient by the outputs, g, those by inputs and weights. With what
 * fff_route() wrote for the batch, for each token and each neuron p on its path, z its logit, f the part's factor:
 *
 *     slope                          = f (output_weights[p] . g) activation'(z)
 *     gradient of the input         += slope input_weights[p]
 *     gradient of input_weights[p]  += slope x
 *     gradient of biases[p]         += slope
 *     gradient of output_weights[p] += f activation(z) g
 *
 * This is the gradient by hard routes, of which the routing itself has none, as in the published training code of the
 * path sum. Sums run over tokens in their order, over a path in its order, so gradients have the same bits on every
 * instruction set and for every number of threads; and to add those of a batch to the same dense gradients in several
 * calls, one after the other, gives those of one.
 *
 * input, output_gradient   batch rows, read
 * nodes, logits            as fff_route() writes them; nodes need not form paths, as for fff_accumulate()
 * input_gradient           batch x input_width, overwritten; or NULL
 * gradients                one for each part, linked by `next`; or NULL
 *
 * What is written may share no element with anything else, nor with the weights of a layer that borrows them. Of layers
 * that store float32 rows only: else FFF_ERROR_OPTION. FFF_ERROR_NODE, too, if `rows` lacks a neuron that was met or
 * does not ascend; FFF_ERROR_PARTS if gradients are not as many as parts; FFF_ERROR_SLEEF, too, for GELU, whose
 * derivative needs SLEEF's exp. A batch of 0 adds nothing, and clears the gradients of listed rows; other pointers may
 * be anything then. Allocates nothing. */
FFF_API fff_status fff_backward(const fff_layer *layer, size_t batch, const float *input, size_t input_stride,
                                const uint32_t *nodes, size_t node_stride, const float *logits, size_t logit_stride,
                                const float *output_gradient, size_t output_gradient_stride, float *input_gradient,
                                size_t input_gradient_stride, const fff_gradients *gradients, void *workspace,
                                size_t workspace_size, const fff_runner *runner);

/* gradients[i] = upstream[i] * activation'(logits[i]), with the same bits on every instruction set. Since 0.5. The
 * derivative of RELU and RELU2 at 0 is 0; at an infinity it is the limit; of a NaN it is NaN, but 1 for IDENTITY.
 * Gradients may be the same memory as upstream or logits; any other overlap with them is FFF_ERROR_OVERLAP. The
 * derivatives of GELU, GELU_TANH and SILU use SLEEF's exp, which FFF_SLEEF_RECORDED probes as for fff_activate(). */
FFF_API fff_status fff_differentiate(fff_isa isa, fff_activation activation, fff_sleef sleef, size_t count,
                                     const float *logits, const float *upstream, float *gradients);

/* What fff_adam_rows() is told. Since 0.5. */
typedef struct fff_adam {
    size_t struct_size;   /* sizeof(fff_adam) */
    double learning_rate; /* 0 or more, and finite, like epsilon and weight_decay */
    double beta1, beta2;  /* 0 or more, and below 1 */
    double epsilon;
    double weight_decay; /* decoupled: weights shrink by learning_rate * weight_decay of themselves; 0 for none */
    uint64_t step;       /* 1 for the first */
} fff_adam;

/* A step of AdamW (arXiv 1711.05101, algorithm 2) for some rows of a matrix of weights, with the same bits on every
 * instruction set. Since 0.5. For each row, elementwise,
 *
 *     m = beta1 m + (1 - beta1) g
 *     v = beta2 v + (1 - beta2) g^2
 *     r = (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + epsilon)
 *     w = w - learning_rate (weight_decay w + r)
 *
 * Rows that are not listed stay as they are: their moments do not fade, their weights do not decay, and when they are
 * listed next nothing is made up for.
 *
 * rows       `count` rows of the weights, in ascending order, none of them twice, each below row_limit: else
 *            FFF_ERROR_NODE. NULL: rows 0 to count - 1
 * gradients  count x width: gradient i, at gradients + i * gradient_stride, is that of row rows[i]
 * weights, first_moments, second_moments    row_limit x width; m and v begin as zeros
 *
 * Strides are at least width. The three matrices that change share no element with each other, with gradients or with
 * rows, listed or not, though rows may interleave: else FFF_ERROR_OVERLAP. Settings that are out of range, or come to a
 * rate that is no float, are FFF_ERROR_NUMBER. A count of 0 touches nothing; a width of 0 is FFF_ERROR_SHAPE.
 * Runs on the calling thread; calls for different rows of the same matrices may run at the same time. */
FFF_API fff_status fff_adam_rows(fff_isa isa, const fff_adam *settings, size_t count, const uint32_t *rows,
                                 size_t row_limit, size_t width, const float *gradients, size_t gradient_stride,
                                 float *weights, size_t weight_stride, float *first_moments, size_t first_stride,
                                 float *second_moments, size_t second_stride);

#ifdef __cplusplus
}
#endif

#endif
