/* What the test and the benchmark share: seeded layers, made both through ggml and directly, and what they must give. */
#ifndef FFF_GGML_EXAMPLE_H
#define FFF_GGML_EXAMPLE_H

#include "fff_ggml.h"

#include <stdbool.h>

struct shape {
    int64_t input_width, output_width;
    size_t depth, trees;
    fff_activation activation;
    bool biases;
};

/* A layer twice: as a user of ggml makes it, and from the same floats by libfff alone. */
struct example_layer {
    struct shape shape;
    struct ggml_context *ctx; /* holds the weights: F32, PyTorch's shapes */
    struct ggml_tensor *input_weights, *biases, *output_weights;
    fff_ggml_layer *layer;
    fff_layer *direct;
};

/* Uniform in [-scale, scale], from a state that is never 0. */
void fill(float *values, size_t count, float scale, uint64_t *state);
/* Aborts with the text if the status is not FFF_OK; the same for NULL. */
void must(int status, const char *what);
void *must_have(void *pointer);

/* Prints "ok" or "FAILED" and what was checked; and how many failed so far. */
void example_check(bool holds, const char *what);
int example_failures(void);

/* For bad use: prints what differs, if a status is not the expected one; and whether none has differed since the last
 * question. */
void example_expect(int status, int expected, const char *what);
bool example_all_expected(void);

struct example_layer example_create(struct shape shape, uint64_t seed);
void example_free(struct example_layer *example);
fff_ggml_weights example_weights(const struct example_layer *example);

fff_ggml_operator *example_operator(const struct example_layer *example, int64_t tokens, int threads);
struct ggml_tensor *example_node(struct ggml_context *ctx, fff_ggml_operator *op, struct ggml_tensor *x);

/* fff_forward() on the calling thread, tokens adjacent. */
void example_forward(const fff_layer *layer, struct shape shape, int64_t tokens, const float *input, float *output);

/* Whether an output agrees with the layer's definition in float64, within a bound for any order of summation. Only GELU
 * by erf. A token that passes a node so close to 0 that rounding may turn it either way counts as a tie and agrees. */
bool example_agrees(const struct example_layer *example, const float *input, const float *output, int *ties);
/* The same for a dense layer of all the nodes. */
bool example_agrees_dense(const struct example_layer *example, const float *input, const float *output);

/* A context with room for that many bytes of tensors, and for a graph. */
struct ggml_context *example_context(size_t bytes);
/* Computes a graph with that many of ggml's threads. */
void example_compute(struct ggml_cgraph *graph, int threads);

#endif
