/* The kernels of the operators: tokens in, results out, on PyTorch's threads. */
#ifndef FFF_TORCH_CALLS_H
#define FFF_TORCH_CALLS_H

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/Parallel.h>

#include <sys/mman.h>

#include <memory>
#include <tuple>
#include <vector>

#include "forest.h"
#include "half.h"
#include "packed.h"

namespace {

/* Rows of tokens; those of float32 as fff_forward() takes them. */
struct Tokens {
    at::Tensor held;
    size_t batch, stride;
};

/* 0 for what tokens() refuses. */
size_t token_count(const at::Tensor &x) {
    return x.dim() < 1 || x.size(-1) == 0 ? 0 : static_cast<size_t>(x.numel() / x.size(-1));
}

Tokens tokens(const at::Tensor &x, int64_t width, const char *name = "x") {
    check_tensor(x, name);
    TORCH_CHECK_VALUE(x.dim() >= 1 && x.size(-1) == width, name, " has shape ", x.sizes(), ", not [..., ", width, "]");
    bool rows = x.dim() == 2 && x.stride(1) == 1 && x.stride(0) >= width; /* any stride between them */
    at::Tensor held = rows ? x : x.contiguous();
    return {held, token_count(held), static_cast<size_t>(rows ? x.stride(0) : width)};
}

/* This thread's scratch; grows, up to the bound that fff_workspace_size() has, and is freed with the thread. */
void *scratch(size_t size) {
    thread_local std::vector<char> memory;
    if (memory.size() < size) {
        memory.resize(size);
    }
    return memory.data();
}

/* Tasks on PyTorch's own threads. */
void run_tasks(void *, size_t count, void (*task)(void *, size_t), void *argument) {
    at::parallel_for(0, static_cast<int64_t>(count), 1, [=](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++) {
            task(argument, static_cast<size_t>(i));
        }
    });
}

/* How many tasks may run at once, as torch.set_num_threads() and the amount of work ask for. */
size_t concurrency_of(const Layer &layer, size_t batch, size_t widths) {
    constexpr size_t LEAST_WORK = 1 << 18; /* multiplications: some 30 us, several times what threads cost */
    int64_t threads = at::in_parallel_region() ? 1 : at::get_num_threads();
    return batch * layer.path_length * widths < LEAST_WORK ? 1 : static_cast<size_t>(threads);
}

/* Calls call(workspace, size, runner). */
template <typename Call> void with_workspace(const Layer &layer, size_t batch, size_t widths, const Call &call) {
    if (batch == 1) {
        call(scratch(layer.token_workspace), layer.token_workspace, nullptr);
        return;
    }
    size_t concurrency = concurrency_of(layer, batch, widths), size = 0;
    check(library.workspace_size(layer.layer, batch, concurrency, &size), "fff_workspace_size");
    fff_runner runner{run_tasks, nullptr, concurrency};
    call(scratch(size), size, concurrency > 1 ? &runner : nullptr);
}

std::vector<int64_t> shape(const at::Tensor &x, std::initializer_list<int64_t> last) {
    std::vector<int64_t> sizes(x.sizes().begin(), x.sizes().end() - 1);
    sizes.insert(sizes.end(), last);
    return sizes;
}

/* Past the dispatcher, which would find nothing else: this is the CPU's kernel already. Where large, it is fresh memory
 * at every call, whose pages take longer to come than the kernels take to fill them: fewer and larger ones are asked
 * for, as NumPy does. */
at::Tensor new_tensor(at::IntArrayRef sizes, at::ScalarType type = at::kFloat) {
    constexpr size_t LARGE = 4 << 20, PAGE = 4096;
    at::Tensor made = at::detail::empty_cpu(sizes, type);
#ifdef MADV_HUGEPAGE
    if (made.nbytes() >= LARGE) {
        auto address = reinterpret_cast<uintptr_t>(made.data_ptr());
        size_t skipped = (PAGE - address % PAGE) % PAGE;
        (void)madvise(reinterpret_cast<void *>(address + skipped), (made.nbytes() - skipped) / PAGE * PAGE,
                      MADV_HUGEPAGE); /* advice: refusal changes nothing but speed */
    }
#endif
    return made;
}

constexpr size_t CHUNK = 4096; /* tokens of 16 bits that are widened at once */

/* Calls each(first row, rows) for shares of `rows`, on PyTorch's threads where that pays. */
template <typename Each> void for_rows(size_t rows, size_t columns, const Each &each) {
    constexpr size_t LEAST_ELEMENTS = 1 << 16;
    auto grain = static_cast<int64_t>(LEAST_ELEMENTS / std::max<size_t>(columns, 1) + 1);
    at::parallel_for(0, static_cast<int64_t>(rows), grain, [&](int64_t begin, int64_t end) {
        each(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
    });
}

/* Rows from `first` on as float32, next to one another. */
void widen_tokens(const Tokens &in, size_t first, size_t rows, size_t width, float *to) {
    bool bf16 = in.held.scalar_type() == at::kBFloat16;
    const uint16_t *from = static_cast<const uint16_t *>(in.held.data_ptr()) + first * in.stride;
    for_rows(rows, width, [&](size_t begin, size_t count) {
        for (size_t row = begin; row < begin + count; row++) {
            widen(bf16, from + row * in.stride, width, to + row * width);
        }
    });
}

/* call(first row, rows, float32 tokens, their stride) for all tokens: at once, or, where they are of 16 bits, in
 * chunks. */
template <typename Call> void for_chunks(const Tokens &in, size_t width, const Call &call) {
    if (in.batch == 0) {
        return;
    }
    if (in.held.scalar_type() == at::kFloat) {
        call(size_t{0}, in.batch, in.held.data_ptr<float>(), in.stride);
        return;
    }
    size_t most = std::min(in.batch, CHUNK);
    at::Tensor wide = new_tensor({static_cast<int64_t>(most), static_cast<int64_t>(width)});
    for (size_t first = 0; first < in.batch; first += CHUNK) {
        size_t rows = std::min(in.batch - first, CHUNK);
        widen_tokens(in, first, rows, width, wide.data_ptr<float>());
        call(first, rows, static_cast<const float *>(wide.data_ptr<float>()), width);
    }
}

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
