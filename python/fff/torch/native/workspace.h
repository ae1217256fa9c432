/* What a call of libfff's borrows: a workspace, and PyTorch's threads. */
#ifndef FFF_TORCH_WORKSPACE_H
#define FFF_TORCH_WORKSPACE_H

#include <ATen/Parallel.h>

#include <vector>

#include "layer.h"

namespace {

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

} // namespace

#endif
