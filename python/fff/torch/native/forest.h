/* What fff::forest is given: the parts of a layer, path sums and leaves; and the checks of it. */
#ifndef FFF_TORCH_FOREST_H
#define FFF_TORCH_FOREST_H

#include <ATen/ATen.h>

#include <array>
#include <vector>

#include "checks.h"

namespace {

/* A part's weights in the operator's list, which holds those that are there. Path sums have no leaves. */
enum Slot { NODES, NODE_BIASES, LEAVES, LEAF_BIASES, OUTPUTS, OUTPUT_BIASES, THRESHOLDS, FACTOR, SLOTS };
const char *const path_names[SLOTS] = {"input_weight", "bias",          "leaf weights",
                                       "leaf biases",  "output_weight", "leaf output biases",
                                       "thresholds",   "factor"};
const char *const leaf_names[SLOTS] = {"node_weights", "node_biases", "w1s",        "b1s",
                                       "w2s",          "b2s",         "thresholds", "factor"};

/* A part's numbers in the operator's plan. PRESENT has a bit for each slot: whether there is a weight. (A list of
 * tensors and nothings would do without, but PyTorch 1.13 cannot trace it.) */
enum Number { DEPTH, TREES, ACTIVATION, ROUTING, NODE_MAJOR, LEAF_WIDTH, FACTOR_IS, PRESENT, NUMBERS };
enum FactorIs { PLAIN, SIGMOID, ONE_MINUS_SIGMOID, FACTOR_KINDS }; /* of the tensor in FACTOR */

struct PartGiven {
    std::array<at::Tensor, SLOTS> weights; /* undefined where there is none */
    const int64_t *numbers;

    int64_t operator[](Number number) const {
        return numbers[number];
    }
    bool is_leaf() const {
        return numbers[LEAF_WIDTH] > 0;
    }
    const char *name(int slot) const {
        return (is_leaf() ? leaf_names : path_names)[slot];
    }
    /* Of the type that decides the others', and as wide as the input. */
    const at::Tensor &inputs() const {
        return weights[is_leaf() ? LEAVES : NODES];
    }
    int64_t output_width() const {
        const at::Tensor &outputs = weights[OUTPUTS];
        return outputs.size(is_leaf() ? 2 : numbers[NODE_MAJOR] != 0 ? 1 : 0);
    }
};

struct Forest {
    std::vector<PartGiven> parts;
    at::IntArrayRef plan;
    at::Tensor output_bias; /* undefined if there is none */
    int64_t store_input, store_output;
    bool exact_routes;

    Forest(at::TensorList weights, at::IntArrayRef given_plan, const c10::optional<at::Tensor> &bias, int64_t input,
           int64_t output, bool exact)
        : plan(given_plan), store_input(input), store_output(output), exact_routes(exact) {
        TORCH_CHECK_VALUE(!plan.empty() && plan.size() % NUMBERS == 0, "a part has ", static_cast<int>(NUMBERS),
                          " numbers, and there are ", plan.size());
        parts.resize(plan.size() / NUMBERS);
        size_t taken = 0;
        for (size_t part = 0; part < parts.size(); part++) {
            parts[part].numbers = plan.data() + part * NUMBERS;
            for (int slot = 0; slot < SLOTS; slot++) {
                if ((parts[part][PRESENT] >> slot & 1) != 0 && taken < weights.size()) {
                    parts[part].weights[slot] = weights[taken++];
                } else if ((parts[part][PRESENT] >> slot & 1) != 0) {
                    taken = weights.size() + 1;
                }
            }
            check_dimensions(parts[part]);
        }
        TORCH_CHECK_VALUE(taken == weights.size(), "there are ", weights.size(), " weights, and the plan names others");
        if (bias.has_value() && bias->defined()) {
            output_bias = *bias;
        }
    }

    int64_t input_width() const {
        return parts[0].inputs().size(1);
    }
    int64_t output_width() const {
        return parts[0].output_width();
    }
    template <typename Visit> void visit_weights(const Visit &visit) const {
        for (const PartGiven &part : parts) {
            for (int slot = 0; slot < SLOTS; slot++) {
                if (part.weights[slot].defined()) {
                    visit(part.weights[slot], part.name(slot));
                }
            }
        }
        if (output_bias.defined()) {
            visit(output_bias, "output_bias");
        }
    }

  private:
    /* What widths are read from. */
    static void check_dimensions(const PartGiven &part) {
        int64_t dimensions = part.is_leaf() ? 3 : 2;
        for (int slot : {part.is_leaf() ? LEAVES : NODES, OUTPUTS}) {
            TORCH_CHECK_VALUE(part.weights[slot].defined() && part.weights[slot].dim() == dimensions, part.name(slot),
                              " is missing, or has not ", dimensions, " dimensions");
        }
    }
};

void check_types(const Forest &a, const at::Tensor &x) {
    auto expected = a.parts[0].weights[OUTPUTS].scalar_type();
    for (const PartGiven &part : a.parts) {
        for (int slot = 0; slot < THRESHOLDS; slot++) {
            if (part.weights[slot].defined()) {
                check_type(part.weights[slot], expected, part.name(slot));
            }
        }
    }
    if (a.output_bias.defined()) {
        check_type(a.output_bias, expected, "output_bias");
    }
    if (a.store_input == 0) {
        check_type(x, expected, "x");
    }
}

void check_shape(const PartGiven &part, int slot, std::vector<int64_t> wanted, bool column = false) {
    const at::Tensor &tensor = part.weights[slot];
    if (!tensor.defined()) {
        return;
    }
    std::vector<int64_t> also = wanted;
    also.push_back(1); /* node_biases are a column */
    TORCH_CHECK_VALUE(tensor.sizes() == at::IntArrayRef(wanted) || (column && tensor.sizes() == at::IntArrayRef(also)),
                      part.name(slot), " has shape ", tensor.sizes(), ", where ", part[TREES], " trees of depth ",
                      part[DEPTH], part.is_leaf() ? " with leaves" : "", " want ", at::IntArrayRef(wanted));
}

void check_arguments(const Forest &a) {
    a.visit_weights(check_tensor);
    check_store(a.store_input, a.store_output);
    int64_t in = a.input_width(), out = a.output_width();
    for (const PartGiven &part : a.parts) {
        check_plan(part[DEPTH], part[TREES], part[ACTIVATION], part[ROUTING]);
        TORCH_CHECK_VALUE(part[LEAF_WIDTH] >= 0 && part[LEAF_WIDTH] <= UINT32_MAX, "leaf width ", part[LEAF_WIDTH]);
        TORCH_CHECK_VALUE(part[FACTOR_IS] >= 0 && part[FACTOR_IS] < FACTOR_KINDS, "factor kind ", part[FACTOR_IS]);
        int64_t leaves = part[TREES] << part[DEPTH], width = part[LEAF_WIDTH];
        int64_t nodes = part.is_leaf() ? leaves - part[TREES] : 2 * leaves - part[TREES];
        check_shape(part, NODES, {nodes, in});
        check_shape(part, NODE_BIASES, {nodes}, true);
        check_shape(part, THRESHOLDS, {nodes});
        if (part.is_leaf()) {
            TORCH_CHECK_VALUE(part.weights[NODES].defined() || nodes == 0, "node_weights is missing");
            check_shape(part, LEAVES, {leaves, in, width});
            check_shape(part, LEAF_BIASES, {leaves, width});
            check_shape(part, OUTPUTS, {leaves, width, out});
            check_shape(part, OUTPUT_BIASES, {leaves, out});
        } else {
            check_shape(part, OUTPUTS,
                        part[NODE_MAJOR] != 0 ? std::vector<int64_t>{nodes, out} : std::vector<int64_t>{out, nodes});
            for (int slot : {LEAVES, LEAF_BIASES, OUTPUT_BIASES}) {
                TORCH_CHECK_VALUE(!part.weights[slot].defined(), "path sums have no ", part.name(slot));
            }
        }
        TORCH_CHECK_VALUE(!part.weights[FACTOR].defined() || part.weights[FACTOR].numel() == 1, "factor has shape ",
                          part.weights[FACTOR].sizes(), ", and is one number");
    }
    TORCH_CHECK_VALUE(!a.output_bias.defined() || (a.output_bias.dim() == 1 && a.output_bias.size(0) == out),
                      "output_bias has shape ", a.output_bias.sizes(), ", not [", out, "]");
    check_types(a, a.parts[0].weights[OUTPUTS]);
}

} // namespace

#endif
