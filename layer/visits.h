/* Which tokens have met which neurons: what the backward pass goes by. */
#ifndef FFF_VISITS_H
#define FFF_VISITS_H

#include "layer/layer.h"

/* The entries of some tokens' paths in one part that are neurons, sorted by the neuron's row, those of a row by token.
 * A leaf layer's routers are none. All arrays but `starts` have `count` elements. */
struct fff_visits {
    size_t token_count;
    size_t per_token; /* neurons on a path */
    size_t count;     /* of both */
    size_t row_count; /* rows that have been met */
    uint32_t *rows;   /* of entry token * per_token + i */
    uint32_t *order;  /* the entries, sorted */
    uint32_t *tokens; /* of order[i] */
    uint32_t *starts; /* row_count + 1 of up to count + 1: where in `order` each row's entries begin */
};

/* A part's neurons, on which gradients depend: the trees' rows or the leaves'. */
static inline const struct fff_trees *fff_neurons(const struct fff_part *part) {
    return part->leaves.width > 0 ? &part->leaves.neurons : &part->trees;
}

/* How many there are. */
static inline size_t fff_neuron_count(const struct fff_part *part) {
    size_t leaves = part->leaves.count * part->leaves.width;
    return part->trees.tree_count * (leaves > 0 ? leaves : part->trees.node_count);
}

/* How many of them a token meets. */
static inline size_t fff_neurons_per_token(const struct fff_part *part) {
    return part->trees.tree_count * (part->leaves.width > 0 ? part->leaves.width : part->trees.level_count);
}

/* Where in a token's path in a part its neuron i is. */
static inline size_t fff_entry_of_neuron(const struct fff_part *part, size_t i) {
    size_t width = part->leaves.width, levels = part->trees.level_count;
    return width == 0 ? i : i / width * (levels + width) + levels + i % width;
}

static inline uint32_t fff_row_of_visit(const struct fff_visits *visits, size_t row) {
    return visits->rows[visits->order[visits->starts[row]]];
}

/* Fills in the arrays, which have room for `token_count` tokens, from their paths in the part: those of token t from
 * nodes + t * node_stride on. */
void fff_sort_visits(const struct fff_part *part, size_t token_count, const uint32_t *nodes, size_t node_stride,
                     struct fff_visits *visits);

#endif
