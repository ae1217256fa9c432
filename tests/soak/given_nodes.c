/* fff_accumulate() and fff_visited_rows() of nodes that form paths, or none. */
#include "tests/soak/mode.h"
#include "tests/soak/run.h"

#include <stdlib.h>

static void try_visited_rows(struct soak_run *run, const struct soak_backward *b, const fff_layer *layer,
                             uint64_t *state) {
    const struct soak_case *of = run->of;
    size_t index = random_below(state, of->part_count), met = 0, count = SIZE_MAX, size = 0;
    const struct reference_part *part = &of->parts[index];
    size_t neurons = reference_neurons(part);
    size_t a_token = part->trees * (reference_entries(part) - reference_routers(part));
    size_t capacity = b->some_count * a_token < neurons ? b->some_count * a_token : neurons;
    uint32_t *expected = soak_allocate(neurons, sizeof *expected);
    for (size_t neuron = 0; neuron < neurons; neuron++) {
        if (b->some[index].met[neuron]) {
            expected[met++] = (uint32_t)neuron;
        }
    }
    run->doing = "fff_visited_rows()";
    soak_expect(run, fff_backward_workspace_size(layer, b->some_count, 1, &size), FFF_OK);
    struct soak_rows rows = soak_make_rows(1, capacity, sizeof *expected, state);
    struct soak_rows workspace = soak_make_workspace(size, state);
    uint64_t entered = mode_enter(mode_draw(state));
    fff_status status = fff_visited_rows(layer, index, b->some_count, b->nodes + b->some_first * b->node_stride,
                                         b->node_stride, rows.data, capacity, &count, workspace.data, size);
    soak_leave(run, status, FFF_OK, entered);
    if (count != met) {
        soak_fail(run, "another number of rows");
    } else {
        soak_compare_indices(run, "visited row", 1, count, rows.data, count, expected);
    }
    soak_free_rows(run, "written beside the rows", &rows);
    soak_free_rows(run, "written beside the workspace", &workspace);
    free(expected);
}

static void try_accumulate(struct soak_run *run, const struct soak_backward *b, const fff_layer *layer,
                           uint64_t *state) {
    const struct soak_case *of = run->of;
    fff_runner runner = soak_draw_runner(state);
    struct soak_rows output = soak_make_rows(of->tokens, of->output_width, sizeof(float), state);
    size_t size = 0;
    run->doing = "fff_accumulate()";
    soak_expect(run, fff_workspace_size(layer, of->tokens, runner.run != NULL ? runner.concurrency : 1, &size), FFF_OK);
    struct soak_rows workspace = soak_make_workspace(size, state);
    uint64_t entered = mode_enter(mode_draw(state));
    fff_status status =
        fff_accumulate(layer, of->tokens, b->nodes, b->node_stride, b->logits, b->logit_stride, output.data,
                       output.stride, workspace.data, size, runner.run != NULL ? &runner : NULL);
    soak_leave(run, status, FFF_OK, entered);
    soak_compare_floats(run, "output of token", of->tokens, of->output_width, output.data, output.stride, b->output,
                        of->output_width);
    run->counts->evaluations[SOAK_FORWARD][run->isa] += of->tokens;
    soak_free_rows(run, "written beside the output", &output);
    soak_free_rows(run, "written beside the workspace", &workspace);
}

void soak_try_given_nodes(struct soak_run *run, const struct soak_backward *backward, const fff_layer *layer,
                          uint64_t *state) {
    try_accumulate(run, backward, layer, state);
    if (backward->has_gradients) {
        try_visited_rows(run, backward, layer, state);
    }
}
