/* The layer's definition, written a second time from docs/numerics.md, with nothing of the library but
 * its activations and their derivatives: what the library must match bit for bit. */
#ifndef FFF_TESTS_DEFINITION_H
#define FFF_TESTS_DEFINITION_H

#include <fff/fff.h>

/* One token through the layer that `desc` describes, of float32 weights and any parts: as many nodes and logits as a
 * path has, and output_width outputs. */
void define_token(const fff_layer_desc *desc, const float *input, uint32_t *nodes, float *logits, float *output);

/* Gradients of a part's neurons, a row each: input_width, 1, output_width columns; and of leaf_output_biases,
 * output_width columns a leaf. */
struct defined_gradients {
    float *input_weights, *biases, *output_weights, *leaf_output_biases;
};

/* The backward pass of such a layer, of which each gradient adds to what is there; `gradients` are one for each part.
 * The paths lie side by side. */
void define_backward(const fff_layer_desc *desc, size_t batch, const float *input, const uint32_t *nodes,
                     const float *logits, const float *output_gradient, float *input_gradient,
                     struct defined_gradients *gradients, float *output_bias);

#endif
