/* Whether nodes that a caller names are those of a layer. */
#ifndef FFF_NODES_H
#define FFF_NODES_H

#include "layer/layer.h"

/* FFF_OK, or FFF_ERROR_NODE if an entry of some token is no node of its tree or, of a leaf layer, a tree's neurons are
 * not those of one leaf, in order. */
fff_status fff_check_nodes(const fff_layer *layer, size_t batch, const uint32_t *nodes, size_t node_stride);

#endif
