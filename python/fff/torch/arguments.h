/* What an operator is given, and the checks of it. */
#ifndef FFF_TORCH_ARGUMENTS_H
#define FFF_TORCH_ARGUMENTS_H

#include <ATen/ATen.h>

#include <algorithm>
#include <cctype>
#include <string>

#include "library.h"

namespace {

/* Of the operators for path sums alone. */
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

/* As Python spells it. */
std::string dtype_name(at::ScalarType type) {
    switch (type) {
    case at::kByte: return "torch.uint8";
    case at::kChar: return "torch.int8";
    case at::kShort: return "torch.int16";
    case at::kInt: return "torch.int32";
    case at::kLong: return "torch.int64";
    case at::kHalf: return "torch.float16";
    case at::kFloat: return "torch.float32";
    case at::kDouble: return "torch.float64";
    case at::kComplexHalf: return "torch.complex32";
    case at::kComplexFloat: return "torch.complex64";
    case at::kComplexDouble: return "torch.complex128";
    default: break;
    }
    std::string name = c10::toString(type); /* BFloat16, Bool, QInt8, Float8_e5m2: the same but for capitals */
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
    return "torch." + name;
}

bool known_type(at::ScalarType type) {
    return type == at::kFloat || type == at::kBFloat16 || type == at::kHalf;
}

fff_weight_type weight_type(const at::Tensor &weight) {
    switch (weight.scalar_type()) {
    case at::kBFloat16: return FFF_WEIGHT_BF16;
    case at::kHalf: return FFF_WEIGHT_F16;
    default: return FFF_WEIGHT_F32;
    }
}

void check_tensor(const at::Tensor &tensor, const char *name) {
    TORCH_CHECK_TYPE(known_type(tensor.scalar_type()), name, " has dtype ", dtype_name(tensor.scalar_type()),
                     ", where fff's kernels take torch.float32, torch.bfloat16 and torch.float16 (the modules' method "
                     "dense() takes any floating type)");
    TORCH_CHECK_NOT_IMPLEMENTED(tensor.device().is_cpu() && tensor.layout() == at::kStrided, name, " is ",
                                tensor.layout() == at::kStrided ? "" : "not dense and ", "on ", tensor.device(),
                                ", where fff's kernels take dense tensors on the CPU alone");
}

/* As torch.nn.Linear, which mixes no types. A layer that is told what to store takes tokens of any. */
void check_type(const at::Tensor &tensor, at::ScalarType expected, const char *name) {
    TORCH_CHECK_TYPE(tensor.scalar_type() == expected, name, " has dtype ", dtype_name(tensor.scalar_type()),
                     ", where the weights are ", dtype_name(expected),
                     " (the modules' method dense() takes any floating type)");
}

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

void check_store(int64_t store_input, int64_t store_output) {
    TORCH_CHECK_VALUE(store_input >= 0 && store_input <= FFF_CHOOSE_I8 && store_output >= 0 &&
                          store_output <= FFF_CHOOSE_I8,
                      "store_input ", store_input, " or store_output ", store_output, " is not from 0 to ",
                      static_cast<int>(FFF_CHOOSE_I8));
}

void check_plan(int64_t depth, int64_t trees, int64_t activation, int64_t routing) {
    TORCH_CHECK_VALUE(depth >= 0 && depth <= FFF_MAX_DEPTH, "depth ", depth, " is not from 0 to ", FFF_MAX_DEPTH);
    TORCH_CHECK_VALUE(trees >= 1 && trees <= UINT32_MAX, "there are ", trees, " trees");
    TORCH_CHECK_VALUE(activation >= 0 && activation < FFF_ACTIVATION_COUNT, "activation ", activation,
                      " is not from 0 to ", FFF_ACTIVATION_COUNT - 1);
    TORCH_CHECK_VALUE(routing == FFF_ROUTING_GREATER || routing == FFF_ROUTING_GREATER_EQUAL, "routing ", routing,
                      " is not 0 or 1");
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

} // namespace

#endif
