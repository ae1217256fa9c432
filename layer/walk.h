/* A batch's way down one tree, and what is done at its end. */
#ifndef FFF_WALK_H
#define FFF_WALK_H

#include "layer/exact.h"
#include "layer/layer.h"

/* Some tokens and some trees: what a walk reads and writes. Arrays that are indexed by token begin with
 * the first token of the walk; token numbers are 32 bits. */
struct fff_walk {
    const struct fff_part *part;
    size_t first_tree;          /* of the part, in this walk */
    struct fff_trees trees;     /* those of the walk: a view of the part's; of a leaf layer, one */
    const float *output_scales; /* of their int8 output rows; NULL for others */
    const void *input;          /* as its kernels take them: token t at input + t * input_stride bytes */
    size_t input_stride;
    const struct fff_exact_token *tokens; /* where routes are exact; else NULL */
    uint32_t *nodes; /* token t's node in tree k: nodes[t * trees.tree_count + k]; in the end, its leaf,
                        a node of the last level or one below it */
    float *logits;   /* token t's entry e (tree by tree, level by level): logits[t * logit_stride + e] */
    size_t logit_stride;
    bool roots_known;      /* the logits of level 0 are there already */
    bool inputs_beyond_l2; /* inputs come from beyond L2, as rows do */
    size_t first_level;    /* where the walk begins, and inputs are read for the first time */

    /* What is done with tokens that have reached their leaves in all trees of the walk. */
    void (*finish)(const struct fff_walk *walk, size_t count, const uint32_t *tokens, float *activations,
                   uint32_t *paths);
    uint32_t *routed_nodes; /* where paths are asked for: token t's entry e at routed_nodes[t * routed_stride + e] */
    size_t routed_stride;
    float *output; /* where outputs are: token t's at output + t * output_stride */
    size_t output_stride;
    unsigned write;       /* as `accumulate` takes it */
    size_t output_level;  /* where outputs are fetched */
    size_t finish_tokens; /* as many at once as finish() has memory for */
};

/* The tokens order[0..count-1], all at one node of level `from` in tree `tree`, from there to before level `to`. They
 * end in order of their nodes. `scratch` has room for as many tokens. With `activations` other than NULL `to` is below
 * the leaves, and each token is finished once there: both it and `paths` have room for finish_tokens paths of the
 * walk's trees. */
void fff_walk_down(const struct fff_walk *walk, size_t tree, size_t from, size_t to, size_t count, uint32_t *order,
                   uint32_t *scratch, float *activations, uint32_t *paths);

/* Calls finish for any number of tokens. */
void fff_walk_finish(const struct fff_walk *walk, size_t count, const uint32_t *tokens, float *activations,
                     uint32_t *paths);

/* The paths of tokens at their leaves, token i's at paths + tokens[i] * stride if `by_token`, else at paths + i *
 * stride. Where routes are exact, they and the logits are settled. */
void fff_find_paths(const struct fff_walk *walk, size_t count, const uint32_t *tokens, uint32_t *paths, size_t stride,
                    bool by_token);

/* Makes factors of one token's activations, for `accumulate`: of int8 output rows, times their scales, which are NULL
 * of others; and times the part's factor. Without nodes, of roots. */
void fff_scale_factors(const struct fff_part *part, const struct fff_trees *trees, const float *output_scales,
                       const uint32_t *nodes, float *factors);

/* The ways to finish: tokens at the leaves of path sums. layer/leaves.h has those of leaf layers. */
void fff_finish_route(const struct fff_walk *walk, size_t count, const uint32_t *tokens, float *activations,
                      uint32_t *paths);
void fff_finish_forward(const struct fff_walk *walk, size_t count, const uint32_t *tokens, float *activations,
                        uint32_t *paths);
void fff_finish_paths(const struct fff_walk *walk, size_t count, const uint32_t *tokens, float *activations,
                      uint32_t *paths); /* both */

#endif
