/* Tokens at the leaves of a leaf layer: each leaf is a small dense layer, so it is computed as a path sum of depth 0.
 */
#ifndef FFF_LEAVES_H
#define FFF_LEAVES_H

#include "layer/walk.h"

/* The ways to finish a walk down one tree of a leaf layer (layer/walk.h). */
void fff_finish_leaves_route(const struct fff_walk *walk, size_t count, const uint32_t *tokens, float *activations,
                             uint32_t *paths);
void fff_finish_leaves_forward(const struct fff_walk *walk, size_t count, const uint32_t *tokens, float *activations,
                               uint32_t *paths);
void fff_finish_leaves_paths(const struct fff_walk *walk, size_t count, const uint32_t *tokens, float *activations,
                             uint32_t *paths); /* both */

/* Adds the sums of one token that is at leaf `leaf` of the walk's tree, where its neurons' logits are given. Each of
 * the arrays has room for as many as are computed at once. */
void fff_leaf_accumulate(const struct fff_walk *walk, size_t leaf, const float *logits, float *activations,
                         uint32_t *zeros);

#endif
