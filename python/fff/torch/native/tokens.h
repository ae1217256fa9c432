/* Tokens as an operator is given them, and results: rows of tensors. */
#ifndef FFF_TORCH_TOKENS_H
#define FFF_TORCH_TOKENS_H

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/Parallel.h>

#include <sys/mman.h>

#include <algorithm>
#include <vector>

#include "checks.h"
#include "half.h"

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
    bool rows = x.dim() == 2 && x.stride(1) == 1 && x.stride(0) >= width && is_aligned(x); /* any stride between them */
    at::Tensor held = rows ? x : aligned(x.contiguous());
    return {held, token_count(held), static_cast<size_t>(rows ? x.stride(0) : width)};
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

} // namespace

#endif
