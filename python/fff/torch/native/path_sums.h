/* What the operators for path sums alone are given, the checks of it, and the packing. */
#ifndef FFF_TORCH_PATH_SUMS_H
#define FFF_TORCH_PATH_SUMS_H

#include <ATen/ATen.h>

#include <array>
#include <memory>
#include <tuple>

#include "checks.h"
#include "layer.h"
#include "watch.h"

namespace {

/* Of path sums alone: a layer of one part. */
struct Arguments {
    const at::Tensor &input_weight;        /* trees * nodes x input width */
    const c10::optional<at::Tensor> &bias; /* trees * nodes */
    const at::Tensor &output_weight; /* output width x trees * nodes; if node_major, trees * nodes x output width */
    int64_t depth, trees, activation, routing;
    bool node_major;
    int64_t store_input, store_output; /* 0: as the weights are; else fff_weight_choice */
    bool exact_routes;

    bool has_bias() const {
        return bias.has_value() && bias->defined();
    }
    int64_t input_width() const {
        return input_weight.size(1);
    }
    int64_t output_width() const {
        return output_weight.size(node_major ? 1 : 0);
    }
    /* Calls visit(weight, its name) for all that are there. */
    template <typename Visit> void visit_weights(const Visit &visit) const {
        visit(input_weight, "input_weight");
        if (has_bias()) {
            visit(*bias, "bias");
        }
        visit(output_weight, "output_weight");
    }
};

void check_types(const Arguments &a, const at::Tensor &x) {
    auto expected = a.input_weight.scalar_type();
    check_type(a.output_weight, expected, "output_weight");
    if (a.has_bias()) {
        check_type(*a.bias, expected, "bias");
    }
    if (a.store_input == 0) {
        check_type(x, expected, "x");
    }
}

void check_arguments(const Arguments &a) {
    check_tensor(a.input_weight, "input_weight");
    check_tensor(a.output_weight, "output_weight");
    check_plan(a.depth, a.trees, a.activation, a.routing);
    check_store(a.store_input, a.store_output);
    int64_t rows = a.trees * static_cast<int64_t>(library.nodes_per_tree(static_cast<size_t>(a.depth)));
    TORCH_CHECK_VALUE(a.input_weight.dim() == 2 && a.input_weight.size(0) == rows, "input_weight has shape ",
                      a.input_weight.sizes(), ", where ", a.trees, " trees of depth ", a.depth, " want ", rows,
                      " rows");
    TORCH_CHECK_VALUE(a.output_weight.dim() == 2 && a.output_weight.size(a.node_major ? 0 : 1) == rows,
                      "output_weight has shape ", a.output_weight.sizes(), ", where ", a.trees, " trees of depth ",
                      a.depth, " want ", rows, a.node_major ? " rows" : " columns");
    if (a.has_bias()) {
        check_tensor(*a.bias, "bias");
        TORCH_CHECK_VALUE(a.bias->dim() == 1 && a.bias->size(0) == rows, "bias has shape ", a.bias->sizes(), ", not [",
                          rows, "]");
    }
}

/* What a layer is but for its weights. */
fff_layer_desc describe_shape(const Arguments &a) {
    fff_layer_desc desc{};
    desc.struct_size = sizeof desc;
    desc.input_width = static_cast<size_t>(a.input_width());
    desc.output_width = static_cast<size_t>(a.output_width());
    desc.depth = static_cast<size_t>(a.depth);
    desc.trees = static_cast<size_t>(a.trees);
    desc.activation = static_cast<fff_activation>(a.activation);
    desc.routing = static_cast<fff_routing>(a.routing);
    return desc;
}

/* Copies and packs checked weights: milliseconds. */
std::shared_ptr<const Layer> pack(const Arguments &a) {
    at::Tensor bias = a.has_bias() ? aligned(a.bias->to(at::kFloat).contiguous()) : at::Tensor();
    at::Tensor input_weight = aligned(a.input_weight), output_weight = aligned(a.output_weight);
    fff_layer_desc desc = describe_shape(a);
    desc.weight_type = weight_type(a.input_weight);
    desc.output_weight_type = static_cast<fff_weight_choice>(1 + weight_type(a.output_weight));
    desc.store_input = static_cast<fff_weight_choice>(a.store_input);
    desc.store_output = static_cast<fff_weight_choice>(a.store_output);
    desc.routes = a.exact_routes ? FFF_ROUTES_EXACT : FFF_ROUTES_STORED;
    fff_bad_weight bad{};
    desc.bad_weight = &bad;
    desc.input_weights = view_of(input_weight, 0, 1);
    desc.output_weights = a.node_major ? view_of(output_weight, 0, 1) : view_of(output_weight, 1, 0);
    desc.biases = bias.defined() ? bias.data_ptr<float>() : nullptr;
    fff_status status = FFF_OK;
    std::shared_ptr<Layer> result = create(desc, &status);
    TORCH_CHECK(status != FFF_ERROR_WEIGHT, "fff_layer_create: ", library.status_text(status), " (",
                bad.of_output ? "output" : "input", "_weight, neuron ", bad.row, ", column ", bad.column, ")");
    check(status, "fff_layer_create");
    return result;
}

/* Where weights lie: of path sums, always in the order of visit_weights(), with nothing for a bias that is not there.
 */
std::array<Place, 3> places_of(const Arguments &a) {
    return {Place(a.input_weight), a.has_bias() ? Place(*a.bias) : Place(), Place(a.output_weight)};
}

struct Key {
    const void *input_weight, *bias, *output_weight;
    int64_t depth, trees, activation, routing, node_major, store_input, store_output, exact_routes;
    bool operator<(const Key &other) const {
        return std::tie(input_weight, bias, output_weight, depth, trees, activation, routing, node_major, store_input,
                        store_output, exact_routes) <
               std::tie(other.input_weight, other.bias, other.output_weight, other.depth, other.trees, other.activation,
                        other.routing, other.node_major, other.store_input, other.store_output, other.exact_routes);
    }
};

Key key_of(const Arguments &a, const std::array<Place, 3> &places) {
    return {places[0].data, places[1].data, places[2].data, a.depth,        a.trees,       a.activation,
            a.routing,      a.node_major,   a.store_input,  a.store_output, a.exact_routes};
}

} // namespace

#endif
