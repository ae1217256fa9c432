/* fff_backward(): gradients that are added to, or of listed rows. */
#include "tests/soak/mode.h"
#include "tests/soak/run.h"

#include <stdlib.h>
#include <string.h>

/* ---- Gradients in memory that is watched ------------------------------------------------------------ */

/* Those of one part that are asked for: `data` is NULL where one is not. With a list, rows of the neurons on it. */
struct wanted {
    uint32_t *list;
    size_t neurons; /* rows: of the list, or of all neurons */
    size_t leaves;  /* rows of leaf_output_biases */
    struct soak_rows input_weights, biases, output_weights, leaf_output_biases;
};

/* A call: of all tokens, in batches, which adds to all parts' gradients; or of some tokens at once, where parts may
 * have lists, and the others begin from zeros. */
struct call {
    const fff_layer *layer;
    struct mode mode;
    fff_runner runner;
    bool all;
    size_t first, count, most; /* tokens; of a batch at most */
    struct wanted wanted[SOAK_MOST_PARTS];
    fff_gradients gradients[SOAK_MOST_PARTS];
    bool no_gradients; /* NULL is given in place of all of them */
    struct soak_rows input_gradient, output_bias, workspace;
};

/* Gaps and zones in any case; rows with numbers to add to, or with none. */
static struct soak_rows make_gradient(size_t rows, size_t width, const float *start, uint64_t *state) {
    struct soak_rows made = soak_make_rows(rows, width, sizeof(float), state);
    if (start != NULL) {
        soak_fill_rows(&made, start);
    }
    return made;
}

/* Floats that are zeros, as many as any gradient of the part has. */
static float *make_zeros(const struct soak_case *of, const struct wanted *wanted) {
    size_t width = of->input_width > of->output_width ? of->input_width : of->output_width;
    return soak_allocate((wanted->neurons + wanted->leaves) * width, sizeof(float));
}

static fff_gradient_rows view_of(const struct soak_rows *rows) {
    return (fff_gradient_rows){rows->data, rows->stride};
}

/* The neurons that the batch met and, sometimes, others: of leaves all neurons. */
static void draw_list(struct wanted *to, const struct reference_part *part, const bool *met, uint64_t *state) {
    size_t neurons = reference_neurons(part), together = part->leaf_width > 0 ? part->leaf_width : 1;
    unsigned others = chance(state, 2) ? 4 : 1000000000;
    to->list = soak_allocate(neurons, sizeof *to->list);
    to->neurons = 0;
    for (size_t first = 0; first < neurons; first += together) {
        bool listed = met[first] || chance(state, others);
        for (size_t neuron = first; listed && neuron < first + together; neuron++) {
            to->list[to->neurons++] = (uint32_t)neuron;
        }
    }
}

static void draw_wanted(struct call *call, size_t index, const struct soak_backward *b, const struct soak_case *of,
                        uint64_t *state) {
    const struct reference_part *part = &of->parts[index];
    struct wanted *wanted = &call->wanted[index];
    wanted->neurons = reference_neurons(part);
    if (!call->all && chance(state, 3) != 0) {
        draw_list(wanted, part, b->some[index].met, state);
    }
    wanted->leaves = part->leaf_width > 0 ? wanted->neurons / part->leaf_width : 0;
    float *zeros = call->all ? NULL : make_zeros(of, wanted);
    const struct reference_gradients *start = &b->start[index];
    const struct reference_gradients none = {zeros, zeros, zeros, zeros, NULL};
    start = call->all ? start : &none;
    bool kept = wanted->list == NULL; /* else rows are overwritten */
    if (!chance(state, 5)) {
        wanted->input_weights =
            make_gradient(wanted->neurons, of->input_width, kept ? start->input_weights : NULL, state);
    }
    if (!chance(state, 5)) {
        wanted->biases = make_gradient(1, wanted->neurons, kept ? start->biases : NULL, state);
    }
    if (!chance(state, 5)) {
        wanted->output_weights =
            make_gradient(wanted->neurons, of->output_width, kept ? start->output_weights : NULL, state);
    }
    if (wanted->leaves > 0 && !chance(state, 5)) {
        wanted->leaf_output_biases =
            make_gradient(wanted->leaves, of->output_width, kept ? start->leaf_output_biases : NULL, state);
    }
    free(zeros);
    call->gradients[index] = (fff_gradients){
        .struct_size = sizeof(fff_gradients),
        .rows = wanted->list,
        .row_count = wanted->list != NULL ? wanted->neurons : 0,
        .input_weights = view_of(&wanted->input_weights),
        .biases = wanted->biases.data,
        .output_weights = view_of(&wanted->output_weights),
        .leaf_output_biases = view_of(&wanted->leaf_output_biases),
        .output_bias = index == 0 ? call->output_bias.data : NULL,
        .next = index + 1 < of->part_count ? &call->gradients[index + 1] : NULL,
    };
}

/* ---- Comparisons ------------------------------------------------------------------------------------ */

/* Rows of a gradient: of all neurons, or of those on a list. `together` neurons have a row. What no token met must be
 * as it was, down to the bits of a NaN. */
static void compare_gradient(struct soak_run *run, const char *what, const struct wanted *wanted, size_t together,
                             size_t width, const float *actual, size_t stride, const float *expected, const bool *met) {
    for (size_t i = 0; i < wanted->neurons / together; i++) {
        size_t row = wanted->list != NULL ? wanted->list[i * together] / together : i;
        const float *is = actual + i * stride, *should = expected + row * width;
        soak_compare_floats(run, what, 1, width, is, stride, should, width);
        if (!met[row * together] && memcmp(is, should, width * sizeof *is) != 0) {
            soak_fail(run, "the gradient of a neuron that no token met");
        }
    }
}

static void compare_part(struct soak_run *run, const struct call *call, size_t index,
                         const struct reference_gradients *expected) {
    const struct soak_case *of = run->of;
    const struct wanted *wanted = &call->wanted[index];
    const bool *met = expected->met;
    size_t in = of->input_width, out = of->output_width, leaf_width = of->parts[index].leaf_width;
    if (wanted->input_weights.data != NULL) {
        compare_gradient(run, "gradient of input weights", wanted, 1, in, wanted->input_weights.data,
                         wanted->input_weights.stride, expected->input_weights, met);
    }
    if (wanted->biases.data != NULL) {
        compare_gradient(run, "gradient of biases", wanted, 1, 1, wanted->biases.data, 1, expected->biases, met);
    }
    if (wanted->output_weights.data != NULL) {
        compare_gradient(run, "gradient of output weights", wanted, 1, out, wanted->output_weights.data,
                         wanted->output_weights.stride, expected->output_weights, met);
    }
    if (wanted->leaf_output_biases.data != NULL) {
        compare_gradient(run, "gradient of leaves' output biases", wanted, leaf_width, out,
                         wanted->leaf_output_biases.data, wanted->leaf_output_biases.stride,
                         expected->leaf_output_biases, met);
    }
}

static void compare_call(struct soak_run *run, const struct call *call, const struct soak_backward *b) {
    const struct soak_case *of = run->of;
    for (size_t i = 0; i < of->part_count && !call->no_gradients; i++) {
        compare_part(run, call, i, call->all ? &b->all[i] : &b->some[i]);
    }
    if (call->input_gradient.data != NULL) {
        soak_compare_floats(run, "gradient of input", call->count, of->input_width, call->input_gradient.data,
                            call->input_gradient.stride, b->input_gradient + call->first * of->input_width,
                            of->input_width);
    }
    if (call->output_bias.data != NULL) {
        const float *expected = call->no_gradients ? b->start_bias : call->all ? b->all_bias : b->some_bias;
        soak_compare_floats(run, "gradient of the output bias", 1, of->output_width, call->output_bias.data,
                            of->output_width, expected, of->output_width);
    }
    run->counts->evaluations[SOAK_BACKWARD][run->isa] += call->count;
}

/* ---- Calls ------------------------------------------------------------------------------------------ */

static fff_status call_batch(const struct call *call, const struct soak_backward *b, const struct soak_case *of,
                             size_t first, size_t count) {
    float *input_gradient = call->input_gradient.data;
    if (input_gradient != NULL) {
        input_gradient += (first - call->first) * call->input_gradient.stride;
    }
    return fff_backward(call->layer, count, of->input + first * of->input_stride, of->input_stride,
                        b->nodes + first * b->node_stride, b->node_stride, b->logits + first * b->logit_stride,
                        b->logit_stride, b->output_gradient + first * b->gradient_stride, b->gradient_stride,
                        input_gradient, call->input_gradient.stride, call->no_gradients ? NULL : call->gradients,
                        call->workspace.data, call->workspace.row_bytes,
                        call->runner.run != NULL ? &call->runner : NULL);
}

static void make_call(struct soak_run *run, const struct call *call, const struct soak_backward *b, uint64_t *state) {
    for (size_t done = 0, count; done < call->count; done += count) {
        size_t left = call->count - done;
        count = !call->all || chance(state, 2) ? call->most : between(state, 1, call->most);
        count = count < left ? count : left;
        uint64_t entered = mode_enter(call->mode);
        fff_status status = call_batch(call, b, run->of, call->first + done, count);
        soak_leave(run, status, FFF_OK, entered);
    }
}

static void allocate_call(struct soak_run *run, struct call *call, const struct soak_backward *b, uint64_t *state) {
    const struct soak_case *of = run->of;
    size_t size = 0, concurrency = call->runner.run != NULL ? call->runner.concurrency : 1;
    soak_expect(run, fff_backward_workspace_size(call->layer, call->most, concurrency, &size), FFF_OK);
    call->workspace = soak_make_workspace(size, state);
    if (!chance(state, 5)) {
        call->input_gradient = soak_make_rows(call->count, of->input_width, sizeof(float), state);
    }
    if (!chance(state, 3)) {
        call->output_bias = make_gradient(1, of->output_width, b->start_bias, state);
    }
    for (size_t i = 0; i < of->part_count; i++) {
        draw_wanted(call, i, b, of, state);
    }
}

static void free_gradient(struct soak_run *run, const char *what, struct soak_rows *rows) {
    if (rows->data != NULL) {
        soak_free_rows(run, what, rows);
    }
}

static void free_call(struct soak_run *run, struct call *call) {
    soak_free_rows(run, "written beside the workspace", &call->workspace);
    free_gradient(run, "written beside the input's gradient", &call->input_gradient);
    free_gradient(run, "written beside the output bias's gradient", &call->output_bias);
    for (size_t i = 0; i < run->of->part_count; i++) {
        struct wanted *wanted = &call->wanted[i];
        free_gradient(run, "written beside gradients of input weights", &wanted->input_weights);
        free_gradient(run, "written beside gradients of biases", &wanted->biases);
        free_gradient(run, "written beside gradients of output weights", &wanted->output_weights);
        free_gradient(run, "written beside gradients of leaves' output biases", &wanted->leaf_output_biases);
        free(wanted->list);
    }
}

static void try_call(struct soak_run *run, const struct soak_backward *b, const fff_layer *layer, uint64_t *state) {
    const struct soak_case *of = run->of;
    struct call call = {
        .layer = layer,
        .mode = mode_draw(state),
        .runner = soak_draw_runner(state),
        .all = chance(state, 2),
        .no_gradients = chance(state, 16),
    };
    call.first = call.all ? 0 : b->some_first;
    call.count = call.all ? of->tokens : b->some_count;
    call.most = !call.all || chance(state, 3) ? call.count : between(state, 1, call.count);
    run->doing = call.all ? "fff_backward(), all rows" : "fff_backward(), some rows";
    allocate_call(run, &call, b, state);
    make_call(run, &call, b, state);
    compare_call(run, &call, b);
    free_call(run, &call);
}

void soak_try_backward(struct soak_run *run, const struct soak_backward *backward, const fff_layer *layer,
                       uint64_t *state) {
    size_t calls = run->isa == FFF_ISA_GENERIC ? 1 : between(state, 2, 4);
    for (size_t i = 0; i < calls && backward->has_gradients; i++) {
        try_call(run, backward, layer, state);
    }
}
