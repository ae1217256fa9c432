/* Tokens at the leaves of a leaf layer: each leaf is a small dense layer, so it is computed as a path sum of depth 0.
 */
#ifndef FFF_LEAVES_H
#define FFF_LEAVES_H

#include "layer/walk.h"

/* The two ways to finish a walk down one tree of a leaf layer (layer/walk.h). */
void fff_finish_leaves_route(const struct fff_walk *walk, size_t count, const uint32_t *tokens, float *activations,
                             uint32_t *paths);
void fff_finish_leaves_forward(const struct fff_walk *walk, size_t count, const uint32_t *tokens, float *activations,
                               uint32_t *paths);

/* The logits of some neurons, `neurons`, for each of the tokens, one token's side by side. `zeros` has room for as many
 * nodes. */
void fff_leaf_logits(const struct fff_part *part, const struct fff_trees *neurons, size_t count, const uint32_t *tokens,
                     const void *input, size_t input_stride, float *logits, uint32_t *zeros);

/* Outputs of tokens that are at leaf `leaf` of the walk's tree. Each of the arrays has room for the logits of as many
 * tokens, of the neurons that are computed at once. */
void fff_leaf_forward(const struct fff_walk *walk, size_t leaf, size_t count, const uint32_t *tokens,
                      float *activations, uint32_t *zeros);

/* The second half of that, of one token, whose logits are given. */
void fff_leaf_accumulate(const struct fff_walk *walk, size_t leaf, const float *logits, float *activations,
                         uint32_t *zeros);

/* Some neurons of a leaf of a part's tree `tree`, as trees of a single node. */
struct fff_trees fff_leaf_neurons(const struct fff_part *part, size_t tree, size_t leaf, size_t first, size_t count);

#endif
