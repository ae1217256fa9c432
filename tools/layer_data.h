/* A layer's numbers as the tools hold them: the weights as PyTorch stores them, some input, and what
 * another program computed from it, if known. */
#ifndef FFF_TOOLS_LAYER_DATA_H
#define FFF_TOOLS_LAYER_DATA_H

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
    size_t rows; /* trees * nodes per tree */
    fff_activation activation;
    fff_routing routing;
    fff_sleef sleef;       /* what is accepted of layers made of this */
    float *input_weights;  /* rows x input_width: float32, whatever was given */
    float *biases;         /* rows, or NULL */
    float *output_weights; /* output_width x rows, likewise */
    struct given_weights given_input, given_output;
    struct store store;
    fff_bad_weight *bad_weight; /* NULL, or where it is told which weight a layer refused */
    fff_safetensors *file;      /* that given weights lie in, or NULL */
    /* Not NULL where input_weights or output_weights are integers, of int8 rows that a layer stores: their scales, one
     * a node (tools/stored_numbers.h). With scales of input weights, tokens are quantised, too. */
    float *integer_input_scales, *integer_output_scales;
    size_t batch;
    float *input;           /* batch x input_width */
    float *expected_output; /* batch x output_width, or NULL */
    int32_t *expected_path; /* batch x trees x (depth + 1), or NULL */
};

/* An activation's name in a layer file, in any case; *activation is untouched where it is none. */
#define ACTIVATION_NAMES "GELU, GELU_tanh, ReLU, ReLU2, SiLU, identity"
bool activation_by_name(const char *name, fff_activation *activation);
const char *activation_name(fff_activation activation);

/* Reads a layer file (path_*.safetensors: linear_in.weight, linear_in.bias, linear_out.weight, and
 * optionally input, output, path). Weights are F32, BF16, F16 or I8, each matrix for itself; those of I8 have scales in
 * F32, linear_in.weight_scales and linear_out.weight_scales, one a node. Biases are F32, BF16 or F16. Without an input,
 * a seeded one of 64 tokens is made. Returns 0, or -1 with one line in `error` and nothing to free. */
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

/* The description that makes a layer of it: of the given weights in their types, stored as `store` says; and one that
 * makes the float32 layer of the same numbers. */
fff_layer_desc layer_data_desc(const struct layer_data *data, fff_isa isa);
fff_layer_desc layer_data_float32_desc(const struct layer_data *data, fff_isa isa);

/* What is stored where that is chosen, or left open. */
fff_weight_type stored_type(fff_weight_choice choice, fff_weight_type given);
/* Whether a layer that stores such weights computes another function than the float32 layer of the given ones: by
 * rounded weights, or, of int8, otherwise. */
bool stored_differs(fff_weight_type given, fff_weight_type stored);

/* The types that such a layer stores. */
fff_weight_type stored_input_type(const struct layer_data *data);
fff_weight_type stored_output_type(const struct layer_data *data);

#endif
