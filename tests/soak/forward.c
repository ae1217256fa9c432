/* The forward functions: of one layer, by all ways of calling, in random batches. */
#include "tests/soak/mode.h"
#include "tests/soak/run.h"

#include <stdlib.h>

enum way { FORWARD, FORWARD_PATHS, ROUTE_AND_ACCUMULATE, FORWARD_TYPED, WAYS };

static const char *const NAMES[WAYS] = {"fff_forward()", "fff_forward_paths()", "fff_route() and fff_accumulate()",
                                        "fff_forward_typed()"};

/* A call for all tokens of a case, in batches. */
struct call {
    const fff_layer *layer;
    enum way way;
    struct mode mode;
    fff_runner runner;
    size_t most; /* tokens a batch */
    fff_weight_type output_type;
    struct soak_rows nodes, logits, output, workspace;
};

static bool tells_paths(const struct call *call) {
    return call->way == FORWARD_PATHS || call->way == ROUTE_AND_ACCUMULATE;
}

static fff_status call_batch(const struct call *call, const struct soak_case *of, size_t first, size_t count) {
    const fff_runner *runner = call->runner.run != NULL ? &call->runner : NULL;
    size_t in = of->input_stride, output_stride = call->output.stride;
    size_t node_stride = call->nodes.stride, logit_stride = call->logits.stride;
    const float *input = of->input + first * in;
    void *output = (unsigned char *)call->output.data + first * call->output.stride_bytes;
    uint32_t *nodes = tells_paths(call) ? (uint32_t *)call->nodes.data + first * node_stride : NULL;
    float *logits = tells_paths(call) ? (float *)call->logits.data + first * logit_stride : NULL;
    void *workspace = call->workspace.data;
    size_t size = call->workspace.row_bytes;
    switch (call->way) {
    case FORWARD: return fff_forward(call->layer, count, input, in, output, output_stride, workspace, size, runner);
    case FORWARD_PATHS:
        return fff_forward_paths(call->layer, count, input, in, output, output_stride, nodes, node_stride, logits,
                                 logit_stride, workspace, size, runner);
    case ROUTE_AND_ACCUMULATE: {
        fff_status status =
            fff_route(call->layer, count, input, in, nodes, node_stride, logits, logit_stride, workspace, size, runner);
        return status != FFF_OK ? status
                                : fff_accumulate(call->layer, count, nodes, node_stride, logits, logit_stride, output,
                                                 output_stride, workspace, size, runner);
    }
    case FORWARD_TYPED: {
        size_t bytes = of->input_type == FFF_WEIGHT_F32 ? 4 : 2;
        return fff_forward_typed(call->layer, count, of->input_type,
                                 (const unsigned char *)of->typed_input + first * in * bytes, in, call->output_type,
                                 output, output_stride, workspace, size, runner);
    }
    case WAYS: break;
    }
    return FFF_ERROR_OPTION;
}

static void allocate_call(struct soak_run *run, struct call *call, uint64_t *state) {
    const struct soak_case *of = run->of;
    size_t concurrency = call->runner.run != NULL ? call->runner.concurrency : 1, size = 0;
    if (tells_paths(call)) {
        call->nodes = soak_make_rows(of->tokens, of->path, sizeof(uint32_t), state);
        call->logits = soak_make_rows(of->tokens, of->path, sizeof(float), state);
    }
    call->output = soak_make_rows(of->tokens, of->output_width, call->output_type == FFF_WEIGHT_F32 ? 4 : 2, state);
    fff_status status = call->way == FORWARD_TYPED ? fff_workspace_size_typed(call->layer, call->most, concurrency,
                                                                              of->input_type, call->output_type, &size)
                                                   : fff_workspace_size(call->layer, call->most, concurrency, &size);
    soak_expect(run, status, FFF_OK);
    call->workspace = soak_make_workspace(size, state);
}

static void free_call(struct soak_run *run, struct call *call) {
    if (tells_paths(call)) {
        soak_free_rows(run, "written beside the nodes", &call->nodes);
        soak_free_rows(run, "written beside the logits", &call->logits);
    }
    soak_free_rows(run, "written beside the output", &call->output);
    soak_free_rows(run, "written beside the workspace", &call->workspace);
}

/* In the caller's mode, batch by batch. */
static void make_call(struct soak_run *run, const struct call *call, uint64_t *state) {
    for (size_t first = 0, count; first < run->of->tokens; first += count) {
        size_t left = run->of->tokens - first;
        count = random_below(state, 2) == 0 ? call->most : 1 + random_below(state, call->most);
        count = count < left ? count : left;
        uint64_t entered = mode_enter(call->mode);
        fff_status status = call_batch(call, run->of, first, count);
        soak_leave(run, status, FFF_OK, entered);
    }
}

static void compare_call(struct soak_run *run, const struct call *call, const struct soak_forward *expected) {
    size_t tokens = run->of->tokens, path = run->of->path, width = run->of->output_width;
    if (tells_paths(call)) {
        soak_compare_indices(run, "node of token", tokens, path, call->nodes.data, call->nodes.stride, expected->nodes);
        soak_compare_floats(run, "logit of token", tokens, path, call->logits.data, call->logits.stride,
                            expected->logits, path);
    }
    if (call->output_type == FFF_WEIGHT_F32) {
        soak_compare_floats(run, "output of token", tokens, width, call->output.data, call->output.stride,
                            expected->output, width);
    } else {
        soak_compare_halves(run, "16-bit output of token", call->output_type, tokens, width, call->output.data,
                            call->output.stride, expected->output);
    }
    run->counts->evaluations[SOAK_FORWARD][run->isa] += tokens;
}

/* What the reference says, given the logits of a first call. */
static void ask_reference(struct soak_run *run, const struct call *call, struct soak_forward *forward) {
    const struct soak_case *of = run->of;
    float *scratch = soak_allocate(of->input_width, sizeof *scratch);
    for (size_t t = 0; t < of->tokens; t++) {
        uint32_t *nodes = forward->nodes + t * of->path;
        float *logits = forward->logits + t * of->path;
        reference_route(&of->layer, of->input + t * of->input_stride,
                        (const float *)call->logits.data + t * call->logits.stride, scratch, nodes, logits,
                        &run->counts->open);
        reference_accumulate(&of->layer, nodes, logits, forward->output + t * of->output_width);
    }
    free(scratch);
    forward->known = true;
}

struct soak_forward soak_begin_forward(const struct soak_case *of) {
    return (struct soak_forward){
        .nodes = soak_allocate(of->tokens * of->path, sizeof(uint32_t)),
        .logits = soak_allocate(of->tokens * of->path, sizeof(float)),
        .output = soak_allocate(of->tokens * of->output_width, sizeof(float)),
    };
}

void soak_end_forward(struct soak_forward *forward) {
    free(forward->nodes);
    free(forward->logits);
    free(forward->output);
}

/* Of the generic kernels, which take as long as the reference, by fewer ways. The very first call of a case is one that
 * tells logits. */
void soak_try_forward(struct soak_run *run, struct soak_forward *forward, const fff_layer *layer, uint64_t *state) {
    const struct soak_case *of = run->of;
    size_t calls = run->isa == FFF_ISA_GENERIC ? between(state, 1, 2) : between(state, 3, 8);
    for (size_t i = 0; i < calls; i++) {
        struct call call = {
            .layer = layer,
            .way = forward->known ? (enum way)random_below(state, WAYS) : FORWARD_PATHS,
            .mode = mode_draw(state),
            .runner = soak_draw_runner(state),
            .most = chance(state, 3) ? of->tokens : between(state, 1, of->tokens),
        };
        if (call.way == FORWARD_TYPED) {
            call.output_type = (fff_weight_type)random_below(state, FFF_WEIGHT_I8);
        }
        run->doing = NAMES[call.way];
        allocate_call(run, &call, state);
        make_call(run, &call, state);
        if (!forward->known) {
            ask_reference(run, &call, forward);
        }
        compare_call(run, &call, forward);
        free_call(run, &call);
    }
}
