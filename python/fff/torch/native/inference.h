/* The operators for inference, as their schemas in operator.cpp have them. */
#ifndef FFF_TORCH_INFERENCE_H
#define FFF_TORCH_INFERENCE_H

#include <ATen/ATen.h>

#include <tuple>

#include "calls.h"
#include "forest_layer.h"
#include "path_sums.h"

namespace {

at::Tensor forward(const at::Tensor &x, const at::Tensor &input_weight, const c10::optional<at::Tensor> &bias,
                   const at::Tensor &output_weight, int64_t depth, int64_t trees, int64_t activation, int64_t routing,
                   bool node_major, int64_t store_input, int64_t store_output, bool exact_routes) {
    return forward_of(Arguments{input_weight, bias, output_weight, depth, trees, activation, routing, node_major,
                                store_input, store_output, exact_routes},
                      x);
}

void forward_out(const at::Tensor &x, const at::Tensor &input_weight, const c10::optional<at::Tensor> &bias,
                 const at::Tensor &output_weight, int64_t depth, int64_t trees, int64_t activation, int64_t routing,
                 bool node_major, int64_t store_input, int64_t store_output, bool exact_routes, const at::Tensor &out) {
    forward_out_of(Arguments{input_weight, bias, output_weight, depth, trees, activation, routing, node_major,
                             store_input, store_output, exact_routes},
                   x, out);
}

std::tuple<at::Tensor, at::Tensor> route(const at::Tensor &x, const at::Tensor &input_weight,
                                         const c10::optional<at::Tensor> &bias, const at::Tensor &output_weight,
                                         int64_t depth, int64_t trees, int64_t activation, int64_t routing,
                                         bool node_major, int64_t store_input, int64_t store_output,
                                         bool exact_routes) {
    return route_of(Arguments{input_weight, bias, output_weight, depth, trees, activation, routing, node_major,
                              store_input, store_output, exact_routes},
                    x, {trees, depth + 1});
}

at::Tensor forest(const at::Tensor &x, at::TensorList weights, at::IntArrayRef plan,
                  const c10::optional<at::Tensor> &output_bias, int64_t store_input, int64_t store_output,
                  bool exact_routes) {
    return forward_of(Forest(weights, plan, output_bias, store_input, store_output, exact_routes), x);
}

void forest_out(const at::Tensor &x, at::TensorList weights, at::IntArrayRef plan,
                const c10::optional<at::Tensor> &output_bias, int64_t store_input, int64_t store_output,
                bool exact_routes, const at::Tensor &out) {
    forward_out_of(Forest(weights, plan, output_bias, store_input, store_output, exact_routes), x, out);
}

std::tuple<at::Tensor, at::Tensor> forest_route(const at::Tensor &x, at::TensorList weights, at::IntArrayRef plan,
                                                const c10::optional<at::Tensor> &output_bias, int64_t store_input,
                                                int64_t store_output, bool exact_routes) {
    return route_of(Forest(weights, plan, output_bias, store_input, store_output, exact_routes), x, {});
}

} // namespace

#endif
