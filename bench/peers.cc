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
    size_t bytes = 2 * n * w * sizeof(float);
    while (cold && !come_from_memory(weights.size() * bytes)) {
        const DenseWeights &like = weights[0];
        DenseWeights copy{Buffer(n * w), Buffer(n), Buffer(n * w), Buffer(n * w)};
        std::memcpy(copy.in.data(), like.in.data(), n * w * sizeof(float));
        std::memcpy(copy.biases.data(), like.biases.data(), n * sizeof(float));
        std::memcpy(copy.out_node_major.data(), like.out_node_major.data(), n * w * sizeof(float));
        std::memcpy(copy.out.data(), like.out.data(), n * w * sizeof(float));
        weights.push_back(std::move(copy));
    }
}

void gelu(Buffer &hidden) {
    static const fff_isa best = usable_isas().back();
    fff_activate(best, FFF_ACTIVATION_GELU, FFF_SLEEF_RECORDED, hidden.size(), hidden.data(), hidden.data());
}

Peers find_peers() {
    Peers found = blas_peers();
    for (std::unique_ptr<Peer> &peer : onednn_peers()) {
        found.push_back(std::move(peer));
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
