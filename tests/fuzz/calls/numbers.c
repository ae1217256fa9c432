/* Nodes and rows that a call reads, written right or wrong, and what the header says about them. */
#include "tests/fuzz/calls/calls.h"

uint32_t *row_of(const struct matrix *m, size_t row) {
    return (uint32_t *)(uintptr_t)m->data + row * m->row_stride;
}

void spoil(struct choices *choices, const struct matrix *m) {
    if (choose(choices, 8) == 1 && m->rows > 0 && m->columns > 0) {
        size_t row = choose(choices, 256) % m->rows, column = choose(choices, 256) % m->columns;
        row_of(m, row)[column] = (uint32_t)choose_size(choices);
    }
}

void write_nodes(struct choices *choices, const struct subject *subject, const struct matrix *nodes) {
    for (size_t t = 0; t < nodes->rows; t++) {
        uint32_t *entry = row_of(nodes, t);
        for (size_t p = 0; p < subject->part_count; p++) {
            const fff_layer_desc *d = &subject->parts[p];
            uint32_t width = (uint32_t)d->leaf_width, leaves = 1u << d->depth,
                     levels = (uint32_t)d->depth + (width == 0);
            for (size_t tree = 0; tree < d->trees; tree++) {
                uint32_t leaf = (uint32_t)choose(choices, leaves);
                for (uint32_t level = 0; level < levels; level++) {
                    *entry++ = ((leaves | leaf) >> (d->depth - level)) - 1; /* in heap order */
                }
                for (uint32_t j = 0; j < width; j++) {
                    *entry++ = leaves - 1 + leaf * width + j;
                }
            }
        }
    }
    spoil(choices, nodes);
}

bool read_nodes(const struct subject *subject, const struct matrix *nodes, size_t wanted, bool *met) {
    for (size_t t = 0; t < nodes->rows; t++) {
        const uint32_t *entry = row_of(nodes, t);
        for (size_t p = 0; p < subject->part_count; p++) {
            const fff_layer_desc *d = &subject->parts[p];
            size_t width = d->leaf_width, leaves = (size_t)1 << d->depth, of_tree = subject->neurons[p] / d->trees;
            for (size_t tree = 0; tree < d->trees; tree++) {
                size_t first = width > 0 ? leaves - 1 : 0, count = width > 0 ? width : d->depth + 1;
                entry += width > 0 ? d->depth : 0;
                for (size_t j = 0; j < count; j++) {
                    size_t neuron = (size_t)entry[j] - first;
                    bool in_leaf = width == 0 || (neuron % width == j && neuron - j == (size_t)entry[0] - first);
                    if (entry[j] < first || neuron >= of_tree || !in_leaf) {
                        return false;
                    }
                    if (p == wanted && met != NULL) {
                        met[tree * of_tree + neuron] = true;
                    }
                }
                entry += count;
            }
        }
    }
    return true;
}

void write_rows(struct choices *choices, const struct matrix *rows, size_t limit) {
    for (size_t t = 0; t < rows->rows; t++) {
        for (size_t e = 0; e < rows->columns; e++) {
            row_of(rows, t)[e] = (uint32_t)(choose(choices, 64) % limit);
        }
    }
    spoil(choices, rows);
}

bool rows_are_below(const struct matrix *rows, size_t limit, bool ascending) {
    for (size_t t = 0; t < rows->rows; t++) {
        for (size_t e = 0; e < rows->columns; e++) {
            const uint32_t *row = row_of(rows, t);
            if (row[e] >= limit || (ascending && e > 0 && row[e] <= row[e - 1])) {
                return false;
            }
        }
    }
    return true;
}
