#include "tests/fuzz/calls/calls.h"

/* fff_forward(), fff_route(), fff_forward_paths(), fff_accumulate(), fff_forward_typed() */
void call_forward(struct choices *choices, const struct subject *subject, enum forward_function function) {
    struct call call = {.free = subject->free};
    const fff_layer *layer = subject->layer;
    const fff_runner *runner = choose_runner(choices, &call);
    bool paths = function == ROUTE || function == FORWARD_PATHS, given = function == ACCUMULATE;
    bool typed = function == FORWARD_TYPED;
    size_t in = subject->parts[0].input_width, out = subject->parts[0].output_width, path = subject->whole_path;
    size_t batch = choose_near(choices, choose(choices, 8)), size = 0, nodes_at = 0;
    size_t input_stride = 0, output_stride = 0, node_stride = 0, logit_stride = 0, workspace_size;
    fff_weight_type input_type = FFF_WEIGHT_F32, output_type = FFF_WEIGHT_F32;
    if (typed) {
        input_type = (fff_weight_type)choose(choices, FFF_WEIGHT_TYPE_COUNT + 1);
        output_type = (fff_weight_type)choose(choices, FFF_WEIGHT_TYPE_COUNT + 1);
    }
    bool no_type = input_type > FFF_WEIGHT_F16 || output_type > FFF_WEIGHT_F16;
    void *input = NULL, *output = NULL, *nodes = NULL, *logits = NULL;
    if (!given) {
        input = add_rows(choices, &call, input_type == FFF_WEIGHT_F32 ? 4 : 2, batch, in, false, &input_stride);
    }
    if (paths || given) {
        nodes_at = call.count;
        nodes = add_rows(choices, &call, sizeof(uint32_t), batch, path, paths, &node_stride);
        logits = add_rows(choices, &call, sizeof(float), batch, path, paths, &logit_stride);
    }
    if (function != ROUTE) {
        output = add_rows(choices, &call, output_type == FFF_WEIGHT_F32 ? 4 : 2, batch, out, true, &output_stride);
    }
    fff_status needs = typed ? fff_workspace_size_typed(layer, batch, call.concurrency, input_type, output_type, &size)
                             : fff_workspace_size(layer, batch, call.concurrency, &size);
    void *workspace = add_workspace(choices, &call, needs, size, &workspace_size);
    if (batch == 0) {
        call.count = 0;
        call.refused = false;
    }
    call.refused = call.refused || no_type;
    if (given && batch > 0 && !call.refused && matrix_is_there(&call.matrices[nodes_at])) {
        write_nodes(choices, subject, &call.matrices[nodes_at]);
        call.wrong_numbers = !read_nodes(subject, &call.matrices[nodes_at], 0, NULL);
    }
    if (!is_tried(subject, &call, false)) {
        return;
    }
    fff_status status = FFF_ERROR_OPTION;
    switch (function) {
    case FORWARD:
        status =
            fff_forward(layer, batch, input, input_stride, output, output_stride, workspace, workspace_size, runner);
        break;
    case ROUTE:
        status = fff_route(layer, batch, input, input_stride, nodes, node_stride, logits, logit_stride, workspace,
                           workspace_size, runner);
        break;
    case FORWARD_PATHS:
        status = fff_forward_paths(layer, batch, input, input_stride, output, output_stride, nodes, node_stride, logits,
                                   logit_stride, workspace, workspace_size, runner);
        break;
    case ACCUMULATE:
        status = fff_accumulate(layer, batch, nodes, node_stride, logits, logit_stride, output, output_stride,
                                workspace, workspace_size, runner);
        break;
    case FORWARD_TYPED:
        status = fff_forward_typed(layer, batch, input_type, input, input_stride, output_type, output, output_stride,
                                   workspace, workspace_size, runner);
        break;
    case FORWARD_FUNCTIONS: break;
    }
    static const char *const names[FORWARD_FUNCTIONS] = {"forward", "route", "forward_paths", "accumulate",
                                                         "forward_typed"};
    check(&call, names[function], status);
}
