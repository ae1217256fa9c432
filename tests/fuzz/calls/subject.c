#include "tests/fuzz/calls/calls.h"

#include <string.h>

enum { MOST_WIDTH = 8 };

static void borrow(struct subject *subject, const void *data, size_t rows, size_t columns) {
    subject->borrowed[subject->borrowed_count++] =
        (struct matrix){data, sizeof(float), rows, columns, columns, 1, false};
}

/* Floats in the arena, which stay what they are where the layer borrows them. */
static const float *take(struct subject *subject, const fff_layer_desc *desc, size_t rows, size_t columns) {
    const float *floats = (const float *)(const void *)(arena + subject->free);
    if (desc->borrow == 1) {
        borrow(subject, floats, rows, columns);
        subject->free += rows * columns * sizeof *floats;
    }
    return floats;
}

static void choose_part(struct choices *choices, struct subject *subject, size_t index) {
    fff_layer_desc *d = &subject->parts[index];
    size_t leaves, rows;
    *d = (fff_layer_desc){.struct_size = sizeof *d};
    d->input_width = index > 0 ? subject->parts[0].input_width : 1 + choose(choices, MOST_WIDTH);
    d->output_width = index > 0 ? subject->parts[0].output_width : 1 + choose(choices, MOST_WIDTH);
    d->depth = choose(choices, MOST_DEPTH + 1);
    d->trees = 1 + choose(choices, MOST_TREES);
    d->leaf_width = choose(choices, MOST_LEAF + 1);
    d->activation = (fff_activation)choose(choices, FFF_ACTIVATION_COUNT);
    d->borrow = choose(choices, 3) == 1;
    if (d->borrow == 0 && choose(choices, 3) == 1) {
        d->store_input = (fff_weight_choice)choose(choices, FFF_CHOOSE_I8 + 1);
        d->store_output = (fff_weight_choice)choose(choices, FFF_CHOOSE_I8 + 1);
        d->routes = (fff_routes)choose(choices, 2);
    }
    leaves = d->trees << d->depth;
    subject->nodes[index] = d->leaf_width > 0 ? leaves - d->trees : 2 * leaves - d->trees;
    subject->neurons[index] = rows = d->leaf_width > 0 ? leaves * d->leaf_width : subject->nodes[index];
    subject->path[index] = d->trees * (d->depth + (d->leaf_width > 0 ? d->leaf_width : 1));
    subject->whole_path += subject->path[index];
    subject->float32 = subject->float32 && d->store_input <= FFF_CHOOSE_F32 && d->store_output <= FFF_CHOOSE_F32;
    d->input_weights = (fff_weights){take(subject, d, subject->nodes[index], d->input_width), d->input_width, 1};
    d->output_weights = (fff_weights){take(subject, d, rows, d->output_width), d->output_width, 1};
    if (choose(choices, 2) == 1) {
        d->biases = take(subject, d, 1, subject->nodes[index]);
    }
    if (d->leaf_width > 0) {
        d->leaf_weights = (fff_weights){take(subject, d, rows, d->input_width), d->input_width, 1};
        if (choose(choices, 2) == 1) {
            d->leaf_output_biases = (fff_weights){take(subject, d, leaves, d->output_width), d->output_width, 1};
        }
    }
    if (index == 0 && choose(choices, 3) == 1) {
        d->output_bias = take(subject, d, 1, d->output_width);
    }
}

void make_subject(struct choices *choices, struct subject *subject) {
    memset(subject, 0, sizeof *subject);
    subject->float32 = true;
    subject->part_count = 1 + choose(choices, MOST_PARTS);
    for (size_t i = 0; i < subject->part_count; i++) {
        choose_part(choices, subject, i);
        subject->parts[i].next = i + 1 < subject->part_count ? &subject->parts[i + 1] : NULL;
    }
    fff_status status = fff_layer_create(&subject->parts[0], &subject->layer);
    if (status != FFF_OK) {
        fuzz_fail("a good description", status);
    }
}
