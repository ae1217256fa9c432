/* The descent of a block of tokens. */
#ifndef FFF_ROUTE_H
#define FFF_ROUTE_H

#include "layer/layer.h"

/* The visited nodes and logits of `count` tokens, in the layout of fff_route(). `order` and `scratch`
 * have room for `count` entries each. */
void fff_route_block(const struct fff_layer *layer, size_t count, const float *input, size_t input_stride,
                     bool fetch_output, uint32_t *nodes, size_t node_stride, float *logits, size_t logit_stride,
                     uint32_t *order, uint32_t *scratch);

#endif
