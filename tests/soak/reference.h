/* What a layer computes, in plain loops, written from the words of docs/numerics.md alone: for every kind of part and
 * every stored type, forward and backward. It shares nothing with the library but SLEEF's exp and tanh and the table of
 * erf, which are part of the definition. The other files of tests/soak/ hold the library against it. */
#ifndef FFF_TESTS_SOAK_REFERENCE_H
#define FFF_TESTS_SOAK_REFERENCE_H

#include <fff/fff.h>
#include <stdbool.h>

/* ---- Numbers (reference_numbers.c) -------------------------------------------------------------- */

/* The number nearest to `value` that the type can hold, ties to even; of FFF_WEIGHT_F32 the value itself. Not for int8.
 */
float reference_round(fff_weight_type type, float value);
/* The 16 bits of a number that FFF_WEIGHT_BF16 or FFF_WEIGHT_F16 can hold. */
uint16_t reference_encode(fff_weight_type type, float value);

/* Replaces numbers by integers of at most `most` in size, and returns their unit: 127 for a row of weights or a token's
 * input, 32767 for the factors of a tree. */
float reference_to_integers(size_t count, float *numbers, float most);

/* 32 partial sums, and their sum. */
float reference_dot(size_t width, const float *x, const float *w);
/* Adds factor * row, each element fused. */
void reference_add_row(size_t width, float factor, const float *row, float *to);

/* ---- Activations (reference_activations.c) ------------------------------------------------------ */

float reference_activation(fff_activation kind, float z);
float reference_derivative(fff_activation kind, float z);

/* ---- Layers (reference.c) ------------------------------------------------------------------------ */

/* A matrix as a layer stores it, row after row: numbers of float32, bfloat16 or float16 as the floats that they are,
 * integers as floats, too, with a scale for each row. */
struct reference_matrix {
    size_t width;
    float *numbers;
    float *scales; /* NULL where numbers are no integers */
};

struct reference_part {
    size_t depth, trees, leaf_width;
    fff_activation activation;
    fff_routing routing;
    struct reference_matrix nodes, neurons, outputs; /* neurons: of leaves */
    const float *exact_nodes;                        /* the given rows of nodes, where routes are exact; else NULL */
    double largest_norm;                             /* of these and of the stored ones: reference_prepare() */
    const float *biases, *leaf_biases, *leaf_output_biases, *thresholds, *factor; /* or NULL */
};

struct reference_layer {
    size_t input_width, output_width, part_count;
    const struct reference_part *parts;
    const float *output_bias; /* or NULL */
};

/* A tree's nodes: of a leaf layer those that route. */
size_t reference_nodes(const struct reference_part *part);
/* What has an output row: of a path sum all nodes of all trees, of a leaf layer all neurons. */
size_t reference_neurons(const struct reference_part *part);
/* Entries of a token's path in a tree of the part, and how many of its first ones are no neurons. */
size_t reference_entries(const struct reference_part *part);
size_t reference_routers(const struct reference_part *part);
/* The neuron, an output row, which an entry of a path in a tree names. */
size_t reference_neuron(const struct reference_part *part, size_t tree, uint32_t node);

/* Fills in what is known of a part before its tokens come. */
void reference_prepare(struct reference_part *part);

/* One token's path, in the order of fff_route(). The words leave a little room in which of two logits a node with exact
 * routes has, since they do not say how its bound is rounded: there the one that is `seen` is taken, if it is one of
 * the two, and *open counts it. `scratch` has room for input_width floats. */
void reference_route(const struct reference_layer *layer, const float *input, const float *seen, float *scratch,
                     uint32_t *nodes, float *logits, uint64_t *open);
/* One token's output. The nodes of a path sum need form no path. */
void reference_accumulate(const struct reference_layer *layer, const uint32_t *nodes, const float *logits,
                          float *output);

/* fff_dot_rows() and fff_sum_rows() for one token, of a layer's only part, a path sum. */
void reference_dot_rows(const struct reference_layer *layer, const float *input, size_t count, const uint32_t *rows,
                        float *scratch, float *logits);
void reference_sum_rows(const struct reference_layer *layer, size_t count, const uint32_t *rows, const float *factors,
                        float *output);

/* ---- Training (reference_training.c) ------------------------------------------------------------- */

/* The gradients of a part's weights, a row for each neuron, and for each leaf one of its output bias. */
struct reference_gradients {
    float *input_weights, *biases, *output_weights, *leaf_output_biases;
    bool *met; /* the neurons that a token has met */
};

/* One token's share, which is added to the gradients of all parts; its input's gradient is overwritten. Of layers that
 * store float32. */
void reference_backward(const struct reference_layer *layer, const float *input, const uint32_t *nodes,
                        const float *logits, const float *output_gradient, float *input_gradient,
                        struct reference_gradients *parts, float *output_bias);

/* What a step of AdamW has for all weights. */
struct reference_adam {
    float beta1, beta2, take1, take2, epsilon, root, rate, decay;
};
struct reference_adam reference_adam_step(const fff_adam *settings);
void reference_adam_weight(const struct reference_adam *step, float gradient, float *weight, float *first_moment,
                           float *second_moment);

#endif
