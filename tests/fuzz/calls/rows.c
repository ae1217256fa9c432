/* fff_dot_rows(), fff_sum_rows(), fff_visited_rows(). */
#include "tests/fuzz/calls/calls.h"

/* fff_dot_rows(), fff_sum_rows() */
void call_rows(struct choices *choices, const struct subject *subject, bool sum) {
    struct call call = {.free = subject->free};
    const fff_layer_desc *d = &subject->parts[0];
    size_t batch = choose_near(choices, choose(choices, 6)), count = choose_near(choices, choose(choices, 10)),
           size = 0;
    size_t row_stride, factor_stride, other_stride, workspace_size = 0;
    void *rows = add_rows(choices, &call, sizeof(uint32_t), batch, count, false, &row_stride);
    void *factors = add_rows(choices, &call, sizeof(float), batch, count, !sum, &factor_stride), *workspace = NULL;
    if (sum && count == 0) {
        call.refused = false; /* they are not looked at */
    }
    void *other =
        add_rows(choices, &call, sizeof(float), batch, sum ? d->output_width : d->input_width, sum, &other_stride);
    if (!sum) {
        fff_status needs = fff_workspace_size(subject->layer, 1, 1, &size);
        workspace = add_workspace(choices, &call, needs, size, &workspace_size);
    }
    if (batch == 0 || (!sum && count == 0)) {
        call.count = 0;
        call.refused = false;
    }
    bool placed = sum && fff_layer_output_type(subject->layer) == FFF_WEIGHT_I8 && d->depth >= 3;
    call.refused = call.refused || subject->part_count > 1 || d->leaf_width > 0 || d->output_bias != NULL || placed;
    if (call.count > 0 && count > 0 && !call.refused && matrix_is_there(&call.matrices[0])) {
        write_rows(choices, &call.matrices[0], subject->nodes[0]);
        call.wrong_numbers = !rows_are_below(&call.matrices[0], subject->nodes[0], false);
    }
    if (!is_tried(subject, &call, false)) {
        return;
    }
    fff_status status =
        sum ? fff_sum_rows(subject->layer, batch, count, rows, row_stride, factors, factor_stride, other, other_stride)
            : fff_dot_rows(subject->layer, batch, count, other, other_stride, rows, row_stride, factors, factor_stride,
                           workspace, workspace_size);
    check(&call, sum ? "sum_rows" : "dot_rows", status);
}

void call_visited(struct choices *choices, const struct subject *subject) {
    struct call call = {.free = subject->free};
    size_t batch = choose_near(choices, choose(choices, 8)), part = choose(choices, MOST_PARTS + 1), size = 0, most = 0;
    size_t node_stride, workspace_size, count = 0, expected = 0;
    const fff_layer *layer = subject->layer;
    void *nodes = add_rows(choices, &call, sizeof(uint32_t), batch, subject->whole_path, false, &node_stride);
    if (part < subject->part_count) {
        const fff_layer_desc *d = &subject->parts[part];
        size_t met = size_times(batch, d->trees * (d->leaf_width > 0 ? d->leaf_width : d->depth + 1));
        most = met < subject->neurons[part] ? met : subject->neurons[part];
    }
    uint32_t *rows = add_list(choices, &call, sizeof(uint32_t), most, true);
    size_t capacity = choose_near(choices, most + choose(choices, 2));
    fff_status needs = fff_backward_workspace_size(layer, batch, 1, &size);
    void *workspace = add_workspace(choices, &call, needs, size, &workspace_size);
    call.refused = call.refused || capacity < most;
    if (batch == 0) {
        call.count = 0;
        call.refused = false;
    }
    call.refused = call.refused || part >= subject->part_count;
    bool met[MOST_NEURONS] = {false};
    if (batch > 0 && !call.refused && matrix_is_there(&call.matrices[0])) {
        write_nodes(choices, subject, &call.matrices[0]);
        call.wrong_numbers = !read_nodes(subject, &call.matrices[0], part, met);
    }
    if (!is_tried(subject, &call, false)) {
        return;
    }
    fff_status status =
        fff_visited_rows(layer, part, batch, nodes, node_stride, rows, capacity, &count, workspace, workspace_size);
    check(&call, "visited_rows", status);
    for (size_t i = 0; i < MOST_NEURONS && status == FFF_OK; i++) {
        if (met[i] && (expected >= count || rows[expected++] != i)) {
            fuzz_fail("a neuron is missing", (int)i);
        }
    }
    if (count != expected) {
        fuzz_fail("more neurons than were met", (int)count);
    }
}
