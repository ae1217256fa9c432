/* Whether weights are still what they were when they were packed.
 *
 * PyTorch counts writes to a tensor, but not those through `.data`, NumPy or a pointer. So their content is looked at,
 * too: a sample at each call, by default. At one token 32 elements of each weight cost 6 KB of memory to look at, cache
 * lines counted whole, where the call itself reads 74 KB of a 768-wide layer of depth 11; with more tokens more are
 * looked at.
 */
#ifndef FFF_TORCH_WATCH_H
#define FFF_TORCH_WATCH_H

#include <ATen/ATen.h>
#include <c10/core/StorageImpl.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <vector>

namespace {

enum class Watch { COUNT, SAMPLE, ALL }; /* PyTorch's count alone; and a sample; and every element */

std::atomic<Watch> watch{Watch::SAMPLE};

/* Which memory a weight lies in and how, and PyTorch's count of writes to it. */
struct Place {
    const void *data = nullptr;
    const c10::StorageImpl *storage = nullptr; /* held weakly by an entry, so that no other can have its address */
    uint32_t version = 0;                      /* tensors made in inference mode have none */
    at::ScalarType type = at::ScalarType::Undefined;
    std::array<int64_t, 6> layout{}; /* sizes and strides of up to three dimensions */

    Place() = default;
    explicit Place(const at::Tensor &tensor) {
        data = tensor.data_ptr();
        type = tensor.scalar_type();
        storage = tensor.storage().unsafeGetStorageImpl();
        const c10::VariableVersion &counter = tensor.unsafeGetTensorImpl()->version_counter();
        version = tensor.is_inference() ? 0 : static_cast<uint32_t>(counter.current_version());
        for (int64_t d = 0; d < tensor.dim() && d < 3; d++) {
            layout[2 * d] = tensor.size(d);
            layout[2 * d + 1] = tensor.stride(d);
        }
    }

    bool operator==(const Place &other) const {
        return data == other.data && storage == other.storage && version == other.version && type == other.type &&
               layout == other.layout;
    }
};

/* What a weight held. */
class Content {
  public:
    Content() = default;
    explicit Content(const at::Tensor &weight) {
        constexpr uint64_t GOLDEN = 0x9e3779b97f4a7c15; /* 2^64 / golden ratio: any first multiples are spread evenly */
        uint64_t elements = static_cast<uint64_t>(weight.numel());
        size_t count = std::min<size_t>(elements, MOST);
        for (uint64_t i = 0; i < count; i++) {
            auto at = static_cast<uint64_t>(static_cast<unsigned __int128>(i * GOLDEN) * elements >> 64);
            /* Most ways to rewrite a weight leave a zero, +0 or -0, as it is. */
            for (int step = 0; step < FAR && (bits(weight, offset(weight, at)) << 1) == 0; step++) {
                at = at + 1 < elements ? at + 1 : 0;
            }
            offsets_.push_back(offset(weight, at));
            sample_.push_back(bits(weight, offsets_.back()));
        }
        if (watch == Watch::ALL) {
            hash_ = hash(weight);
            hashed_ = true;
        }
    }

    /* Whether `weight`, in the same place, holds it still, as far as is looked. */
    bool same(const at::Tensor &weight, size_t tokens) const {
        switch (watch.load(std::memory_order_relaxed)) {
        case Watch::COUNT: return true;
        case Watch::SAMPLE: break;
        case Watch::ALL: return hashed_ && hash(weight) == hash_;
        }
        size_t count = std::min(sample_.size(), std::max(LEAST, std::min(tokens, MOST) * A_TOKEN));
        uint32_t changed = 0;
        if (weight.element_size() == sizeof(uint16_t)) {
            const void *elements = weight.data_ptr();
            for (size_t i = 0; i < count; i++) {
                changed |= static_cast<uint32_t>(load<uint16_t>(elements, offsets_[i])) << 16 ^ sample_[i];
            }
            return changed == 0;
        }
        const void *elements = weight.data_ptr();
        for (size_t i = 0; i < count; i++) {
            changed |= load<uint32_t>(elements, offsets_[i]) ^ sample_[i];
        }
        return changed == 0;
    }

  private:
    static constexpr size_t LEAST = 32, A_TOKEN = 4, MOST = 512; /* elements looked at */
    static constexpr int FAR = 1024;                             /* how far one that is not 0 is sought */

    std::vector<size_t> offsets_; /* from the weight's first element, in elements */
    std::vector<uint32_t> sample_;
    uint64_t hash_ = 0;
    bool hashed_ = false;

    /* An element, which need not be aligned. */
    template <typename Element> static Element load(const void *elements, size_t index) {
        Element found;
        std::memcpy(&found, static_cast<const char *>(elements) + index * sizeof found, sizeof found);
        return found;
    }

    static size_t offset(const at::Tensor &weight, uint64_t element) {
        uint64_t found = 0;
        for (int64_t d = weight.dim() - 1; d >= 0; d--) {
            auto size = static_cast<uint64_t>(weight.size(d));
            found += element % size * static_cast<uint64_t>(weight.stride(d));
            element /= size;
        }
        return found;
    }

    /* Of 16-bit elements the upper half, so that the sign comes first. */
    static uint32_t bits(const at::Tensor &weight, size_t offset) {
        if (weight.element_size() == sizeof(uint16_t)) {
            return static_cast<uint32_t>(load<uint16_t>(weight.data_ptr(), offset)) << 16;
        }
        return load<uint32_t>(weight.data_ptr(), offset);
    }

    /* Of all elements; one that changes alone always changes it. */
    static uint64_t hash(const at::Tensor &weight) {
        at::Tensor held = weight.contiguous();
        const void *elements = held.data_ptr();
        size_t bytes = static_cast<size_t>(held.numel()) * static_cast<size_t>(held.element_size());
        size_t count = bytes / sizeof(uint32_t), i = 0;
        std::array<uint64_t, 8> lanes{};
        for (; i + 16 <= count; i += 16) {
            for (size_t lane = 0; lane < 8; lane++) {
                lanes[lane] = mix(lanes[lane], load<uint64_t>(elements, i / 2 + lane));
            }
        }
        for (; i < count; i++) {
            lanes[0] = mix(lanes[0], load<uint32_t>(elements, i));
        }
        if (bytes % sizeof(uint32_t) != 0) { /* the last one of an odd number of 16-bit elements */
            lanes[0] = mix(lanes[0], load<uint16_t>(elements, 2 * count));
        }
        uint64_t all = 0;
        for (uint64_t lane : lanes) {
            all = mix(all, lane);
        }
        return all;
    }

    /* One to one in either argument. */
    static uint64_t mix(uint64_t hash, uint64_t value) {
        hash = (hash ^ value) * 0xd6e8feb86659fd93;
        return hash ^ hash >> 32;
    }
};

} // namespace

#endif
