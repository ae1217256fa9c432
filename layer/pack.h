/* Weights on their way from the caller's matrices into a layer's rows. */
#ifndef FFF_PACK_H
#define FFF_PACK_H

#include "layer/layer.h"

/* Where the rows of nodes or of neurons lie in a layer's memory, in bytes, and the arrays of one a row. */
struct fff_row_layout {
    size_t rows, start, output_offset, stride;
    size_t biases, input_scales, input_sums, output_scales;
};

/* Where a part lies. */
struct fff_packing {
    fff_weight_type input_type, output_type; /* as stored */
    bool exact;                              /* float32 input rows are kept, too */
    bool borrowed;                           /* no rows are, and no biases but zeros */
    struct fff_row_layout nodes;             /* of a path sum with output rows */
    struct fff_row_layout neurons;           /* of leaves; else no rows */
    size_t exact_rows, exact_stride, errors, norms;
    size_t thresholds;
    size_t leaf_biases, leaf_bias_stride;
};

static inline size_t fff_element_bytes(fff_weight_type type) {
    return type == FFF_WEIGHT_F32 ? 4 : type == FFF_WEIGHT_I8 ? 1 : 2;
}

/* What a choice comes to. */
static inline fff_weight_type fff_chosen(fff_weight_choice choice, fff_weight_type by_default) {
    return choice == FFF_CHOOSE_DEFAULT ? by_default : (fff_weight_type)(choice - 1);
}
static inline fff_weight_type fff_given_output_type(const fff_layer_desc *desc) {
    return fff_chosen(desc->output_weight_type, desc->weight_type);
}

/* The nodes of a tree, whose depth is possible; and of a checked description, the rows of nodes and of leaves' neurons.
 */
static inline size_t fff_nodes_of_tree(const fff_layer_desc *desc) {
    return ((size_t)(desc->leaf_width > 0 ? 1 : 2) << desc->depth) - 1;
}
static inline size_t fff_node_rows(const fff_layer_desc *desc) {
    return desc->trees * fff_nodes_of_tree(desc);
}
static inline size_t fff_neuron_rows(const fff_layer_desc *desc) {
    return desc->trees * desc->leaf_width << desc->depth;
}

/* Plans the memory of a part whose description was checked, from *end on; false if it overflows. */
bool fff_lay_out(const fff_layer_desc *desc, size_t *end, struct fff_packing *packing);

/* Fills the part's share of a layer's memory, which is zero, and its weights and types. FFF_ERROR_WEIGHT or
 * FFF_ERROR_SCALE, with the place in the description's bad_weight, if something does not fit. */
fff_status fff_pack(const fff_layer_desc *desc, const struct fff_packing *packing, unsigned char *memory,
                    struct fff_part *part);

#endif
