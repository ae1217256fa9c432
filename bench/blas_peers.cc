// Dense layers by CBLAS: matrix times vector or matrix, either orientation of the output weights, packed or not.
#include "bench/blas.h"
#include "bench/peers.h"

#include <cstring>

namespace bench {
namespace {

// What all ways share: biases, then GELU with the same SLEEF as the library's.
class CblasPeer : public Peer {
  public:
    CblasPeer(const Cblas &blas, const char *way) : blas_(blas), name_(blas.name + "_" + way) {
    }
    const std::string &name() const override {
        return name_;
    }
    void prepare(const DenseLayers &layers, size_t batch) override {
        layers_ = &layers;
        batch_ = batch;
        hidden_ = Buffer(batch * layers.neurons);
    }
    void forward(size_t layer, const float *input, float *output) override {
        const Buffer &biases = layers_->weights[layer].biases;
        for (size_t token = 0; token < batch_; token++) {
            std::memcpy(hidden_.data() + token * biases.size(), biases.data(), biases.size() * sizeof(float));
        }
        in(layer, input);
        gelu(hidden_);
        out(layer, output);
    }

  protected:
    virtual void in(size_t layer, const float *input) = 0; // hidden += input . in^T
    virtual void out(size_t layer, float *output) = 0;     // output = hidden . out
    const DenseWeights &weights(size_t layer) const {
        return layers_->weights[layer];
    }
    int tokens() const {
        return static_cast<int>(batch_);
    }
    int width() const {
        return static_cast<int>(layers_->width);
    }
    int neurons() const {
        return static_cast<int>(layers_->neurons);
    }

    const Cblas &blas_;
    const DenseLayers *layers_ = nullptr;
    Buffer hidden_;

  private:
    std::string name_;
    size_t batch_ = 0;
};

class Gemm : public CblasPeer {
  public:
    Gemm(const Cblas &blas, bool node_major)
        : CblasPeer(blas, node_major ? "sgemm_node_major" : "sgemm"), node_major_(node_major) {
    }
    bool takes(size_t) const override {
        return true;
    }

  protected:
    void in(size_t layer, const float *input) override {
        blas_.sgemm(CBLAS_ROW_MAJOR, CBLAS_NO_TRANSPOSE, CBLAS_TRANSPOSE, tokens(), neurons(), width(), 1, input,
                    width(), weights(layer).in.data(), width(), 1, hidden_.data(), neurons());
    }
    void out(size_t layer, float *output) override {
        blas_.sgemm(CBLAS_ROW_MAJOR, CBLAS_NO_TRANSPOSE, node_major_ ? CBLAS_NO_TRANSPOSE : CBLAS_TRANSPOSE, tokens(),
                    width(), neurons(), 1, hidden_.data(), neurons(),
                    node_major_ ? weights(layer).out_node_major.data() : weights(layer).out.data(),
                    node_major_ ? width() : neurons(), 0, output, width());
    }

  private:
    bool node_major_;
};

class Gemv : public CblasPeer {
  public:
    Gemv(const Cblas &blas, bool node_major)
        : CblasPeer(blas, node_major ? "sgemv_node_major" : "sgemv"), node_major_(node_major) {
    }
    bool takes(size_t batch) const override {
        return batch <= 4;
    }

  protected:
    void in(size_t layer, const float *input) override {
        for (int t = 0; t < tokens(); t++) {
            blas_.sgemv(CBLAS_ROW_MAJOR, CBLAS_NO_TRANSPOSE, neurons(), width(), 1, weights(layer).in.data(), width(),
                        input + t * width(), 1, 1, hidden_.data() + t * neurons(), 1);
        }
    }
    void out(size_t layer, float *output) override {
        for (int t = 0; t < tokens(); t++) {
            const float *from = hidden_.data() + t * neurons();
            if (node_major_) {
                blas_.sgemv(CBLAS_ROW_MAJOR, CBLAS_TRANSPOSE, neurons(), width(), 1,
                            weights(layer).out_node_major.data(), width(), from, 1, 0, output + t * width(), 1);
            } else {
                blas_.sgemv(CBLAS_ROW_MAJOR, CBLAS_NO_TRANSPOSE, width(), neurons(), 1, weights(layer).out.data(),
                            neurons(), from, 1, 0, output + t * width(), 1);
            }
        }
    }

  private:
    bool node_major_;
};

// Weights packed beforehand, for the batch at hand.
class PackedGemm : public CblasPeer {
  public:
    explicit PackedGemm(const Cblas &blas) : CblasPeer(blas, "sgemm_packed") {
    }
    bool takes(size_t) const override {
        return true;
    }
    void prepare(const DenseLayers &layers, size_t batch) override {
        CblasPeer::prepare(layers, batch);
        packed_.clear();
        for (const DenseWeights &w : layers.weights) {
            Packed packed{Buffer(blas_.pack_size(CBLAS_PACK_B, tokens(), neurons(), width()) / sizeof(float) + 1),
                          Buffer(blas_.pack_size(CBLAS_PACK_B, tokens(), width(), neurons()) / sizeof(float) + 1)};
            blas_.pack(CBLAS_ROW_MAJOR, CBLAS_PACK_B, CBLAS_TRANSPOSE, tokens(), neurons(), width(), 1, w.in.data(),
                       width(), packed.in.data());
            blas_.pack(CBLAS_ROW_MAJOR, CBLAS_PACK_B, CBLAS_TRANSPOSE, tokens(), width(), neurons(), 1, w.out.data(),
                       neurons(), packed.out.data());
            packed_.push_back(std::move(packed));
        }
    }

  protected:
    void in(size_t layer, const float *input) override {
        blas_.compute(CBLAS_ROW_MAJOR, CBLAS_NO_TRANSPOSE, CBLAS_PACKED, tokens(), neurons(), width(), input, width(),
                      packed_[layer].in.data(), width(), 1, hidden_.data(), neurons());
    }
    void out(size_t layer, float *output) override {
        blas_.compute(CBLAS_ROW_MAJOR, CBLAS_NO_TRANSPOSE, CBLAS_PACKED, tokens(), width(), neurons(), hidden_.data(),
                      neurons(), packed_[layer].out.data(), neurons(), 0, output, width());
    }

  private:
    struct Packed {
        Buffer in, out;
    };
    std::vector<Packed> packed_;
};

} // namespace

Peers blas_peers() {
    Peers peers;
    for (const Cblas *blas : found_blas()) {
        for (bool node_major : {false, true}) {
            peers.push_back(std::make_unique<Gemm>(*blas, node_major));
            peers.push_back(std::make_unique<Gemv>(*blas, node_major));
        }
        if (blas->packs()) {
            peers.push_back(std::make_unique<PackedGemm>(*blas));
        }
    }
    return peers;
}

} // namespace bench
