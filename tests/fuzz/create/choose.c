#include "tests/fuzz/create/description.h"

#include <string.h>

/* Mostly near the arena's beginning, where much fits; or NULL, at any byte, or where there are no numbers. */
static void *choose_place(struct choices *choices) {
    enum { NOWHERE, ANYWHERE, AT_NANS, KINDS = 32 };
    switch (choose(choices, KINDS)) {
    case NOWHERE: return NULL;
    case ANYWHERE: return arena + choose_two_bytes(choices) % ARENA;
    case AT_NANS: return arena + ARENA - ARENA_NANS;
    default: return arena + 4 * choose(choices, 256);
    }
}

static const float *choose_floats(struct choices *choices) {
    return choose(choices, 2) == 0 ? NULL : choose_place(choices);
}

/* A size that is right, or any. */
static size_t choose_near(struct choices *choices, size_t right) {
    return choose(choices, 16) == 1 ? choose_size(choices) : right;
}

static fff_weights choose_weights(struct choices *choices, size_t rows, size_t columns) {
    bool transposed = choose(choices, 3) == 1;
    size_t gap = choose(choices, 3);
    fff_weights weights = {choose_place(choices), columns + gap, 1};
    if (transposed) {
        weights.node_stride = 1;
        weights.column_stride = rows + gap;
    }
    weights.node_stride = choose_near(choices, weights.node_stride);
    weights.column_stride = choose_near(choices, weights.column_stride);
    return weights;
}

/* A value of an enumeration, or one past its last. */
static int choose_option(struct choices *choices, size_t count) {
    return (int)(choose(choices, 32) == 1 ? count : choose(choices, count));
}

static fff_isa choose_isa(struct choices *choices) {
    switch (choose(choices, 32)) {
    case 1: return FFF_ISA_AUTO;
    case 2: return (fff_isa)FFF_ISA_COUNT;
    case 3: return (fff_isa)-1;
    default: return FFF_ISA_GENERIC;
    }
}

static size_t choose_struct_size(struct choices *choices) {
    switch (choose(choices, 16)) {
    case 1: return choose_size(choices) % sizeof(fff_layer_desc);
    case 2: return sizeof(fff_layer_desc) + choose(choices, DESCRIBED_TAIL + 1);
    case 7: return LARGEST_DESC + 1 + choose_size(choices) % (SIZE_MAX - LARGEST_DESC);
    case 3: return offsetof(fff_layer_desc, sleef);
    case 4: return offsetof(fff_layer_desc, sleef) + sizeof(void *); /* sleef, and what fills up its word */
    case 5: return offsetof(fff_layer_desc, leaf_width);
    case 6: return offsetof(fff_layer_desc, borrow);
    default: return sizeof(fff_layer_desc);
    }
}

void choose_part(struct choices *choices, const fff_layer_desc *first, struct described *described) {
    fff_layer_desc *d = &described->desc;
    memset(described, 0, sizeof *described);
    described->tail[choose(choices, DESCRIBED_TAIL)] = choose(choices, 8) == 1;
    d->struct_size = choose_struct_size(choices);
    d->input_width = choose_near(choices, first != NULL ? first->input_width : 1 + choose(choices, 40));
    d->output_width = choose_near(choices, first != NULL ? first->output_width : 1 + choose(choices, 40));
    d->depth = choose_near(choices, choose(choices, 4));
    d->trees = choose_near(choices, 1 + choose(choices, 4));
    d->leaf_width = choose(choices, 2) == 0 ? 0 : choose_near(choices, 1 + choose(choices, 4));
    d->activation = (fff_activation)choose_option(choices, FFF_ACTIVATION_COUNT);
    d->routing = (fff_routing)choose_option(choices, 2);
    d->isa = choose_isa(choices);
    d->sleef = (fff_sleef)choose_option(choices, 2);
    if (choose(choices, 2) == 1) {
        d->weight_type = (fff_weight_type)choose_option(choices, FFF_WEIGHT_TYPE_COUNT);
        d->output_weight_type = (fff_weight_choice)choose_option(choices, FFF_CHOOSE_I8 + 1);
        d->store_input = (fff_weight_choice)choose_option(choices, FFF_CHOOSE_I8 + 1);
        d->store_output = (fff_weight_choice)choose_option(choices, FFF_CHOOSE_I8 + 1);
        d->routes = (fff_routes)choose_option(choices, 2);
        d->input_scales = choose_floats(choices);
        d->output_scales = choose_floats(choices);
        d->leaf_scales = choose_floats(choices);
    } else {
        d->borrow = (int)choose(choices, 3);
    }
    size_t leaves = d->trees << (d->depth & 31), nodes = d->leaf_width > 0 ? leaves - d->trees : 2 * leaves - d->trees;
    d->input_weights = choose_weights(choices, nodes, d->input_width);
    d->biases = choose_floats(choices);
    d->output_weights = choose_weights(choices, d->leaf_width > 0 ? leaves * d->leaf_width : nodes, d->output_width);
    if (d->leaf_width > 0 || choose(choices, 16) == 1) {
        d->leaf_weights = choose_weights(choices, leaves * d->leaf_width, d->input_width);
        d->leaf_stride = choose(choices, 3) == 1 ? choose_size(choices) : 0;
        d->leaf_biases = choose_floats(choices);
        d->leaf_output_biases = choose_weights(choices, leaves, d->output_width);
        if (choose(choices, 2) == 0) {
            d->leaf_output_biases.data = NULL;
        }
    }
    d->thresholds = choose_floats(choices);
    d->factor = choose_floats(choices);
    d->output_bias = first == NULL || choose(choices, 16) == 1 ? choose_floats(choices) : NULL;
}
