/* The layers packed from weights, cached. Of what kind, the operator's arguments say: `Given` is Arguments or Forest.
 */
#ifndef FFF_TORCH_PACKED_H
#define FFF_TORCH_PACKED_H

#include <ATen/ATen.h>
#include <c10/core/StorageImpl.h>

#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <utility>
#include <vector>

#include "checks.h"
#include "layer.h"
#include "watch.h"

namespace {

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
