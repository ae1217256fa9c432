/* What the checks of operators' arguments share. */
#ifndef FFF_TORCH_CHECKS_H
#define FFF_TORCH_CHECKS_H

#include <ATen/ATen.h>

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <string>

#include "library.h"

namespace {

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

/* Whether elements lie at multiples of their size, as libfff wants them. Memory that PyTorch has not allocated itself
 * (torch.frombuffer, a file that is mapped) may lie anywhere. */
bool is_aligned(const at::Tensor &tensor) {
    return reinterpret_cast<uintptr_t>(tensor.data_ptr()) % static_cast<size_t>(tensor.element_size()) == 0;
}

/* The tensor, or a copy of the same strides where they have no gaps. */
at::Tensor aligned(const at::Tensor &tensor) {
    return is_aligned(tensor) ? tensor : tensor.clone();
}

/* As torch.nn.Linear, which mixes no types. A layer that is told what to store takes tokens of any. */
void check_type(const at::Tensor &tensor, at::ScalarType expected, const char *name) {
    TORCH_CHECK_TYPE(tensor.scalar_type() == expected, name, " has dtype ", dtype_name(tensor.scalar_type()),
                     ", where the weights are ", dtype_name(expected),
                     " (the modules' method dense() takes any floating type)");
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

} // namespace

#endif
