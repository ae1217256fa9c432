/* fff_backward(): all, part or none of the gradients, of all neurons or of listed ones. */
#include "tests/fuzz/calls/calls.h"

#include <string.h>

/* A part's gradients, and where among the call's matrices their list of rows is, if there is one. */
struct wanted {
    fff_gradients gradients;
    unsigned char later[4096 - sizeof(fff_gradients)]; /* fields that a later version may have */
    size_t list;
    bool listed;
};

/* A matrix, or a list, that may not be wanted. */
static fff_gradient_rows add_gradient(struct choices *choices, struct call *call, size_t rows, size_t columns) {
    fff_gradient_rows gradient = {NULL, 0};
    const struct call without = *call;
    if (choose(choices, 2) == 1) {
        gradient.data = add_rows(choices, call, sizeof(float), rows, columns, true, &gradient.stride);
    }
    if (gradient.data == NULL) {
        *call = without;
    }
    return gradient;
}

static float *add_gradients(struct choices *choices, struct call *call, size_t count) {
    const struct call without = *call;
    float *gradients = choose(choices, 2) == 1 ? add_list(choices, call, sizeof *gradients, count, true) : NULL;
    if (gradients == NULL) {
        *call = without;
    }
    return gradients;
}

static void choose_gradients(struct choices *choices, const struct subject *subject, struct call *call, size_t part,
                             struct wanted *wanted) {
    const fff_layer_desc *d = &subject->parts[part];
    size_t rows = subject->neurons[part], width = d->leaf_width;
    fff_gradients *g = &wanted->gradients;
    *wanted = (struct wanted){.gradients = {.struct_size = sizeof *g}};
    if (choose(choices, 32) == 1) {
        g->struct_size = choose_size(choices);
        size_t set = choose(choices, 128); /* of the fields that are not known, or beyond the structure */
        wanted->later[set] = 1;
        call->refused = call->refused || g->struct_size < sizeof *g || g->struct_size > 4096 ||
                        (g->struct_size > sizeof *g && set < g->struct_size - sizeof *g);
    }
    if (choose(choices, 2) == 1) {
        rows = choose_near(choices, choose(choices, 2) == 1 ? rows : choose(choices, 32));
        wanted->list = call->lists[call->list_count++] = call->count;
        g->rows = add_list(choices, call, sizeof(uint32_t), rows, false);
        g->row_count = rows;
        wanted->listed = g->rows != NULL;
        rows = wanted->listed ? rows : subject->neurons[part];
    }
    g->input_weights = add_gradient(choices, call, rows, d->input_width);
    g->output_weights = add_gradient(choices, call, rows, d->output_width);
    g->biases = add_gradients(choices, call, rows);
    if (width > 0 || choose(choices, 32) == 1) {
        g->leaf_output_biases = add_gradient(choices, call, width > 0 ? rows / width : 1, d->output_width);
        call->refused = call->refused || (width == 0 && g->leaf_output_biases.data != NULL);
    }
    if (part == 0 || choose(choices, 32) == 1) {
        g->output_bias = add_gradients(choices, call, d->output_width);
        call->refused = call->refused || (part > 0 && g->output_bias != NULL);
    }
}

/* All of a part's neurons, or those that are met, and perhaps some others. */
static void write_list(struct choices *choices, const struct subject *subject, size_t part, const bool *met,
                       const struct matrix *list) {
    size_t at = 0, wanted = list->columns, kind = choose(choices, 3);
    for (size_t neuron = 0; neuron < subject->neurons[part] && at < wanted; neuron++) {
        if (kind == 0 || met[neuron] || (kind == 1 && choose(choices, 2) == 1)) {
            row_of(list, 0)[at++] = (uint32_t)neuron;
        }
    }
    for (; at < wanted; at++) {
        row_of(list, 0)[at] = (uint32_t)(subject->neurons[part] + at);
    }
    spoil(choices, list);
}

static bool list_is_right(const struct subject *subject, size_t part, const bool *met, const struct matrix *list) {
    size_t width = subject->parts[part].leaf_width, missing = 0;
    if (!rows_are_below(list, subject->neurons[part], true) || (width > 0 && list->columns % width != 0)) {
        return false;
    }
    bool listed[MOST_NEURONS] = {false};
    for (size_t i = 0; i < list->columns; i++) {
        size_t row = row_of(list, 0)[i];
        listed[row] = true;
        if (width > 0 && (row % width != i % width || (i % width > 0 && row_of(list, 0)[i - 1] != row - 1))) {
            return false;
        }
    }
    for (size_t neuron = 0; neuron < subject->neurons[part]; neuron++) {
        missing += met[neuron] && !listed[neuron];
    }
    return missing == 0;
}

/* Writes nodes and lists, which may be the same memory, and then says whether they are right. */
static bool write_what_is_read(struct choices *choices, const struct subject *subject, const struct call *call,
                               const struct matrix *nodes, const struct wanted *wanted, size_t count) {
    bool met[MOST_PARTS][MOST_NEURONS] = {{false}}, right = true;
    if (nodes != NULL) {
        write_nodes(choices, subject, nodes);
        for (size_t i = 0; i < subject->part_count; i++) {
            (void)read_nodes(subject, nodes, i, met[i]);
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (wanted[i].listed) {
            write_list(choices, subject, i, met[i], &call->matrices[wanted[i].list]);
        }
    }
    for (size_t i = 0; i < subject->part_count; i++) {
        memset(met[i], 0, sizeof met[i]);
        right = right && (nodes == NULL || read_nodes(subject, nodes, i, met[i]));
        if (i < count && wanted[i].listed) {
            right = right && list_is_right(subject, i, met[i], &call->matrices[wanted[i].list]);
        }
    }
    return right;
}

void call_backward(struct choices *choices, const struct subject *subject) {
    struct call call = {.free = subject->free};
    const fff_layer *layer = subject->layer;
    size_t in = subject->parts[0].input_width, out = subject->parts[0].output_width, path = subject->whole_path;
    struct wanted wanted[MOST_PARTS + 1];
    size_t count = choose(choices, 2) == 1 ? subject->part_count : 0;
    if (choose(choices, 32) == 1) {
        count = choose(choices, MOST_PARTS + 2);
    }
    for (size_t i = 0; i < count; i++) {
        choose_gradients(choices, subject, &call, i < subject->part_count ? i : 0, &wanted[i]);
        if (i > 0) {
            wanted[i - 1].gradients.next = &wanted[i].gradients;
        }
    }
    call.refused = call.refused || (count > 0 && count != subject->part_count) || !subject->float32;
    const struct call of_gradients = call;
    const fff_runner *runner = choose_runner(choices, &call);
    size_t batch = choose_near(choices, choose(choices, 8)), size = 0, workspace_size;
    size_t input_stride, node_stride, logit_stride, out_stride;
    void *input = add_rows(choices, &call, sizeof(float), batch, in, false, &input_stride);
    struct matrix *nodes_matrix = &call.matrices[call.count];
    void *nodes = add_rows(choices, &call, sizeof(uint32_t), batch, path, false, &node_stride);
    void *logits = add_rows(choices, &call, sizeof(float), batch, path, false, &logit_stride);
    void *upstream = add_rows(choices, &call, sizeof(float), batch, out, false, &out_stride);
    fff_gradient_rows input_gradient = add_gradient(choices, &call, batch, in);
    fff_status needs = fff_backward_workspace_size(layer, batch, call.concurrency, &size);
    void *workspace = add_workspace(choices, &call, needs, size, &workspace_size);
    bool there = !call.refused && matrix_is_there(nodes_matrix);
    if (batch == 0) { /* lists are cleared */
        call = of_gradients;
        there = !call.refused;
    }
    for (size_t i = 0; i < count; i++) {
        there = there && (!wanted[i].listed || matrix_is_there(&call.matrices[wanted[i].list]));
    }
    if (there) {
        call.wrong_numbers =
            !write_what_is_read(choices, subject, &call, batch > 0 ? nodes_matrix : NULL, wanted, count);
    }
    if (!is_tried(subject, &call, true)) {
        return;
    }
    fff_status status = fff_backward(layer, batch, input, input_stride, nodes, node_stride, logits, logit_stride,
                                     upstream, out_stride, input_gradient.data, input_gradient.stride,
                                     count > 0 ? &wanted[0].gradients : NULL, workspace, workspace_size, runner);
    check(&call, "backward", status);
}
