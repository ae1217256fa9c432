/* Whether the gradients that fff_backward() is asked for can be computed and written. */
#ifndef FFF_CHECK_GRADIENTS_H
#define FFF_CHECK_GRADIENTS_H

#include "layer/layer.h"
#include "layer/rows.h"

/* Matrices that a call is given: workspace, input gradient, input, nodes, logits, output gradient; and for each part
 * its gradients, their list and what it borrows. */
enum {
    FFF_FIXED_MATRICES = 6,
    FFF_GRADIENT_MATRICES = 5,
    FFF_BORROWED_MATRICES = 7,
    FFF_PART_MATRICES = FFF_GRADIENT_MATRICES + 1 + FFF_BORROWED_MATRICES,
};

/* Whether gradients of this layer can be computed, and are asked for part by part. */
fff_status fff_check_trainable(const fff_layer *layer, const fff_gradients *gradients);

/* Each part's gradients by themselves, and whether they share an element with the workspace, unless that is NULL. */
fff_status fff_check_gradients(const fff_layer *layer, const fff_gradients *gradients,
                               const struct fff_rows *workspace);

/* Whether what is written shares an element with anything that the layer borrows. */
bool fff_overlaps_borrowed(const fff_layer *layer, const struct fff_rows *written);

/* Whether anything that is written shares an element with anything else. `fixed` are workspace, input gradient if there
 * is one, and what is read, the first `written` of them written; `matrices` has room for FFF_FIXED_MATRICES and for
 * each part FFF_PART_MATRICES. */
bool fff_gradients_overlap(const fff_layer *layer, const fff_gradients *gradients, const struct fff_rows *fixed,
                           size_t count, size_t written, struct fff_rows *matrices);

/* Likewise, of gradients that fff_check_gradients() has accepted, where no token is given and so no room either. */
bool fff_gradients_overlap_each_other(const fff_layer *layer, const fff_gradients *gradients);

#endif
