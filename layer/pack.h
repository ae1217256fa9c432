/* Weights on their way from the caller's matrices into a layer's rows. */
#ifndef FFF_PACK_H
#define FFF_PACK_H

#include "layer/layer.h"

enum { FFF_HUGE_PAGE = 2 << 20 };

/* Where things lie in a layer's memory, in bytes. */
struct fff_packing {
    fff_weight_type input_type, output_type; /* as stored */
    bool exact;                              /* float32 input rows are kept, too */
    size_t rows, output_offset, row_stride;
    size_t biases, input_scales, input_sums, output_scales; /* arrays of one a row */
    size_t exact_rows, exact_stride, errors, norms;
    size_t alignment, bytes;
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

/* Plans the memory for a description that was checked; false if it overflows. */
bool fff_lay_out(const fff_layer_desc *desc, struct fff_packing *packing);

/* Fills a layer's memory and its `trees`, `exact` and types. FFF_ERROR_WEIGHT or FFF_ERROR_SCALE, with the place in the
 * description's bad_weight, if something does not fit. */
fff_status fff_pack(const fff_layer_desc *desc, const struct fff_packing *packing, fff_layer *layer);

#endif
