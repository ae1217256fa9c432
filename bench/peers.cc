#include "bench/peers.h"

#include "bench/blas.h"

#include <cmath>
#include <cstring>

namespace bench {

DenseLayers::DenseLayers(size_t w, size_t n, bool is_cold) : width(w), neurons(n), cold(is_cold) {
    float scale = 1.0f / std::sqrt(static_cast<float>(w));
    DenseWeights first{Buffer(n * w), Buffer(n), Buffer(n * w), Buffer(n * w)};
    fill_normal(first.in, scale, 7);
    fill_normal(first.biases, 0.1f, 8);
    fill_normal(first.out_node_major, scale, 9);
    for (size_t neuron = 0; neuron < n; neuron++) {
        for (size_t column = 0; column < w; column++) {
            first.out.data()[column * n + neuron] = first.out_node_major.data()[neuron * w + column];
        }
    }
    weights.push_back(std::move(first));
    while (weights.size() < in_turn(sizeof(float))) {
        const DenseWeights &like = weights[0];
        DenseWeights copy{Buffer(n * w), Buffer(n), Buffer(n * w), Buffer(n * w)};
        std::memcpy(copy.in.data(), like.in.data(), n * w * sizeof(float));
        std::memcpy(copy.biases.data(), like.biases.data(), n * sizeof(float));
        std::memcpy(copy.out_node_major.data(), like.out_node_major.data(), n * w * sizeof(float));
        std::memcpy(copy.out.data(), like.out.data(), n * w * sizeof(float));
        weights.push_back(std::move(copy));
    }
}

size_t DenseLayers::in_turn(size_t bytes_of_weight) const {
    size_t count = 1;
    while (cold && !come_from_memory(count * 2 * neurons * width * bytes_of_weight)) {
        count++;
    }
    return count;
}

void gelu(Buffer &hidden) {
    static const fff_isa best = usable_isas().back();
    fff_activate(best, FFF_ACTIVATION_GELU, FFF_SLEEF_RECORDED, hidden.size(), hidden.data(), hidden.data());
}

// Another way, with a large batch cut into parts, whose hidden values are few enough for the caches.
class InParts : public Peer {
  public:
    InParts(std::unique_ptr<Peer> way, size_t tokens)
        : way_(std::move(way)), tokens_(tokens), name_(way_->name() + "_by" + std::to_string(tokens)) {
    }
    const std::string &name() const override {
        return name_;
    }
    std::string kind() const override {
        return way_->kind();
    }
    double tolerance() const override {
        return way_->tolerance();
    }
    size_t bytes_of_weight() const override {
        return way_->bytes_of_weight();
    }
    bool takes(size_t batch) const override {
        return batch > tokens_ && batch % tokens_ == 0 && way_->takes(tokens_);
    }
    void prepare(const DenseLayers &layers, size_t batch) override {
        parts_ = batch / tokens_;
        numbers_ = tokens_ * layers.width;
        way_->prepare(layers, tokens_);
    }
    void forward(size_t layer, const float *input, float *output) override {
        for (size_t part = 0; part < parts_; part++) {
            way_->forward(layer, input + part * numbers_, output + part * numbers_);
        }
    }

  private:
    std::unique_ptr<Peer> way_;
    size_t tokens_; // of a part
    std::string name_;
    size_t parts_ = 0, numbers_ = 0; // of a part's inputs
};

Peers find_peers() {
    Peers found;
    for (size_t part : {0, 256, 1024}) { // 0: not in parts
        for (Peers (*of_library)() : {blas_peers, onednn_peers}) {
            for (std::unique_ptr<Peer> &peer : of_library()) {
                found.push_back(part > 0 ? std::make_unique<InParts>(std::move(peer), part) : std::move(peer));
            }
        }
    }
    return found;
}

std::string describe_peers() {
    std::string text = openblas() != nullptr ? openblas()->version : "no OpenBLAS";
    text += std::string("; ") + (mkl() != nullptr ? mkl()->version : "no MKL");
    for (const std::string &version : onednn_versions()) {
        text += "; " + version;
    }
    return text + (onednn_versions().empty() ? "; no oneDNN" : "");
}

} // namespace bench
