/* A layer's numbers as the tools hold them: the weights as PyTorch stores them, some input, and what
 * another program computed from it, if known. A layer of several parts is a list of them. */
#ifndef FFF_TOOLS_FILES_LAYER_DATA_H
#define FFF_TOOLS_FILES_LAYER_DATA_H

#include "bert/safetensors.h"

#include <fff/fff.h>
#include <stdbool.h>

/* A weight matrix in the type that its file has it in. */
struct given_weights {
    fff_weight_type type;
    const void *data; /* in the file's mapping, where it is aligned there; NULL: float32, which layer_data holds */
    float *scales;    /* of int8: one a node */
    void *aligned;    /* a copy of what is not */
};

/* What layers made of this are to store: nothing said, the given types. */
struct store {
    fff_weight_choice input, output;
    fff_routes routes;
};

bool store_is_narrow(const struct store *store); /* of float32 weights, that is */

struct layer_data {
    size_t input_width, output_width, depth, trees;
    size_t leaf_width; /* 0: a path sum; else a leaf layer, of leaves of so many neurons */
    size_t rows; /* of input_weights: trees * nodes per tree; of a leaf layer after them trees * leaves * leaf_width */
    fff_activation activation;
    fff_routing routing;
    fff_sleef sleef;           /* what is accepted of layers made of this */
    float *input_weights;      /* rows x input_width: float32, whatever was given */
    float *biases;             /* rows, or NULL */
    float *output_weights;     /* output_width x output_rows(), likewise */
    float *thresholds;         /* one a node, or NULL */
    float *factor;             /* one number, or NULL */
    float *output_bias;        /* of the first part: output_width, or NULL */
    float *leaf_output_biases; /* trees * leaves x output_width, or NULL */
    struct given_weights given_input, given_output;
    struct store store;
    fff_bad_weight *bad_weight; /* NULL, or where it is told which weight a layer refused */
    fff_safetensors *file;      /* that given weights lie in, or NULL */
    /* Not NULL where input_weights or output_weights are integers, of int8 rows that a layer stores: their scales, one
     * a node (tools/dense/stored_numbers.h). With scales of input weights, tokens are quantised, too. */
    float *integer_input_scales, *integer_output_scales;
    size_t batch;
    float *input;            /* batch x input_width */
    float *expected_output;  /* batch x output_width, or NULL */
    float *expected_with_b2; /* likewise, of a leaf layer: with leaf_output_biases, which expected_output is without */
    int32_t *expected_path;  /* batch x layer_path_length(), or NULL */
    bool is_part;            /* its file has parts, be it one */
    struct layer_data *next; /* the layer's next part, or NULL. Input and expected results are the first one's. */
};

/* Of one part. A tree's nodes; those of a leaf layer only route. A tree's entries in a path. Rows of output weights:
 * all nodes, or all neurons. */
size_t nodes_of_tree(const struct layer_data *part);
size_t entries_of_tree(const struct layer_data *part);
size_t output_rows(const struct layer_data *part);
/* The row of input_weights that entry `entry` of a tree's path stands for, whose node is `node`, as fff_route() has it.
 */
size_t row_of_entry(const struct layer_data *part, size_t tree, size_t entry, uint32_t node);

/* Entries of a path, of all parts. */
size_t layer_path_length(const struct layer_data *data);

/* An activation's name in a layer file, in any case; *activation is untouched where it is none. */
#define ACTIVATION_NAMES "GELU, GELU_tanh, ReLU, ReLU2, SiLU, identity"
bool activation_by_name(const char *name, fff_activation *activation);
const char *activation_name(fff_activation activation);

/* Reads a layer file: a path sum (linear_in.weight, linear_in.bias, linear_out.weight), a leaf layer (depth,
 * node_weights, node_biases, w1s, b1s, w2s, b2s) or several parts; docs/demo.md has all tensors and metadata. Without
 * an input, a seeded one of 64 tokens is made. Returns 0, or -1 with one line in `error` and nothing to free. */
int layer_data_load(const char *path, struct layer_data *data, char *error, size_t error_size);

/* rows * columns floats for free(), at least one byte; NULL if that is too much. */
void *allocate_matrix(size_t rows, size_t columns);
/* Close to normal numbers, times `scale`. */
void fill_normal(float *values, size_t count, float scale, uint64_t *state);

/* A seeded layer whose inputs take all routes equally often. 0, or -1 when out of memory. */
int layer_data_make(struct layer_data *data, size_t input_width, size_t output_width, size_t depth, size_t trees,
                    size_t batch, uint64_t seed);

/* A copy of a description's weights, with `batch` tokens of input. 0, or -1 when out of memory. */
int layer_data_copy(struct layer_data *data, const fff_layer_desc *desc, size_t batch, const float *input);

void layer_data_free(struct layer_data *data);

/* The description that makes a layer of one part: of the given weights in their types, stored as `store` says; and one
 * that makes the float32 layer of the same numbers. */
fff_layer_desc layer_data_desc(const struct layer_data *part, fff_isa isa);
fff_layer_desc layer_data_float32_desc(const struct layer_data *part, fff_isa isa);

/* Makes the layer of all parts by one of these. *layer is untouched on failure. */
typedef fff_layer_desc layer_data_describe(const struct layer_data *part, fff_isa isa);
fff_status layer_data_create(const struct layer_data *data, fff_isa isa, layer_data_describe *describe,
                             fff_layer **layer);

/* Says of all parts what layers made of them store and accept, and where they tell what they refused. */
void layer_data_demand(struct layer_data *data, struct store store, fff_sleef sleef, fff_bad_weight *bad_weight);

/* What is stored where that is chosen, or left open. */
fff_weight_type stored_type(fff_weight_choice choice, fff_weight_type given);
/* Whether a layer that stores such weights computes another function than the float32 layer of the given ones: by
 * rounded weights, or, of int8, otherwise. */
bool stored_differs(fff_weight_type given, fff_weight_type stored);

/* The types that such a layer stores. */
fff_weight_type stored_input_type(const struct layer_data *data);
fff_weight_type stored_output_type(const struct layer_data *data);

#endif
