/* The layer behind the public header's opaque type. */
#ifndef FFF_LAYER_H
#define FFF_LAYER_H

#include "kernels/kernels.h"

#include <fff/fff.h>

/* What exact routes need besides the narrow rows. */
struct fff_exact {
    struct fff_trees trees;          /* the float32 input rows */
    fff_node_dot_function *node_dot; /* for them */
    const float *errors; /* one a row: norm of its rounding error, and what rounding in both dot products may add */
    const float *norms;  /* one a row: norm of the narrow row */
    float norm_factor, error_factor, norm_limit; /* for all tokens */
};

struct fff_layer {
    struct fff_trees trees; /* the packed weights, in `memory` */
    fff_weight_type input_type, output_type;
    const float *output_scales; /* one a row, if output rows are int8 */
    bool exact_routes;          /* `exact` is in use */
    struct fff_exact exact;
    const struct fff_kernels *kernels;
    fff_activation activation;
    fff_isa isa;
    size_t path_length;    /* trees * levels */
    size_t l2_bytes;       /* of this machine's second-level cache */
    size_t block;          /* tokens whose inputs stay in L2; several times as many for several small trees */
    size_t group;          /* trees whose output rows stay in L2; of depth 0, whose rows of both matrices do */
    size_t group_of_token; /* trees whose output rows on a single token's paths do */
    size_t finish_tokens;  /* tokens whose activations of such a group are computed at once */
    bool large_trees;   /* a tree exceeds L2, so it is worth while to fetch its rows once for many blocks of tokens */
    size_t memory_size; /* of `memory`, in bytes */
    void *memory;       /* rows, each with input and output weights side by side; then what else there is a row */
    fff_allocator allocator;
};

/* Whether rows do not all stay in L2, so that they are fetched ahead. */
static inline bool fff_beyond_l2(const struct fff_trees *trees) {
    return trees->near_levels < trees->level_count;
}

/* The kernels for a layer's input rows, and for its output rows. */
static inline const struct fff_row_kernels *fff_input_kernels(const fff_layer *layer) {
    return layer->kernels->rows[layer->input_type];
}
static inline const struct fff_row_kernels *fff_output_kernels(const fff_layer *layer) {
    return layer->kernels->rows[layer->output_type];
}

#endif
