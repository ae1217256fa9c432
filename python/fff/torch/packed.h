/* The layers packed from weights, cached. */
#ifndef FFF_TORCH_PACKED_H
#define FFF_TORCH_PACKED_H

#include <ATen/ATen.h>
#include <c10/core/StorageImpl.h>

#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <tuple>
#include <vector>

#include "arguments.h"
#include "library.h"
#include "watch.h"

namespace {

struct Layer {
    fff_layer *layer = nullptr;
    size_t path_length = 0;
    size_t token_workspace = 0; /* for a batch of 1 */
    Layer() = default;
    Layer(const Layer &) = delete;
    Layer &operator=(const Layer &) = delete;
    ~Layer() {
        if (layer != nullptr) {
            library.layer_destroy(layer);
        }
    }
};

/* Copies and packs checked weights: milliseconds. */
std::shared_ptr<const Layer> pack(const Arguments &a) {
    at::Tensor bias = a.has_bias() ? a.bias->to(at::kFloat).contiguous() : at::Tensor();
    fff_layer_desc desc{};
    desc.struct_size = sizeof desc;
    desc.input_width = static_cast<size_t>(a.input_width());
    desc.output_width = static_cast<size_t>(a.output_width());
    desc.depth = static_cast<size_t>(a.depth);
    desc.trees = static_cast<size_t>(a.trees);
    desc.activation = static_cast<fff_activation>(a.activation);
    desc.routing = static_cast<fff_routing>(a.routing);
    desc.weight_type = weight_type(a.input_weight);
    desc.output_weight_type = static_cast<fff_weight_choice>(1 + weight_type(a.output_weight));
    desc.store_input = static_cast<fff_weight_choice>(a.store_input);
    desc.store_output = static_cast<fff_weight_choice>(a.store_output);
    desc.routes = a.exact_routes ? FFF_ROUTES_EXACT : FFF_ROUTES_STORED;
    fff_bad_weight bad{};
    desc.bad_weight = &bad;
    auto view = [](const at::Tensor &weight, int64_t nodes, int64_t columns) {
        return fff_weights{weight.data_ptr(), static_cast<size_t>(weight.stride(nodes)),
                           static_cast<size_t>(weight.stride(columns))};
    };
    desc.input_weights = view(a.input_weight, 0, 1);
    desc.output_weights = a.node_major ? view(a.output_weight, 0, 1) : view(a.output_weight, 1, 0);
    desc.biases = bias.defined() ? bias.data_ptr<float>() : nullptr;
    auto result = std::make_shared<Layer>();
    fff_status status = library.layer_create(&desc, &result->layer);
    TORCH_CHECK(status != FFF_ERROR_WEIGHT, "fff_layer_create: ", library.status_text(status), " (",
                bad.of_output ? "output" : "input", "_weight, neuron ", bad.row, ", column ", bad.column, ")");
    check(status, "fff_layer_create");
    result->path_length = library.layer_path_length(result->layer);
    check(library.workspace_size(result->layer, 1, 1, &result->token_workspace), "fff_workspace_size");
    return result;
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

using WeakStorage = c10::weak_intrusive_ptr<c10::StorageImpl>;

struct Entry {
    std::array<Place, 3> places;
    std::array<Content, 3> contents;
    std::vector<WeakStorage> storages;
    std::shared_ptr<const Layer> layer;

    /* Whether it was packed from these weights as they are now. */
    bool fits(const std::array<Place, 3> &now, const Arguments &a, size_t tokens) const {
        return places == now && contents[0].same(a.input_weight, tokens) &&
               (!a.has_bias() || contents[1].same(*a.bias, tokens)) && contents[2].same(a.output_weight, tokens);
    }
};

/* A packed layer stays until its weights' memory is freed (noticed when the next one is packed), until they change, or
 * until release(). A call that is under way keeps its own. */
class Packed {
  public:
    /* `tokens`: of the call that asks, which says how much of the weights is worth looking at. */
    std::shared_ptr<const Layer> find(const Arguments &a, size_t tokens) {
        check_tensor(a.input_weight, "input_weight"); /* before their memory is looked at */
        check_tensor(a.output_weight, "output_weight");
        if (a.has_bias()) {
            check_tensor(*a.bias, "bias");
        }
        std::array<Place, 3> now{Place(a.input_weight), a.has_bias() ? Place(*a.bias) : Place(),
                                 Place(a.output_weight)};
        Key key{now[0].data, now[1].data,  now[2].data,   a.depth,        a.trees,       a.activation,
                a.routing,   a.node_major, a.store_input, a.store_output, a.exact_routes};
        {
            std::shared_lock<std::shared_mutex> lock(mutex_);
            auto found = entries_.find(key);
            if (found != entries_.end() && found->second->fits(now, a, tokens)) {
                return found->second->layer;
            }
        }
        release(nullptr); /* of weights that are gone */
        check_arguments(a);
        auto entry = std::make_unique<Entry>();
        entry->places = now;
        entry->contents = {Content(a.input_weight), a.has_bias() ? Content(*a.bias) : Content(),
                           Content(a.output_weight)};
        entry->layer = pack(a);
        entry->storages.push_back(a.input_weight.storage().getWeakStorageImpl());
        entry->storages.push_back(a.output_weight.storage().getWeakStorageImpl());
        if (a.has_bias()) {
            entry->storages.push_back(a.bias->storage().getWeakStorageImpl());
        }
        std::shared_ptr<const Layer> layer = entry->layer;
        std::unique_lock<std::shared_mutex> lock(mutex_);
        std::swap(entries_[key], entry); /* the old one, if any, is freed after the lock */
        lock.unlock();
        return layer;
    }

    /* Frees what was packed from memory that is gone, and from `storage`. */
    void release(const c10::StorageImpl *storage) {
        std::vector<std::unique_ptr<Entry>> gone;
        std::unique_lock<std::shared_mutex> lock(mutex_);
        for (auto entry = entries_.begin(); entry != entries_.end();) {
            bool stale = false;
            for (const WeakStorage &weak : entry->second->storages) {
                stale |= weak.expired();
            }
            for (const Place &place : entry->second->places) {
                stale |= storage != nullptr && place.storage == storage;
            }
            if (stale) {
                gone.push_back(std::move(entry->second));
                entry = entries_.erase(entry);
            } else {
                ++entry;
            }
        }
        lock.unlock(); /* `gone` is freed after it */
    }

    void release_all() {
        std::map<Key, std::unique_ptr<Entry>> gone;
        std::unique_lock<std::shared_mutex> lock(mutex_);
        std::swap(entries_, gone);
        lock.unlock();
    }

    std::pair<size_t, size_t> count_and_bytes() {
        std::shared_lock<std::shared_mutex> lock(mutex_);
        size_t bytes = 0;
        for (const auto &entry : entries_) {
            bytes += library.layer_memory(entry.second->layer->layer);
        }
        return {entries_.size(), bytes};
    }

  private:
    std::shared_mutex mutex_;
    std::map<Key, std::unique_ptr<Entry>> entries_;
};

Packed &packed() {
    static Packed *const all = new Packed; /* never destroyed: libfff may be gone by then */
    return *all;
}

} // namespace

#endif
