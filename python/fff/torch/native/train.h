/* Training: fff::train, fff::backward and fff::backward_rows, by layers that borrow the parameters, so that a step
 * costs what the neurons cost that its tokens meet. */
#ifndef FFF_TORCH_TRAIN_H
#define FFF_TORCH_TRAIN_H

#include <ATen/ATen.h>

#include <algorithm>
#include <tuple>

#include "borrowed.h"
#include "tokens.h"
#include "workspace.h"

namespace {

/* Rows of float32 tokens, or of their outputs' gradients. */
Tokens float_rows(const at::Tensor &rows, const char *name, int64_t width) {
    TORCH_CHECK_TYPE(rows.scalar_type() == at::kFloat, name, " has dtype ", dtype_name(rows.scalar_type()),
                     ", where training by fff's kernels takes torch.float32 (the modules' method dense() takes any "
                     "floating type)");
    return tokens(rows, width, name);
}

/* y, and what the backward pass wants to know: the nodes that were visited, and their logits. */
std::tuple<at::Tensor, at::Tensor, at::Tensor> train(const at::Tensor &x, const at::Tensor &input_weight,
                                                     const c10::optional<at::Tensor> &bias,
                                                     const at::Tensor &output_weight, int64_t depth, int64_t trees,
                                                     int64_t activation, int64_t routing, bool node_major,
                                                     const c10::optional<at::Tensor> &thresholds) {
    Arguments a{input_weight, bias, output_weight, depth, trees, activation, routing, node_major, 0, 0, false};
    Borrowed borrowed(a, thresholds.value_or(at::Tensor()));
    const Layer &layer = *borrowed.layer;
    Tokens in = float_rows(x, "x", a.input_width());
    size_t length = layer.path_length, out_width = static_cast<size_t>(a.output_width());
    at::Tensor y = new_tensor(shape(x, {a.output_width()}));
    at::Tensor nodes = new_tensor(shape(x, {trees, depth + 1}), at::kInt), logits = new_tensor(nodes.sizes());
    if (in.batch > 0) {
        const auto *data = in.held.data_ptr<float>();
        auto *node = reinterpret_cast<uint32_t *>(nodes.data_ptr<int32_t>()); /* below 2^31: depth is at most 30 */
        auto *logit = logits.data_ptr<float>();
        size_t widths = static_cast<size_t>(a.input_width()) + out_width;
        with_workspace(layer, in.batch, widths, [&](void *workspace, size_t size, const fff_runner *runner) {
            check(library.forward_paths(layer.layer, in.batch, data, in.stride, y.data_ptr<float>(), out_width, node,
                                        length, logit, length, workspace, size, runner),
                  "fff_forward_paths");
        });
    }
    return {y, nodes, logits};
}

/* Which gradients are wanted, as bits of `wanted`. */
enum Wanted { OF_X = 1, OF_INPUT_WEIGHT = 2, OF_BIAS = 4, OF_OUTPUT_WEIGHT = 8 };

/* A backward pass: of which batch of which layer. */
struct Backward {
    Arguments a;
    Borrowed borrowed;
    Tokens in, out;
    at::Tensor nodes, logits;
    int64_t wanted;
    at::Tensor of_x; /* empty if it is not wanted, as all that are not */

    Backward(const Arguments &given, const at::Tensor &grad, const at::Tensor &x, const at::Tensor &given_nodes,
             const at::Tensor &given_logits, int64_t which)
        : a(given), borrowed(a), in(float_rows(x, "x", a.input_width())),
          out(float_rows(grad, "grad", a.output_width())), nodes(given_nodes.contiguous()),
          logits(given_logits.contiguous()), wanted(a.has_bias() ? which : which & ~OF_BIAS) {
        int64_t entries = static_cast<int64_t>(in.batch * borrowed.layer->path_length);
        TORCH_CHECK_VALUE(out.batch == in.batch, "grad has ", out.batch, " rows, where x has ", in.batch);
        TORCH_CHECK_VALUE(nodes.scalar_type() == at::kInt && logits.scalar_type() == at::kFloat &&
                              nodes.numel() == entries && logits.numel() == entries,
                          "nodes and logits are not what fff::train returned for x");
        of_x = wants(OF_X) ? new_tensor(x.sizes()) : new_tensor({0});
    }

    bool wants(Wanted one) const {
        return (wanted & one) != 0;
    }
    int64_t neurons() const {
        return a.input_weight.size(0);
    }
    const uint32_t *node() const {
        return reinterpret_cast<const uint32_t *>(nodes.data_ptr<int32_t>());
    }

    /* A matrix of `rows` rows for a gradient that is wanted. */
    at::Tensor room(Wanted one, int64_t rows, int64_t width, bool zeros) const {
        at::Tensor made = wants(one) ? new_tensor({rows, width}) : new_tensor({0, width});
        return zeros ? made.zero_() : made;
    }

    /* Calls call(workspace, size, runner). */
    template <typename Call> void with_backward_workspace(const Call &call) const {
        size_t widths = 2 * static_cast<size_t>(a.input_width() + a.output_width());
        size_t concurrency = concurrency_of(*borrowed.layer, in.batch, widths), size = 0;
        check(library.backward_workspace_size(borrowed.layer->layer, in.batch, concurrency, &size),
              "fff_backward_workspace_size");
        fff_runner runner{run_tasks, nullptr, concurrency};
        call(scratch(size), size, concurrency > 1 ? &runner : nullptr);
    }

    /* The rows of neurons that were met, in ascending order. */
    at::Tensor visited() const {
        size_t length = borrowed.layer->path_length, count = 0;
        size_t capacity = std::min(static_cast<size_t>(neurons()), in.batch * length);
        at::Tensor rows = new_tensor({static_cast<int64_t>(capacity)}, at::kInt);
        if (in.batch > 0) {
            with_backward_workspace([&](void *workspace, size_t size, const fff_runner *) {
                check(library.visited_rows(borrowed.layer->layer, 0, in.batch, node(), length,
                                           reinterpret_cast<uint32_t *>(rows.data_ptr<int32_t>()), capacity, &count,
                                           workspace, size),
                      "fff_visited_rows");
            });
        }
        return rows.narrow(0, 0, static_cast<int64_t>(count));
    }

    /* The pass itself, with the weights' gradients into matrices that are there where they are wanted. `rows`:
     * undefined, or the neurons that their rows belong to. */
    void run(const at::Tensor &rows, const at::Tensor &of_input, const at::Tensor &of_bias,
             const at::Tensor &of_output) const {
        if (in.batch == 0) {
            return;
        }
        fff_gradients gradients{};
        gradients.struct_size = sizeof gradients;
        if (rows.defined()) {
            gradients.rows = reinterpret_cast<const uint32_t *>(rows.data_ptr<int32_t>());
            gradients.row_count = static_cast<size_t>(rows.numel());
        }
        if (wants(OF_INPUT_WEIGHT)) {
            gradients.input_weights = {of_input.data_ptr<float>(), static_cast<size_t>(a.input_width())};
        }
        gradients.biases = wants(OF_BIAS) ? of_bias.data_ptr<float>() : nullptr;
        if (wants(OF_OUTPUT_WEIGHT)) {
            gradients.output_weights = {of_output.data_ptr<float>(), static_cast<size_t>(a.output_width())};
        }
        bool of_weights = (wanted & (OF_INPUT_WEIGHT | OF_BIAS | OF_OUTPUT_WEIGHT)) != 0;
        size_t length = borrowed.layer->path_length;
        with_backward_workspace([&](void *workspace, size_t size, const fff_runner *runner) {
            check(library.backward(borrowed.layer->layer, in.batch, in.held.data_ptr<float>(), in.stride, node(),
                                   length, logits.data_ptr<float>(), length, out.held.data_ptr<float>(), out.stride,
                                   wants(OF_X) ? of_x.data_ptr<float>() : nullptr, static_cast<size_t>(a.input_width()),
                                   of_weights ? &gradients : nullptr, workspace, size, runner),
                  "fff_backward");
        });
    }
};

/* Gradients of x and of the weights, each of their shape; empty where they are not wanted. */
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>
backward(const at::Tensor &grad, const at::Tensor &x, const at::Tensor &input_weight,
         const c10::optional<at::Tensor> &bias, const at::Tensor &output_weight, const at::Tensor &nodes,
         const at::Tensor &logits, int64_t depth, int64_t trees, int64_t activation, int64_t routing, bool node_major,
         int64_t wanted) {
    Arguments a{input_weight, bias, output_weight, depth, trees, activation, routing, node_major, 0, 0, false};
    Backward pass(a, grad, x, nodes, logits, wanted);
    int64_t neurons = pass.neurons();
    at::Tensor of_input = pass.room(OF_INPUT_WEIGHT, neurons, a.input_width(), true);
    at::Tensor of_bias = pass.room(OF_BIAS, neurons, 1, true).flatten();
    at::Tensor of_output = pass.room(OF_OUTPUT_WEIGHT, neurons, a.output_width(), true);
    pass.run({}, of_input, of_bias, of_output);
    return {pass.of_x, of_input, of_bias, node_major ? of_output : of_output.t()};
}

/* Likewise, but of the weights only rows, whose neurons are listed: of x, the list, of input weights, of biases, of
 * output weights. */
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>
backward_rows(const at::Tensor &grad, const at::Tensor &x, const at::Tensor &input_weight,
              const c10::optional<at::Tensor> &bias, const at::Tensor &output_weight, const at::Tensor &nodes,
              const at::Tensor &logits, int64_t depth, int64_t trees, int64_t activation, int64_t routing,
              bool node_major, int64_t wanted) {
    Arguments a{input_weight, bias, output_weight, depth, trees, activation, routing, node_major, 0, 0, false};
    Backward pass(a, grad, x, nodes, logits, wanted);
    TORCH_CHECK_VALUE(pass.neurons() <= INT32_MAX, "there are ", pass.neurons(), " neurons");
    at::Tensor rows = pass.visited();
    at::Tensor of_input = pass.room(OF_INPUT_WEIGHT, rows.numel(), a.input_width(), false);
    at::Tensor of_bias = pass.room(OF_BIAS, rows.numel(), 1, false).flatten();
    at::Tensor of_output = pass.room(OF_OUTPUT_WEIGHT, rows.numel(), a.output_width(), false);
    pass.run(rows, of_input, of_bias, of_output);
    return {pass.of_x, rows, of_input, of_bias, of_output};
}

} // namespace

#endif
