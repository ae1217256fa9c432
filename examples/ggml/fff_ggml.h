/* FFF layers in ggml graphs: copy this file and fff_ggml.c into a project that uses ggml, and link it with libfff.
 *
 *     fff_ggml_layer *layer;       the packed weights, from ggml tensors; immutable
 *     fff_ggml_operator *ffn;      what computing it needs: workspace, and where threads meet
 *     fff_ggml_layer_create(&weights, &layer);
 *     fff_ggml_operator_create(layer, largest_batch, threads, &ffn);
 *     ...
 *     fff_ggml_forward(ctx, ffn, x, &y);      in the function that builds the graph, in place of mul_mat, gelu, mul_mat
 *
 * The node runs on the CPU backend, on all of ggml's own threads at once, whatever number a computation is given. Its
 * output has the same bits as fff_forward() called directly, for every number of threads.
 *
 * Status: functions return FFF_OK, another fff_status from libfff, or one of fff_ggml_status; what a failed call would
 * have made is left as it was. Nothing is printed. Shapes are given as ggml does, [ne0, ne1, ...], ne0 being adjacent
 * in memory.
 */
#ifndef FFF_GGML_H
#define FFF_GGML_H

#include <fff/fff.h>
#include <ggml.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Beside those of fff_status, which are smaller. */
enum fff_ggml_status {
    FFF_GGML_ERROR_TYPE = 100, /* a type that is not taken there, or not the operator's */
    FFF_GGML_ERROR_SHAPE,      /* the weights' shapes do not fit each other, or depth and trees */
    FFF_GGML_ERROR_WIDTH,      /* the input's ne0 is not the layer's input width */
    FFF_GGML_ERROR_STRIDE,     /* the elements of a row, or its blocks, are not adjacent, or rows overlap */
    FFF_GGML_ERROR_DATA,       /* a weight tensor has no data yet, or has it where the CPU cannot read it */
    FFF_GGML_ERROR_BATCH,      /* more tokens than the operator was made for */
    FFF_GGML_ERROR_COUNT,      /* a largest batch or a number of threads below 1 or too large */
    FFF_GGML_ERROR_CONTEXT,    /* the ggml context has no room for another tensor */
};

/* A sentence about a status of this file or of libfff; never NULL, valid for ever. */
const char *fff_ggml_status_text(int status);

/* What a layer is made of. Zero it and set what matters; zero is libfff's default for activation (GELU, erf), routing
 * and isa. Rows are trees * nodes, with fff_nodes_per_tree(depth) nodes a tree. Each tensor has a type of its own. */
typedef struct fff_ggml_weights {
    const struct ggml_tensor *input_weights;  /* linear_in.weight: [input width, rows] */
    const struct ggml_tensor *biases;         /* linear_in.bias: [rows], or NULL for zeros */
    const struct ggml_tensor *output_weights; /* linear_out.weight as PyTorch stores it: [rows, output width] */
    size_t depth;
    size_t trees;
    fff_activation activation;
    fff_routing routing;
    fff_isa isa;
    fff_weight_choice store_input;  /* the stored input rows; default: as given, or int8 if the tensor is quantised */
    fff_weight_choice store_output; /* the stored output rows; likewise */
    fff_routes routes;              /* FFF_ROUTES_EXACT: by the given input weights, as float32 */
    fff_bad_weight *bad_weight;     /* NULL, or which weight FFF_ERROR_WEIGHT means */
    /* A leaf layer (arXiv 2308.14711), if leaf_weights is not NULL: a tree has 2^depth - 1 nodes, which only route, and
     * 2^depth leaves. The arrays of the package fastfeedforward, whose last dimension is ggml's first, are
     *
     *     input_weights       node_weights: [input width, trees * nodes]; NULL if depth is 0
     *     biases              node_biases: [1, trees * nodes] or [trees * nodes], or NULL
     *     leaf_weights        w1s: [leaf width, input width, trees * leaves]
     *     leaf_biases         b1s: [leaf width, trees * leaves], or NULL
     *     output_weights      w2s: [output width, leaf width, trees * leaves]
     *     leaf_output_biases  b2s: [output width, trees * leaves], or NULL
     *
     * and its defaults FFF_ACTIVATION_RELU and FFF_ROUTING_GREATER_EQUAL, which are to be set. store_input and routes
     * are those of input_weights and leaf_weights alike, which are of one type, or both quantised. */
    const struct ggml_tensor *leaf_weights;
    const struct ggml_tensor *leaf_biases;
    const struct ggml_tensor *leaf_output_biases;
    /* Of either layer. */
    const struct ggml_tensor *thresholds;  /* [rows], of leaves [trees * nodes]: logits' limits; NULL: 0 */
    const float *factor;                   /* one number that multiplies what the part adds; NULL: 1 */
    const struct ggml_tensor *output_bias; /* [output width], of the first part alone, or NULL */
    const struct fff_ggml_weights *next;   /* another part of the layer, whose sums are added; NULL: there is none */
} fff_ggml_weights;

typedef struct fff_ggml_layer fff_ggml_layer;
typedef struct fff_ggml_operator fff_ggml_operator;

/* Packs a copy of the weights: the tensors may go afterwards. F32, F16 and BF16 are read where they lie, with any
 * strides (so ggml_transpose() of node-major output weights will do). What ggml has quantised (Q8_0, Q4_K, ...) is
 * dequantised by ggml's own to_float, since its scales belong to blocks of a row where libfff's int8 has one a row: so
 * int8, the default there, rounds once more. Its blocks lie along ne0, or, in a ggml_transpose(), along ne1; a square
 * of one block a side, which does not tell, is FFF_GGML_ERROR_STRIDE. Of three dimensions, the leaves of w2s, and those
 * of any quantised tensor, lie one after another. Biases and thresholds are adjacent, F32, F16 or BF16, and become
 * float32. The caller owns *layer until fff_ggml_layer_destroy(), which must come after that of its operators. */
int fff_ggml_layer_create(const fff_ggml_weights *weights, fff_ggml_layer **layer);
void fff_ggml_layer_destroy(fff_ggml_layer *layer); /* NULL is allowed */

/* The layer behind it, to be asked for its instruction set or memory, or to be called directly; NULL for NULL. */
const fff_layer *fff_ggml_layer_behind(const fff_ggml_layer *layer);

/* Allocates the workspace for up to max_tokens tokens in a node (llama.cpp: n_ubatch) and max_threads threads that work
 * at once; further threads of ggml's then wait. Nothing is allocated later. The operator may stand behind any number
 * of nodes of graphs that are computed one after another. Graphs computed at the same time need one each, for one
 * layer or for several. The caller owns *op and may destroy it when no graph that uses it will be computed again. */
int fff_ggml_operator_create(const fff_ggml_layer *layer, int64_t max_tokens, int max_threads, fff_ggml_operator **op);
/* Likewise, for inputs and outputs of other types than F32: F16 or BF16, one of them or both. Inputs are widened to
 * float32, which is exact, outputs rounded once. The workspace is larger, by up to 1024 tokens for each thread. */
int fff_ggml_operator_create_typed(const fff_ggml_layer *layer, int64_t max_tokens, int max_threads,
                                   enum ggml_type input_type, enum ggml_type output_type, fff_ggml_operator **op);
void fff_ggml_operator_destroy(fff_ggml_operator *op); /* NULL is allowed */

/* Adds a node to a graph: *y = layer(x), [output width, x->ne1, x->ne2, x->ne3], of the operator's output type.
 *
 * x   of its input type, [input width, any, any, any]; a view whose rows are contiguous may have any other strides.
 *     One whose rows do not follow at one distance is computed in as many calls as it has runs of rows that do.
 *
 * An empty x gives an empty *y, and computes nothing. */
int fff_ggml_forward(struct ggml_context *ctx, fff_ggml_operator *op, struct ggml_tensor *x, struct ggml_tensor **y);

/* The first failure of a computation since the last call of this function, or FFF_OK. ggml gives an operator no way to
 * report one. What was checked when the graph was built does not fail, so this tells of tensors changed since, and of
 * an output placed over its input. The node's output is then all NaN. Not to be called during a computation. */
int fff_ggml_operator_status(fff_ggml_operator *op);

#ifdef __cplusplus
}
#endif

#endif
