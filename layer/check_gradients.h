/* Whether the gradients that fff_backward() is asked for can be computed and written. */
#ifndef FFF_CHECK_GRADIENTS_H
#define FFF_CHECK_GRADIENTS_H

#include "layer/layer.h"
#include "layer/rows.h"

/* Matrices that a call is given: workspace, input gradient, input, nodes, logits, output gradient. */
enum { FFF_FIXED_MATRICES = 6 };

/* Whether gradients of this layer can be computed, and are asked for part by part. */
fff_status fff_check_trainable(const fff_layer *layer, const fff_gradients *gradients);

/* Each part's gradients, and their list, by themselves. */
fff_status fff_check_gradients(const fff_layer *layer, const fff_gradients *gradients);

/* Whether anything that is written shares an element with anything else: gradients that were checked, what the layer
 * borrows, and `fixed`, the first `written` of which are written: workspace, and input gradient if there is one. */
bool fff_gradients_overlap(const fff_layer *layer, const fff_gradients *gradients, const struct fff_rows *fixed,
                           size_t count, size_t written);

#endif
