/* The layer's definition, written a second time from docs/numerics.md, with nothing of the library but
 * its activations: what the library must match bit for bit. */
#ifndef FFF_TESTS_DEFINITION_H
#define FFF_TESTS_DEFINITION_H

#include <fff/fff.h>

/* One token through the layer that `desc` describes, of float32 weights and any parts: as many nodes and logits as a
 * path has, and output_width outputs. */
void define_token(const fff_layer_desc *desc, const float *input, uint32_t *nodes, float *logits, float *output);

#endif
