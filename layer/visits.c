#include "layer/visits.h"

#include <string.h>

enum { DIGIT_BITS = 8, DIGITS = 1 << DIGIT_BITS };

static void fill_in_rows(const struct fff_part *part, const uint32_t *nodes, size_t node_stride,
                         struct fff_visits *visits) {
    size_t width = part->leaves.width, of_tree = width > 0 ? width : part->trees.level_count;
    size_t rows_of_tree = width > 0 ? part->leaves.count * width : part->trees.node_count;
    size_t first_node = width > 0 ? part->trees.node_count : 0, skipped = width > 0 ? part->trees.level_count : 0;
    uint32_t *row = visits->rows;
    for (size_t t = 0; t < visits->token_count; t++) {
        const uint32_t *node = nodes + t * node_stride;
        for (size_t tree = 0; tree < part->trees.tree_count; tree++) {
            node += skipped;
            for (size_t i = 0; i < of_tree; i++) {
                *row++ = (uint32_t)(tree * rows_of_tree + *node++ - first_node);
            }
        }
    }
}

/* One pass of a sort by digits, from the last one on: each keeps the order of those before it. */
static void sort_by_digit(const uint32_t *rows, unsigned shift, size_t count, const uint32_t *from, uint32_t *to) {
    uint32_t ends[DIGITS + 1] = {0};
    for (size_t i = 0; i < count; i++) {
        ends[(rows[i] >> shift) % DIGITS + 1]++;
    }
    for (size_t digit = 0; digit < DIGITS; digit++) {
        ends[digit + 1] += ends[digit];
    }
    for (size_t i = 0; i < count; i++) {
        to[ends[(rows[from[i]] >> shift) % DIGITS]++] = from[i];
    }
}

void fff_sort_visits(const struct fff_part *part, size_t token_count, const uint32_t *nodes, size_t node_stride,
                     struct fff_visits *visits) {
    visits->token_count = token_count;
    visits->per_token = fff_neurons_per_token(part);
    visits->count = token_count * visits->per_token;
    fill_in_rows(part, nodes, node_stride, visits);
    for (size_t i = 0; i < visits->count; i++) {
        visits->order[i] = (uint32_t)i;
    }
    size_t last_row = fff_neuron_count(part) - 1;
    for (unsigned shift = 0; shift < 32 && last_row >> shift > 0; shift += DIGIT_BITS) {
        sort_by_digit(visits->rows, shift, visits->count, visits->order, visits->tokens);
        uint32_t *sorted = visits->tokens;
        visits->tokens = visits->order;
        visits->order = sorted;
    }
    visits->row_count = 0;
    for (size_t i = 0; i < visits->count; i++) {
        visits->tokens[i] = visits->order[i] / (uint32_t)visits->per_token;
        if (i == 0 || visits->rows[visits->order[i]] != visits->rows[visits->order[i - 1]]) {
            visits->starts[visits->row_count++] = (uint32_t)i;
        }
    }
    visits->starts[visits->row_count] = (uint32_t)visits->count;
}
