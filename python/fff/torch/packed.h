/* The layers packed from weights, cached. Of what kind, the operator's arguments say: `Given` is Arguments or Forest.
 */
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

fff_weights view_of(const at::Tensor &weight, int64_t rows, int64_t columns) {
    return {weight.data_ptr(), static_cast<size_t>(weight.stride(rows)), static_cast<size_t>(weight.stride(columns))};
}

/* Creates what is described, by one description or several. */
std::shared_ptr<Layer> create(const fff_layer_desc &desc, fff_status *status) {
    auto result = std::make_shared<Layer>();
    *status = library.layer_create(&desc, &result->layer);
    if (*status == FFF_OK) {
        result->path_length = library.layer_path_length(result->layer);
        check(library.workspace_size(result->layer, 1, 1, &result->token_workspace), "fff_workspace_size");
    }
    return result;
}

/* What a layer is but for its weights. */
fff_layer_desc describe_shape(const Arguments &a) {
    fff_layer_desc desc{};
    desc.struct_size = sizeof desc;
    desc.input_width = static_cast<size_t>(a.input_width());
    desc.output_width = static_cast<size_t>(a.output_width());
    desc.depth = static_cast<size_t>(a.depth);
    desc.trees = static_cast<size_t>(a.trees);
    desc.activation = static_cast<fff_activation>(a.activation);
    desc.routing = static_cast<fff_routing>(a.routing);
    return desc;
}

/* Copies and packs checked weights: milliseconds. */
std::shared_ptr<const Layer> pack(const Arguments &a) {
    at::Tensor bias = a.has_bias() ? a.bias->to(at::kFloat).contiguous() : at::Tensor();
    fff_layer_desc desc = describe_shape(a);
    desc.weight_type = weight_type(a.input_weight);
    desc.output_weight_type = static_cast<fff_weight_choice>(1 + weight_type(a.output_weight));
    desc.store_input = static_cast<fff_weight_choice>(a.store_input);
    desc.store_output = static_cast<fff_weight_choice>(a.store_output);
    desc.routes = a.exact_routes ? FFF_ROUTES_EXACT : FFF_ROUTES_STORED;
    fff_bad_weight bad{};
    desc.bad_weight = &bad;
    desc.input_weights = view_of(a.input_weight, 0, 1);
    desc.output_weights = a.node_major ? view_of(a.output_weight, 0, 1) : view_of(a.output_weight, 1, 0);
    desc.biases = bias.defined() ? bias.data_ptr<float>() : nullptr;
    fff_status status = FFF_OK;
    std::shared_ptr<Layer> result = create(desc, &status);
    TORCH_CHECK(status != FFF_ERROR_WEIGHT, "fff_layer_create: ", library.status_text(status), " (",
                bad.of_output ? "output" : "input", "_weight, neuron ", bad.row, ", column ", bad.column, ")");
    check(status, "fff_layer_create");
    return result;
}

/* Where weights lie: of path sums, always in the order of visit_weights(), with nothing for a bias that is not there.
 */
std::array<Place, 3> places_of(const Arguments &a) {
    return {Place(a.input_weight), a.has_bias() ? Place(*a.bias) : Place(), Place(a.output_weight)};
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

Key key_of(const Arguments &a, const std::array<Place, 3> &places) {
    return {places[0].data, places[1].data, places[2].data, a.depth,        a.trees,       a.activation,
            a.routing,      a.node_major,   a.store_input,  a.store_output, a.exact_routes};
}

using WeakStorage = c10::weak_intrusive_ptr<c10::StorageImpl>;

/* A packed layer stays until its weights' memory is freed (noticed when the next one is packed), until they change, or
 * until release(). A call that is under way keeps its own. */
template <typename Given> class Packed {
    using Places = decltype(places_of(std::declval<const Given &>()));
    using Keys = decltype(key_of(std::declval<const Given &>(), std::declval<const Places &>()));

    struct Entry {
        Places places;
        std::vector<Content> contents; /* of the weights that are there, in their order */
        std::vector<WeakStorage> storages;
        std::shared_ptr<const Layer> layer;

        /* Whether it was packed from these weights as they are now. */
        bool fits(const Places &now, const Given &a, size_t tokens) const {
            if (!(places == now)) {
                return false;
            }
            bool same = true;
            auto content = contents.begin();
            a.visit_weights(
                [&](const at::Tensor &weight, const char *) { same = same && (content++)->same(weight, tokens); });
            return same;
        }
    };

  public:
    /* `tokens`: of the call that asks, which says how much of the weights is worth looking at. */
    std::shared_ptr<const Layer> find(const Given &a, size_t tokens) {
        a.visit_weights(check_tensor); /* before their memory is looked at */
        Places now = places_of(a);
        Keys key = key_of(a, now);
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
        a.visit_weights([&](const at::Tensor &weight, const char *) {
            entry->contents.emplace_back(weight);
            entry->storages.push_back(weight.storage().getWeakStorageImpl());
        });
        entry->layer = pack(a);
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
        std::map<Keys, std::unique_ptr<Entry>> gone;
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
    std::map<Keys, std::unique_ptr<Entry>> entries_;
};

template <typename Given> Packed<Given> &packed() {
    static auto *const all = new Packed<Given>; /* never destroyed: libfff may be gone by then */
    return *all;
}

} // namespace

#endif
