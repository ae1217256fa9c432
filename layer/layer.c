/* Making a layer: check the description, then have the weights packed. */
#include "layer/layer.h"

#include "dispatch/dispatch.h"
#include "dispatch/fp_environment.h"
#include "kernels/toolbox.h"
#include "layer/exact.h"
#include "layer/known.h"
#include "layer/pack.h"
#include "layer/plan.h"
#include "layer/size.h"
#include "layer/system.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CACHE_LINE = 64 };

/* ---- Memory ---------------------------------------------------------------------------------- */

/* Large layers ask for 2 MB pages: a 25 MB layer is 6144 small pages, far beyond a TLB's reach. */
static void *allocate_from_system(void *context, size_t size, size_t alignment) {
    (void)context;
    return fff_system_allocate(size, alignment);
}

static void release_to_system(void *context, void *memory, size_t size) {
    (void)context;
    (void)size;
    fff_system_release(memory);
}

/* The size of the second-level cache, within reason; a guess where the system does not tell. */
static size_t l2_bytes(void) {
    size_t bytes = fff_system_l2_bytes();
    return bytes == 0 ? 1 << 20 : fff_min(fff_max(bytes, 256 << 10), 8 << 20);
}

static const fff_allocator system_allocator = {allocate_from_system, release_to_system, NULL};

/* ---- Checks ---------------------------------------------------------------------------------- */

/* The sizes of earlier versions' descriptors, which ended with `allocator`, with `sleef` and what filled up its word,
 * with `bad_weight` and with `next`. */
#define FIRST_DESC_SIZE (offsetof(fff_layer_desc, allocator) + sizeof(const fff_allocator *))
#define SECOND_DESC_SIZE (FIRST_DESC_SIZE + sizeof(void *))
#define THIRD_DESC_SIZE (offsetof(fff_layer_desc, bad_weight) + sizeof(fff_bad_weight *))
#define FOURTH_DESC_SIZE (offsetof(fff_layer_desc, next) + sizeof(const fff_layer_desc *))

/* A descriptor of any version, as this one sees it. A shorter one than ours (an older program) leaves the rest zero,
 * and must have a size that some version had; a longer one is refused unless what we do not know is zero. */
static fff_status read_desc(const fff_layer_desc *given, fff_layer_desc *desc) {
    if (given == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    size_t size = given->struct_size;
    bool earlier =
        size == FIRST_DESC_SIZE || size == SECOND_DESC_SIZE || size == THIRD_DESC_SIZE || size == FOURTH_DESC_SIZE;
    if ((!earlier && size < sizeof *desc) || !fff_rest_is_zero(given, size, sizeof *desc)) {
        return FFF_ERROR_STRUCT_SIZE;
    }
    /* What fills up a word behind an earlier version's last field may hold anything. */
    size_t known = size == SECOND_DESC_SIZE ? offsetof(fff_layer_desc, sleef) + sizeof desc->sleef : size;
    memset(desc, 0, sizeof *desc);
    memcpy(desc, given, fff_min(known, sizeof *desc));
    return FFF_OK;
}

static fff_status check_weights(const fff_weights *weights, fff_weight_type type, size_t rows, size_t columns) {
    size_t element = fff_element_bytes(type);
    if (weights->data == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    if ((uintptr_t)weights->data % element != 0) {
        return FFF_ERROR_ALIGNMENT;
    }
    size_t bytes, unused;
    if (!fff_size_extent(rows, weights->node_stride, columns, weights->column_stride, element, &bytes) ||
        !fff_size_add((uintptr_t)weights->data, bytes, &unused)) {
        return FFF_ERROR_OVERFLOW;
    }
    /* No two elements may be the same: whole rows step over each other, or whole columns do. The
     * products fit: each is at most the extent plus a stride's worth of it. */
    size_t row_span = rows > 1 ? weights->node_stride : SIZE_MAX;
    size_t column_span = columns > 1 ? weights->column_stride : SIZE_MAX;
    bool node_major = column_span > 0 && (rows == 1 || row_span > (columns - 1) * weights->column_stride);
    bool column_major = row_span > 0 && (columns == 1 || column_span > (rows - 1) * weights->node_stride);
    return node_major || column_major ? FFF_OK : FFF_ERROR_STRIDE;
}

/* Whether leaves follow one another as their neurons do, so that all neurons are rows of one matrix. */
static bool leaves_are_together(const fff_layer_desc *desc) {
    size_t together;
    return desc->leaf_stride == 0 || (fff_size_multiply(desc->leaf_width, desc->leaf_weights.node_stride, &together) &&
                                      desc->leaf_stride == together);
}

/* The neurons of leaves, which lie one after the other, or leaf after leaf. */
static fff_status check_leaf_weights(const fff_layer_desc *desc) {
    const fff_weights *weights = &desc->leaf_weights;
    size_t leaves = desc->trees << desc->depth, in_leaf;
    if (leaves_are_together(desc)) {
        return check_weights(weights, desc->weight_type, fff_neuron_rows(desc), desc->input_width);
    }
    size_t element = fff_element_bytes(desc->weight_type), all, bytes, unused;
    fff_status status = check_weights(weights, desc->weight_type, desc->leaf_width, desc->input_width);
    if (status != FFF_OK) {
        return status;
    }
    if (!fff_size_extent(desc->leaf_width, weights->node_stride, desc->input_width, weights->column_stride, 1,
                         &in_leaf) ||
        !fff_size_multiply(leaves - 1, desc->leaf_stride, &all) || !fff_size_add(all, in_leaf, &all) ||
        !fff_size_multiply(all, element, &bytes) || bytes > PTRDIFF_MAX ||
        !fff_size_add((uintptr_t)weights->data, bytes, &unused)) {
        return FFF_ERROR_OVERFLOW;
    }
    return leaves == 1 || desc->leaf_stride >= in_leaf ? FFF_OK : FFF_ERROR_STRIDE;
}

/* What only leaves have. */
static fff_status check_leaves(const fff_layer_desc *desc) {
    if (desc->leaf_width == 0) {
        bool any = desc->leaf_weights.data != NULL || desc->leaf_stride > 0 || desc->leaf_scales != NULL ||
                   desc->leaf_biases != NULL || desc->leaf_output_biases.data != NULL;
        return any ? FFF_ERROR_OPTION : FFF_OK;
    }
    fff_status status = check_leaf_weights(desc);
    if (status == FFF_OK && desc->leaf_output_biases.data != NULL) {
        status =
            check_weights(&desc->leaf_output_biases, FFF_WEIGHT_F32, desc->trees << desc->depth, desc->output_width);
    }
    return status;
}

/* What is borrowed must be float32 as it is. */
static bool may_borrow(const fff_layer_desc *desc) {
    return desc->weight_type == FFF_WEIGHT_F32 && desc->output_weight_type <= FFF_CHOOSE_F32 &&
           desc->store_input <= FFF_CHOOSE_F32 && desc->store_output <= FFF_CHOOSE_F32 && desc->input_scales == NULL &&
           desc->output_scales == NULL && desc->leaf_scales == NULL;
}

/* Whether the columns of a row, if there are several, lie side by side. */
static bool are_rows(const fff_weights *weights, size_t columns) {
    return weights->data == NULL || columns == 1 || weights->column_stride == 1;
}

/* And must lie as kernels read it. */
static fff_status check_borrowed(const fff_layer_desc *desc) {
    bool one_stride = desc->leaf_width <= 1 || desc->trees << desc->depth == 1 || leaves_are_together(desc);
    bool nodes = fff_node_rows(desc) == 0 || are_rows(&desc->input_weights, desc->input_width);
    bool neurons = are_rows(&desc->leaf_weights, desc->input_width) &&
                   are_rows(&desc->output_weights, desc->output_width) &&
                   are_rows(&desc->leaf_output_biases, desc->output_width);
    return one_stride && nodes && neurons ? FFF_OK : FFF_ERROR_STRIDE;
}

static bool are_finite(const float *numbers, size_t count) {
    for (size_t i = 0; i < count && numbers != NULL; i++) {
        if (!isfinite(numbers[i])) {
            return false;
        }
    }
    return true;
}

/* Nodes and neurons together are counted by 32 bits. */
static bool count_rows(const fff_layer_desc *desc, size_t *nodes, size_t *neurons) {
    size_t leaves, rows;
    *neurons = 0;
    *nodes = 0;
    return fff_size_multiply(desc->trees, (size_t)1 << desc->depth, &leaves) &&
           fff_size_multiply(leaves, desc->leaf_width, neurons) &&
           fff_size_multiply(desc->trees, fff_nodes_of_tree(desc), nodes) && fff_size_add(*nodes, *neurons, &rows) &&
           rows <= UINT32_MAX;
}

static bool options_are_known(const fff_layer_desc *desc) {
    return (unsigned)desc->activation < FFF_ACTIVATION_COUNT && (unsigned)desc->routing <= FFF_ROUTING_GREATER_EQUAL &&
           (unsigned)desc->sleef <= FFF_SLEEF_ANY && (unsigned)desc->weight_type < FFF_WEIGHT_TYPE_COUNT &&
           (unsigned)desc->output_weight_type <= FFF_CHOOSE_I8 && (unsigned)desc->store_input <= FFF_CHOOSE_I8 &&
           (unsigned)desc->store_output <= FFF_CHOOSE_I8 && (unsigned)desc->routes <= FFF_ROUTES_EXACT &&
           (desc->borrow == 0 || (desc->borrow == 1 && may_borrow(desc)));
}

static bool floats_are_aligned(const fff_layer_desc *desc) {
    uintptr_t all = (uintptr_t)desc->biases | (uintptr_t)desc->input_scales | (uintptr_t)desc->output_scales |
                    (uintptr_t)desc->leaf_scales | (uintptr_t)desc->leaf_biases | (uintptr_t)desc->thresholds |
                    (uintptr_t)desc->factor | (uintptr_t)desc->output_bias;
    return all % sizeof(float) == 0;
}

static fff_status check_desc(const fff_layer_desc *desc) {
    if (desc->input_width == 0 || desc->output_width == 0 || desc->trees == 0 || desc->depth > FFF_MAX_DEPTH) {
        return FFF_ERROR_SHAPE;
    }
    if (!options_are_known(desc)) {
        return FFF_ERROR_OPTION;
    }
    size_t nodes, neurons;
    if (!count_rows(desc, &nodes, &neurons)) {
        return FFF_ERROR_OVERFLOW;
    }
    fff_status status = FFF_OK;
    if (nodes > 0) {
        status = check_weights(&desc->input_weights, desc->weight_type, nodes, desc->input_width);
    }
    if (status == FFF_OK) {
        status = check_weights(&desc->output_weights, fff_given_output_type(desc),
                               desc->leaf_width > 0 ? neurons : nodes, desc->output_width);
    }
    if (status == FFF_OK) {
        status = check_leaves(desc);
    }
    if (status == FFF_OK && desc->borrow == 1) {
        status = check_borrowed(desc);
    }
    if (status == FFF_OK && !floats_are_aligned(desc)) {
        status = FFF_ERROR_ALIGNMENT;
    }
    if (status == FFF_OK && !(are_finite(desc->thresholds, nodes) && are_finite(desc->factor, 1))) {
        status = FFF_ERROR_NUMBER;
    }
    if (status == FFF_OK && desc->allocator != NULL &&
        (desc->allocator->allocate == NULL || desc->allocator->release == NULL)) {
        status = FFF_ERROR_NULL_POINTER;
    }
    return status;
}

/* What a later part may not have of its own. */
static bool belongs_to(const fff_layer_desc *part, const fff_layer_desc *first) {
    return part->input_width == first->input_width && part->output_width == first->output_width &&
           (part->isa == FFF_ISA_AUTO || part->isa == first->isa) &&
           (part->sleef == FFF_SLEEF_RECORDED || part->sleef == first->sleef) &&
           (part->allocator == NULL || part->allocator == first->allocator) && part->output_bias == NULL;
}

/* ---- Parts ----------------------------------------------------------------------------------- */

/* Calls `each` for the descriptions of all parts, in order. They are read anew each time, since there may be any
 * number. Weights are compared and rounded there, so whatever the caller's rounding mode, in that of the kernels. */
static fff_status for_parts(const fff_layer_desc *first,
                            fff_status (*each)(void *context, const fff_layer_desc *part, size_t index),
                            void *context) {
    fff_layer_desc desc = *first;
    fff_status status = FFF_OK;
    fff_fp_environment callers = fff_fp_enter();
    for (size_t index = 0; status == FFF_OK; index++) {
        const fff_layer_desc *next = desc.next;
        status = each(context, &desc, index);
        if (next == NULL || status != FFF_OK) {
            break;
        }
        status = index + 1 < FFF_MAX_PARTS ? read_desc(next, &desc) : FFF_ERROR_PARTS;
    }
    fff_fp_leave(callers);
    return status;
}

/* What is known of a layer before its memory is there. */
struct draft {
    const fff_layer_desc *first;
    fff_isa isa;
    size_t parts, path_length, bytes, output_bias;
    fff_layer *layer;
};

/* The entries of a token's path in a tree. */
static size_t entries_of_tree(const fff_layer_desc *desc) {
    return desc->depth + (desc->leaf_width > 0 ? desc->leaf_width : 1);
}

static fff_status check_part(void *context, const fff_layer_desc *desc, size_t index) {
    struct draft *draft = context;
    fff_status status = check_desc(desc);
    if (status == FFF_OK && index == 0) {
        status = fff_isa_choose(desc->isa, &draft->isa);
    } else if (status == FFF_OK && !belongs_to(desc, draft->first)) {
        status = FFF_ERROR_PARTS;
    }
    if (status == FFF_OK && draft->first->sleef == FFF_SLEEF_RECORDED) {
        status = fff_sleef_check_activation(draft->isa, desc->activation);
    }
    if (status != FFF_OK) {
        return status;
    }
    struct fff_packing packing;
    size_t entries;
    draft->parts = index + 1;
    return fff_size_multiply(desc->trees, entries_of_tree(desc), &entries) &&
                   fff_size_add(draft->path_length, entries, &draft->path_length) &&
                   fff_lay_out(desc, &draft->bytes, &packing)
               ? FFF_OK
               : FFF_ERROR_OVERFLOW;
}

static fff_status pack_part(void *context, const fff_layer_desc *desc, size_t index) {
    struct draft *draft = context;
    fff_layer *layer = draft->layer;
    struct fff_part *part = &layer->parts[index];
    struct fff_packing packing;
    bool fits = fff_lay_out(desc, &draft->bytes, &packing);
    *part = (struct fff_part){
        .kernels = fff_kernels_of(draft->isa),
        .activation = desc->activation,
        .factor = desc->factor != NULL ? *desc->factor : 1.0f,
        .l2_bytes = l2_bytes(),
        .path_length = desc->trees * entries_of_tree(desc),
    };
    fff_status status = fits ? fff_pack(desc, &packing, layer->memory, part) : FFF_ERROR_OVERFLOW;
    if (status != FFF_OK) {
        return status;
    }
    if (part->exact_routes) {
        fff_measure_rows(part);
    }
    fff_plan_part(part);
    return FFF_OK;
}

/* Room behind all parts for the output bias, and for what kernels may read behind the last row. */
static bool lay_out_end(const fff_layer_desc *desc, struct draft *draft, size_t *alignment) {
    size_t *end = &draft->bytes, of_bias = 0;
    bool copied = desc->output_bias != NULL && desc->borrow == 0;
    if (copied && !fff_size_multiply(desc->output_width, sizeof(float), &of_bias)) {
        return false;
    }
    if (!fff_size_round_up(*end, CACHE_LINE, &draft->output_bias) || !fff_size_add(draft->output_bias, of_bias, end) ||
        !fff_size_add(*end, FFF_ROW_STEP * sizeof(float), end)) {
        return false;
    }
    *alignment = *end >= FFF_HUGE_PAGE ? FFF_HUGE_PAGE : CACHE_LINE;
    return fff_size_round_up(*end, *alignment, end) && *end <= PTRDIFF_MAX;
}

static size_t layer_bytes(size_t parts) {
    return sizeof(fff_layer) + parts * sizeof(struct fff_part);
}

/* Allocates what a draft asks for. */
static fff_status allocate_layer(const fff_layer_desc *desc, struct draft *draft, size_t alignment) {
    fff_allocator allocator = desc->allocator != NULL ? *desc->allocator : system_allocator;
    size_t bytes = layer_bytes(draft->parts);
    fff_layer *made = allocator.allocate(allocator.context, bytes, CACHE_LINE);
    if (made == NULL) {
        return FFF_ERROR_OUT_OF_MEMORY;
    }
    void *memory = allocator.allocate(allocator.context, draft->bytes, alignment);
    if (memory == NULL) {
        allocator.release(allocator.context, made, bytes);
        return FFF_ERROR_OUT_OF_MEMORY;
    }
    memset(memory, 0, draft->bytes);
    memset(made, 0, bytes);
    *made = (fff_layer){
        .input_width = desc->input_width,
        .output_width = desc->output_width,
        .path_length = draft->path_length,
        .isa = draft->isa,
        .any_sleef = draft->first->sleef == FFF_SLEEF_ANY,
        .memory_size = draft->bytes,
        .memory = memory,
        .allocator = allocator,
        .part_count = draft->parts,
    };
    made->output_bias = desc->output_bias;
    if (desc->output_bias != NULL && desc->borrow == 0) {
        float *bias = (float *)(void *)((unsigned char *)memory + draft->output_bias);
        memcpy(bias, desc->output_bias, desc->output_width * sizeof *bias);
        made->output_bias = bias;
    }
    draft->layer = made;
    return FFF_OK;
}

/* ---- The public functions -------------------------------------------------------------------- */

size_t fff_nodes_per_tree(size_t depth) {
    return depth <= FFF_MAX_DEPTH ? ((size_t)2 << depth) - 1 : 0;
}

fff_status fff_layer_create(const fff_layer_desc *given, fff_layer **layer) {
    if (layer == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    fff_layer_desc desc;
    struct draft draft = {.first = &desc};
    size_t alignment = 0;
    fff_status status = read_desc(given, &desc);
    if (status == FFF_OK) {
        status = for_parts(&desc, check_part, &draft);
    }
    if (status == FFF_OK && !lay_out_end(&desc, &draft, &alignment)) {
        status = FFF_ERROR_OVERFLOW;
    }
    if (status == FFF_OK) {
        status = allocate_layer(&desc, &draft, alignment);
    }
    if (status != FFF_OK) {
        return status;
    }
    draft.bytes = 0;
    status = for_parts(&desc, pack_part, &draft);
    if (status != FFF_OK) {
        fff_layer_destroy(draft.layer);
        return status;
    }
    *layer = draft.layer;
    return FFF_OK;
}

void fff_layer_destroy(fff_layer *layer) {
    if (layer == NULL) {
        return;
    }
    fff_allocator allocator = layer->allocator;
    allocator.release(allocator.context, layer->memory, layer->memory_size);
    allocator.release(allocator.context, layer, layer_bytes(layer->part_count));
}

fff_isa fff_layer_isa(const fff_layer *layer) {
    return layer != NULL ? layer->isa : FFF_ISA_AUTO;
}

size_t fff_layer_path_length(const fff_layer *layer) {
    return layer != NULL ? layer->path_length : 0;
}

size_t fff_layer_memory(const fff_layer *layer) {
    return layer != NULL ? layer->memory_size + layer_bytes(layer->part_count) : 0;
}

fff_weight_type fff_layer_input_type(const fff_layer *layer) {
    return layer != NULL ? layer->parts[0].input_type : FFF_WEIGHT_F32;
}

fff_weight_type fff_layer_output_type(const fff_layer *layer) {
    return layer != NULL ? layer->parts[0].output_type : FFF_WEIGHT_F32;
}

const char *fff_weight_type_name(fff_weight_type type) {
    static const char *const names[FFF_WEIGHT_TYPE_COUNT] = {"f32", "bf16", "f16", "i8"};
    return (unsigned)type < FFF_WEIGHT_TYPE_COUNT ? names[type] : NULL;
}
