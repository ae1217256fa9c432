/* fff_dot_rows() and fff_sum_rows(), of rows that the caller lists. */
#include "tests/soak/mode.h"
#include "tests/soak/run.h"

#include <stdlib.h>

enum { MOST_LISTED = 12 };

/* Other layers are refused, and so is the sum of int8 output rows of trees of depth 3 and more. */
static bool has_given_rows(const struct soak_case *of) {
    return of->part_count == 1 && of->parts[0].leaf_width == 0 && of->layer.output_bias == NULL;
}

static bool has_sums(const struct soak_case *of) {
    return has_given_rows(of) && (of->parts[0].outputs.scales == NULL || of->parts[0].depth < 3);
}

/* Lists, factors for them, and what the reference says. */
struct lists {
    size_t count; /* for each token */
    uint32_t *rows;
    float *factors, *logits, *output;
};

static struct lists draw_lists(const struct soak_case *of, uint64_t *state) {
    size_t count = between(state, 1, MOST_LISTED), entries = of->tokens * count;
    struct lists lists = {
        .count = count,
        .rows = soak_allocate(entries, sizeof(uint32_t)),
        .factors = soak_allocate(entries, sizeof(float)),
        .logits = soak_allocate(entries, sizeof(float)),
        .output = soak_allocate(of->tokens * of->output_width, sizeof(float)),
    };
    size_t neurons = reference_neurons(&of->parts[0]);
    for (size_t i = 0; i < entries; i++) {
        lists.rows[i] = (uint32_t)random_below(state, neurons);
    }
    soak_fill(lists.factors, entries, soak_any_kind(state), state);
    float *scratch = soak_allocate(of->input_width, sizeof *scratch);
    for (size_t t = 0; t < of->tokens && has_given_rows(of); t++) {
        const uint32_t *rows = lists.rows + t * count;
        reference_dot_rows(&of->layer, of->input + t * of->input_stride, count, rows, scratch,
                           lists.logits + t * count);
        reference_sum_rows(&of->layer, count, rows, lists.factors + t * count, lists.output + t * of->output_width);
    }
    free(scratch);
    return lists;
}

static void try_dots(struct soak_run *run, const struct lists *lists, const fff_layer *layer, uint64_t *state) {
    const struct soak_case *of = run->of;
    struct soak_rows logits = soak_make_rows(of->tokens, lists->count, sizeof(float), state);
    size_t size = 0;
    run->doing = "fff_dot_rows()";
    soak_expect(run, fff_workspace_size(layer, 1, 1, &size), FFF_OK);
    struct soak_rows workspace = soak_make_workspace(size, state);
    uint64_t entered = mode_enter(mode_draw(state));
    fff_status status = fff_dot_rows(layer, of->tokens, lists->count, of->input, of->input_stride, lists->rows,
                                     lists->count, logits.data, logits.stride, workspace.data, size);
    soak_leave(run, status, has_given_rows(of) ? FFF_OK : FFF_ERROR_OPTION, entered);
    if (has_given_rows(of)) {
        soak_compare_floats(run, "logit of token", of->tokens, lists->count, logits.data, logits.stride, lists->logits,
                            lists->count);
        run->counts->evaluations[SOAK_GIVEN_ROWS][run->isa] += of->tokens;
    }
    soak_free_rows(run, "written beside the logits", &logits);
    soak_free_rows(run, "written beside the workspace", &workspace);
}

static void try_sums(struct soak_run *run, const struct lists *lists, const fff_layer *layer, uint64_t *state) {
    const struct soak_case *of = run->of;
    struct soak_rows output = soak_make_rows(of->tokens, of->output_width, sizeof(float), state);
    run->doing = "fff_sum_rows()";
    uint64_t entered = mode_enter(mode_draw(state));
    fff_status status = fff_sum_rows(layer, of->tokens, lists->count, lists->rows, lists->count, lists->factors,
                                     lists->count, output.data, output.stride);
    soak_leave(run, status, has_sums(of) ? FFF_OK : FFF_ERROR_OPTION, entered);
    if (has_sums(of)) {
        soak_compare_floats(run, "output of token", of->tokens, of->output_width, output.data, output.stride,
                            lists->output, of->output_width);
        run->counts->evaluations[SOAK_GIVEN_ROWS][run->isa] += of->tokens;
    }
    soak_free_rows(run, "written beside the output", &output);
}

void soak_try_given_rows(struct soak_run *run, const fff_layer *layer, uint64_t *state) {
    if (!has_given_rows(run->of) && !chance(state, 8)) {
        return;
    }
    struct lists lists = draw_lists(run->of, state);
    try_dots(run, &lists, layer, state);
    try_sums(run, &lists, layer, state);
    free(lists.rows);
    free(lists.factors);
    free(lists.logits);
    free(lists.output);
}
