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

/* The leaves of a part's trees, each a small dense layer. */
struct fff_leaves {
    size_t width; /* neurons of a leaf; 0: the part is a path sum */
    size_t count; /* of a tree: 2^depth */
    /* All neurons, those of leaf l of tree k from row (k * count + l) * width on: as many trees of a single node. */
    struct fff_trees neurons;
    const unsigned char *bias_rows; /* an output row of floats a leaf, so many bytes apart; NULL: none */
    size_t bias_stride;
    const struct fff_row_kernels *bias_kernels; /* for them */
    size_t at_once;                             /* neurons whose rows stay in L2 */
};

/* Trees of one kind and shape, which one descriptor describes: a layer is a list of them. */
struct fff_part {
    struct fff_trees trees;   /* the nodes, of which those of a path sum are its neurons, too */
    struct fff_leaves leaves; /* where they are not */
    fff_weight_type input_type, output_type;
    const float *output_scales; /* one a neuron, if output rows are int8 */
    bool exact_routes;          /* `exact` is in use */
    bool borrowed;              /* rows and biases are the caller's */
    bool large_trees; /* a tree exceeds L2, so it is worth while to fetch its rows once for many blocks of tokens */
    struct fff_exact exact;
    const struct fff_kernels *kernels;
    const struct fff_row_kernels *input_kernels, *output_kernels; /* for the rows */
    fff_activation activation;
    float factor;          /* of all activations */
    size_t path_length;    /* entries of a token's path */
    size_t l2_bytes;       /* of this machine's second-level cache */
    size_t block;          /* tokens whose inputs stay in L2; several times as many for several small trees */
    size_t group;          /* trees whose output rows stay in L2; of depth 0, whose rows of both matrices do */
    size_t group_of_token; /* trees whose output rows on a single token's paths do */
    size_t finish_tokens;  /* tokens whose activations of such a group are computed at once */
};

struct fff_layer {
    size_t input_width, output_width;
    size_t path_length; /* of all parts */
    fff_isa isa;
    bool any_sleef;           /* whichever SLEEF is loaded will do */
    const float *output_bias; /* in `memory`, or borrowed; NULL: none */
    size_t memory_size;       /* of `memory`, in bytes */
    void *memory;             /* all parts' weights */
    fff_allocator allocator;
    size_t part_count;
    struct fff_part parts[];
};

/* Whether a layer is nothing but one part, whose outputs begin from zeros. */
static inline bool fff_is_one_part(const fff_layer *layer) {
    return layer->part_count == 1 && layer->output_bias == NULL;
}

/* `count` of some trees, from `first` on. */
static inline struct fff_trees fff_some_trees(const struct fff_trees *all, size_t first, size_t count) {
    struct fff_trees some = *all;
    size_t rows = first * all->node_count;
    some.input_rows += rows * all->row_stride;
    some.output_rows += rows * all->output_row_stride;
    some.biases += rows;
    if (all->input_scales != NULL) {
        some.input_scales += rows;
        some.input_sums += rows;
    }
    if (all->thresholds != NULL) {
        some.thresholds += rows;
    }
    some.tree_count = count;
    return some;
}

/* How many of a tree's levels route, and how many have logits: a path sum's last level only has a neuron. */
static inline size_t fff_routing_levels(const struct fff_part *part) {
    return part->leaves.width > 0 ? part->trees.level_count : part->trees.level_count - 1;
}

/* Whether rows do not all stay in L2, so that they are fetched ahead. */
static inline bool fff_beyond_l2(const struct fff_trees *trees) {
    return trees->near_levels < trees->level_count;
}

/* The kernels for float32 rows of that width in the caller's memory, which may end with a row's last column. */
static inline const struct fff_row_kernels *fff_callers_kernels(const struct fff_kernels *kernels, size_t width) {
    return width % FFF_ROW_STEP == 0 ? kernels->rows[FFF_WEIGHT_F32] : kernels->exact_f32;
}

/* The kernels for a part's input rows, and for its output rows. */
static inline const struct fff_row_kernels *fff_input_kernels(const struct fff_part *part) {
    return part->input_kernels;
}
static inline const struct fff_row_kernels *fff_output_kernels(const struct fff_part *part) {
    return part->output_kernels;
}

#endif
