/* Layers that borrow the parameters instead of packing them, for training. */
#ifndef FFF_TORCH_BORROWED_H
#define FFF_TORCH_BORROWED_H

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "packed.h"
#include "path_sums.h"

namespace {

/* A matrix with a row a neuron, in place where its rows are contiguous, else copied. */
struct NeuronRows {
    at::Tensor held;
    size_t stride;

    explicit NeuronRows(const at::Tensor &matrix) {
        int64_t width = matrix.size(1);
        bool in_place = (width == 1 || matrix.stride(1) == 1) && (matrix.size(0) == 1 || matrix.stride(0) >= width) &&
                        is_aligned(matrix);
        held = in_place ? matrix : aligned(matrix.contiguous());
        stride = static_cast<size_t>(std::max(held.stride(0), width));
    }
    fff_weights view() const {
        return {held.data_ptr(), stride, 1};
    }
};

/* A layer that reads the parameters where they lie, and what holds them. */
struct Borrowed {
    NeuronRows input, output;
    at::Tensor bias; /* undefined if there is none */
    std::shared_ptr<const Layer> layer;

    /* `thresholds` may be undefined. A layer copies them, so that with them one is made for each call. */
    explicit Borrowed(const Arguments &a, const at::Tensor &thresholds = {})
        : input((check_borrowed(a), a.input_weight)), output(a.node_major ? a.output_weight : a.output_weight.t()) {
        if (a.has_bias()) {
            bias = aligned(a.bias->contiguous());
        }
        fff_layer_desc desc = describe(a);
        layer = thresholds.defined() ? with_thresholds(desc, thresholds, a.input_weight.size(0)) : find(desc);
    }

  private:
    static void check_borrowed(const Arguments &a) {
        check_arguments(a);
        a.visit_weights([](const at::Tensor &weight, const char *name) {
            TORCH_CHECK_TYPE(weight.scalar_type() == at::kFloat, name, " has dtype ", dtype_name(weight.scalar_type()),
                             ", where training by fff's kernels takes torch.float32 (the modules' method dense() takes "
                             "any floating type)");
        });
    }

    /* What a layer that borrows knows: where its weights lie, and its shape. Layers that agree in that are the same,
     * whatever lay there before. Making one takes some 10 us, for SLEEF is probed. */
    using Key = std::array<uintptr_t, 11>;

    struct Entry {
        std::shared_ptr<const Layer> layer;
        std::vector<WeakStorage> storages; /* of the weights */
    };

    static std::shared_ptr<const Layer> made(const fff_layer_desc &desc) {
        fff_status status = FFF_OK;
        std::shared_ptr<const Layer> layer = create(desc, &status);
        check(status, "fff_layer_create");
        return layer;
    }

    static std::shared_ptr<const Layer> with_thresholds(fff_layer_desc desc, const at::Tensor &given, int64_t nodes) {
        TORCH_CHECK_TYPE(given.scalar_type() == at::kFloat, "thresholds have dtype ", dtype_name(given.scalar_type()),
                         ", where training by fff's kernels takes torch.float32");
        TORCH_CHECK_NOT_IMPLEMENTED(given.device().is_cpu() && given.layout() == at::kStrided,
                                    "thresholds are not dense, or not on the CPU");
        TORCH_CHECK_VALUE(given.dim() == 1 && given.size(0) == nodes, "thresholds have shape ", given.sizes(),
                          ", not [", nodes, "]");
        at::Tensor held = aligned(given.contiguous());
        desc.thresholds = held.data_ptr<float>();
        return made(desc);
    }

    std::shared_ptr<const Layer> find(const fff_layer_desc &desc) const {
        static auto *const entries = new std::map<Key, Entry>; /* never destroyed, as packed() */
        static std::mutex mutex;
        Key key = {reinterpret_cast<uintptr_t>(desc.input_weights.data),
                   desc.input_weights.node_stride,
                   reinterpret_cast<uintptr_t>(desc.biases),
                   reinterpret_cast<uintptr_t>(desc.output_weights.data),
                   desc.output_weights.node_stride,
                   desc.input_width,
                   desc.output_width,
                   desc.depth,
                   desc.trees,
                   static_cast<uintptr_t>(desc.activation),
                   static_cast<uintptr_t>(desc.routing)};
        std::lock_guard<std::mutex> lock(mutex);
        auto found = entries->find(key);
        if (found != entries->end()) {
            return found->second.layer;
        }
        for (auto entry = entries->begin(); entry != entries->end();) { /* those whose weights are gone */
            const auto &storages = entry->second.storages;
            bool gone = std::any_of(storages.begin(), storages.end(), [](const auto &weak) { return weak.expired(); });
            entry = gone ? entries->erase(entry) : std::next(entry);
        }
        Entry entry;
        entry.layer = made(desc);
        for (const at::Tensor &weight : {input.held, output.held, bias.defined() ? bias : input.held}) {
            entry.storages.push_back(weight.storage().getWeakStorageImpl());
        }
        return entries->emplace(key, std::move(entry)).first->second.layer;
    }

    fff_layer_desc describe(const Arguments &a) const {
        fff_layer_desc desc = describe_shape(a);
        desc.borrow = 1;
        desc.input_weights = input.view();
        desc.output_weights = output.view();
        desc.biases = bias.defined() ? bias.data_ptr<float>() : nullptr;
        return desc;
    }
};

} // namespace

#endif
