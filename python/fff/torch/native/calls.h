/* The kernels of the operators: tokens in, results out. `Given` is Arguments or Forest. */
#ifndef FFF_TORCH_CALLS_H
#define FFF_TORCH_CALLS_H

#include <ATen/ATen.h>

#include <algorithm>
#include <memory>
#include <tuple>
#include <vector>

#include "packed.h"
#include "tokens.h"
#include "workspace.h"

namespace {

/* The outputs for all tokens, of the tokens' type, into rows of `y` that lie `y_stride` elements apart. */
template <typename Given>
void forward_into(const Given &a, const Layer &layer, const Tokens &in, const at::Tensor &y, size_t y_stride) {
    size_t in_width = static_cast<size_t>(a.input_width()), out_width = static_cast<size_t>(a.output_width());
    at::ScalarType type = in.held.scalar_type();
    bool narrowed = type != at::kFloat, bf16 = type == at::kBFloat16;
    at::Tensor wide; /* a chunk's results, to be rounded */
    if (narrowed) {
        wide = new_tensor({static_cast<int64_t>(std::min(in.batch, CHUNK)), a.output_width()});
    }
    for_chunks(in, in_width, [&](size_t first, size_t rows, const float *data, size_t stride) {
        float *out = narrowed ? wide.data_ptr<float>() : y.data_ptr<float>();
        size_t out_stride = narrowed ? out_width : y_stride;
        with_workspace(layer, rows, in_width + out_width, [&](void *workspace, size_t size, const fff_runner *runner) {
            check(library.forward(layer.layer, rows, data, stride, out, out_stride, workspace, size, runner),
                  "fff_forward");
        });
        if (narrowed) {
            uint16_t *to = static_cast<uint16_t *>(y.data_ptr()) + first * y_stride;
            for_rows(rows, out_width, [&](size_t begin, size_t count) {
                if (y_stride == out_width) {
                    narrow(bf16, out + begin * out_width, count * out_width, to + begin * out_width);
                    return;
                }
                for (size_t row = begin; row < begin + count; row++) {
                    narrow(bf16, out + row * out_width, out_width, to + row * y_stride);
                }
            });
        }
    });
}

template <typename Given> at::Tensor forward_of(const Given &a, const at::Tensor &x) {
    std::shared_ptr<const Layer> layer = packed<Given>().find(a, token_count(x));
    Tokens in = tokens(x, a.input_width());
    check_types(a, x);
    at::ScalarType type = x.scalar_type();
    at::Tensor y =
        x.dim() == 2 ? new_tensor({x.size(0), a.output_width()}, type) : new_tensor(shape(x, {a.output_width()}), type);
    forward_into(a, *layer, in, y, static_cast<size_t>(a.output_width()));
    return y;
}

/* Whether rows of x and of y share memory. Rows that lie the same number of bytes apart may interleave; others are
 * taken to share all between the first and the last. */
bool shares_memory(const Tokens &x, size_t x_width, const at::Tensor &y, size_t y_stride, size_t y_width) {
    if (x.batch == 0) {
        return false;
    }
    size_t x_element = x.held.element_size(), y_element = y.element_size();
    size_t x_step = x.stride * x_element, y_step = y_stride * y_element;
    size_t x_bytes = x_width * x_element, y_bytes = y_width * y_element;
    auto x_begin = reinterpret_cast<uintptr_t>(x.held.data_ptr()), y_begin = reinterpret_cast<uintptr_t>(y.data_ptr());
    if (x_begin + (x.batch - 1) * x_step + x_bytes <= y_begin ||
        y_begin + (x.batch - 1) * y_step + y_bytes <= x_begin) {
        return false;
    }
    if (x_step != y_step) {
        return true;
    }
    size_t apart = y_begin > x_begin ? (y_begin - x_begin) % x_step : (x_step - (x_begin - y_begin) % x_step) % x_step;
    return apart < x_bytes || apart + y_bytes > x_step;
}

/* forward_of() into a tensor of the caller's, which is neither resized nor converted. */
template <typename Given> void forward_out_of(const Given &a, const at::Tensor &x, const at::Tensor &out) {
    std::shared_ptr<const Layer> layer = packed<Given>().find(a, token_count(x));
    Tokens in = tokens(x, a.input_width());
    check_types(a, x);
    check_tensor(out, "out");
    TORCH_CHECK_TYPE(out.scalar_type() == x.scalar_type(), "out has dtype ", dtype_name(out.scalar_type()),
                     ", where the results are ", dtype_name(x.scalar_type()));
    std::vector<int64_t> sizes = shape(x, {a.output_width()});
    TORCH_CHECK_VALUE(out.sizes() == at::IntArrayRef(sizes), "out has shape ", out.sizes(), ", not ",
                      at::IntArrayRef(sizes));
    bool rows = out.dim() == 2 && out.stride(1) == 1 && out.stride(0) >= a.output_width(); /* any stride between them */
    TORCH_CHECK_VALUE(rows || out.is_contiguous(), "out has strides ", out.strides(),
                      ", where its rows must be contiguous, and, but for 2 dimensions, follow one another");
    size_t stride = static_cast<size_t>(rows ? out.stride(0) : a.output_width());
    TORCH_CHECK_VALUE(
        !shares_memory(in, static_cast<size_t>(a.input_width()), out, stride, static_cast<size_t>(a.output_width())),
        "out shares memory with x");
    forward_into(a, *layer, in, out, stride);
    if (!out.is_inference()) {
        out.unsafeGetTensorImpl()->bump_version(); /* as every operation that writes does */
    }
}

/* Nodes and logits of x's leading dimensions and `last`, which multiply to the path length. */
template <typename Given>
std::tuple<at::Tensor, at::Tensor> route_of(const Given &a, const at::Tensor &x, std::initializer_list<int64_t> last) {
    std::shared_ptr<const Layer> layer = packed<Given>().find(a, token_count(x));
    Tokens in = tokens(x, a.input_width());
    check_types(a, x);
    size_t in_width = static_cast<size_t>(a.input_width()), length = layer->path_length;
    std::vector<int64_t> sizes = last.size() > 0 ? shape(x, last) : shape(x, {static_cast<int64_t>(length)});
    at::Tensor nodes = new_tensor(sizes, at::kInt), logits = new_tensor(sizes);
    for_chunks(in, in_width, [&](size_t first, size_t rows, const float *data, size_t stride) {
        /* below 2^31: depth is at most 30 */
        auto *node = reinterpret_cast<uint32_t *>(nodes.data_ptr<int32_t>()) + first * length;
        float *logit = logits.data_ptr<float>() + first * length;
        with_workspace(*layer, rows, in_width, [&](void *workspace, size_t size, const fff_runner *runner) {
            check(library.route(layer->layer, rows, data, stride, node, length, logit, length, workspace, size, runner),
                  "fff_route");
        });
    });
    return {nodes, logits};
}

} // namespace

#endif
