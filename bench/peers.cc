#include "bench/peers.h"

#include <dlfcn.h>

#include <cmath>
#include <cstdlib>
#include <cstring>

namespace bench {
namespace {

// The values that CBLAS fixes for its enumerations; the same in every library.
enum { ROW_MAJOR = 101, NO_TRANSPOSE = 111, TRANSPOSE = 112 };
enum { PACK_B = 162 }; // MKL's CblasBMatrix
enum { PACKED = 151 }; // MKL's CblasPacked

template <class Function> bool load(void *library, const char *name, Function &function) {
    void *symbol = dlsym(library, name);
    std::memcpy(&function, &symbol, sizeof symbol);
    return symbol != nullptr;
}

void *open_first(const char *environment, std::initializer_list<const char *> names) {
    if (const char *named = std::getenv(environment)) {
        return dlopen(named, RTLD_NOW | RTLD_LOCAL);
    }
    for (const char *name : names) {
        if (void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL)) {
            return library;
        }
    }
    return nullptr;
}

// OpenBLAS, Debian's or that of the scipy-openblas32 wheel, whose symbols have a prefix.
const Cblas *openblas() {
    static Cblas blas;
    static const bool found = [] {
        void *library =
            open_first("FFF_BENCH_OPENBLAS", {"libscipy_openblas.so", "libopenblas.so.0", "libopenblas.so"});
        if (library == nullptr) {
            return false;
        }
        for (std::string prefix : {"", "scipy_"}) {
            void (*set_threads)(int) = nullptr;
            char *(*config)() = nullptr;
            if (load(library, (prefix + "cblas_sgemm").c_str(), blas.sgemm) &&
                load(library, (prefix + "cblas_sgemv").c_str(), blas.sgemv) &&
                load(library, (prefix + "cblas_sdot").c_str(), blas.sdot) &&
                load(library, (prefix + "cblas_saxpy").c_str(), blas.saxpy) &&
                load(library, (prefix + "openblas_set_num_threads").c_str(), set_threads) &&
                load(library, (prefix + "openblas_get_config").c_str(), config)) {
                set_threads(1);
                blas.name = "openblas";
                blas.version = config();
                return true;
            }
        }
        return false;
    }();
    return found ? &blas : nullptr;
}

const Cblas *mkl() {
    static Cblas blas;
    static const bool found = [] {
        setenv("MKL_THREADING_LAYER", "SEQUENTIAL", 0); // read when the library first computes
        void *library = open_first("FFF_BENCH_MKL", {"libmkl_rt.so.3", "libmkl_rt.so.2", "libmkl_rt.so"});
        void (*set_threads)(int) = nullptr;
        void (*version)(char *, int) = nullptr;
        if (library == nullptr || !load(library, "cblas_sgemm", blas.sgemm) ||
            !load(library, "cblas_sgemv", blas.sgemv) || !load(library, "cblas_sdot", blas.sdot) ||
            !load(library, "cblas_saxpy", blas.saxpy) || !load(library, "MKL_Set_Num_Threads", set_threads)) {
            return false;
        }
        load(library, "cblas_sgemm_pack_get_size", blas.pack_size);
        load(library, "cblas_sgemm_pack", blas.pack);
        load(library, "cblas_sgemm_compute", blas.compute);
        set_threads(1);
        char text[200] = "unknown version";
        if (load(library, "MKL_Get_Version_String", version) || load(library, "mkl_get_version_string", version)) {
            version(text, sizeof text);
        }
        blas.name = "mkl";
        blas.version = text;
        return true;
    }();
    return found ? &blas : nullptr;
}

// What all ways share: biases, then GELU with the same SLEEF as the library's.
class CblasPeer : public Peer {
  public:
    CblasPeer(const Cblas &blas, const char *way) : blas_(blas), name_(blas.name + "_" + way) {
    }
    const std::string &name() const override {
        return name_;
    }
    void prepare(const DenseWeights &weights, size_t batch) override {
        weights_ = &weights;
        batch_ = batch;
        hidden_ = Buffer(batch * weights.neurons);
    }
    void forward(const float *input, float *output) override {
        for (size_t token = 0; token < batch_; token++) {
            std::memcpy(hidden_.data() + token * weights_->neurons, weights_->biases.data(),
                        weights_->neurons * sizeof(float));
        }
        in(input);
        fff_activate(best_, FFF_ACTIVATION_GELU, batch_ * weights_->neurons, hidden_.data(), hidden_.data());
        out(output);
    }

  protected:
    virtual void in(const float *input) = 0; // hidden += input . in^T
    virtual void out(float *output) = 0;     // output = hidden . out
    int tokens() const {
        return static_cast<int>(batch_);
    }
    int width() const {
        return static_cast<int>(weights_->width);
    }
    int neurons() const {
        return static_cast<int>(weights_->neurons);
    }

    const Cblas &blas_;
    const DenseWeights *weights_ = nullptr;
    Buffer hidden_;

  private:
    std::string name_;
    size_t batch_ = 0;
    fff_isa best_ = usable_isas().back(); // whatever FFF_ISA says: the dense side gets the best
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
    void in(const float *input) override {
        blas_.sgemm(ROW_MAJOR, NO_TRANSPOSE, TRANSPOSE, tokens(), neurons(), width(), 1, input, width(),
                    weights_->in.data(), width(), 1, hidden_.data(), neurons());
    }
    void out(float *output) override {
        blas_.sgemm(ROW_MAJOR, NO_TRANSPOSE, node_major_ ? NO_TRANSPOSE : TRANSPOSE, tokens(), width(), neurons(), 1,
                    hidden_.data(), neurons(), node_major_ ? weights_->out_node_major.data() : weights_->out.data(),
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
    void in(const float *input) override {
        for (int t = 0; t < tokens(); t++) {
            blas_.sgemv(ROW_MAJOR, NO_TRANSPOSE, neurons(), width(), 1, weights_->in.data(), width(),
                        input + t * width(), 1, 1, hidden_.data() + t * neurons(), 1);
        }
    }
    void out(float *output) override {
        for (int t = 0; t < tokens(); t++) {
            const float *from = hidden_.data() + t * neurons();
            if (node_major_) {
                blas_.sgemv(ROW_MAJOR, TRANSPOSE, neurons(), width(), 1, weights_->out_node_major.data(), width(), from,
                            1, 0, output + t * width(), 1);
            } else {
                blas_.sgemv(ROW_MAJOR, NO_TRANSPOSE, width(), neurons(), 1, weights_->out.data(), neurons(), from, 1, 0,
                            output + t * width(), 1);
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
    void prepare(const DenseWeights &weights, size_t batch) override {
        CblasPeer::prepare(weights, batch);
        packed_in_ = Buffer(blas_.pack_size(PACK_B, tokens(), neurons(), width()) / sizeof(float) + 1);
        packed_out_ = Buffer(blas_.pack_size(PACK_B, tokens(), width(), neurons()) / sizeof(float) + 1);
        blas_.pack(ROW_MAJOR, PACK_B, TRANSPOSE, tokens(), neurons(), width(), 1, weights.in.data(), width(),
                   packed_in_.data());
        blas_.pack(ROW_MAJOR, PACK_B, TRANSPOSE, tokens(), width(), neurons(), 1, weights.out.data(), neurons(),
                   packed_out_.data());
    }

  protected:
    void in(const float *input) override {
        blas_.compute(ROW_MAJOR, NO_TRANSPOSE, PACKED, tokens(), neurons(), width(), input, width(), packed_in_.data(),
                      width(), 1, hidden_.data(), neurons());
    }
    void out(float *output) override {
        blas_.compute(ROW_MAJOR, NO_TRANSPOSE, PACKED, tokens(), width(), neurons(), hidden_.data(), neurons(),
                      packed_out_.data(), neurons(), 0, output, width());
    }

  private:
    Buffer packed_in_, packed_out_;
};

} // namespace

DenseWeights::DenseWeights(size_t w, size_t n, uint64_t seed)
    : width(w), neurons(n), in(n * w), biases(n), out_node_major(n * w), out(n * w) {
    float scale = 1.0f / std::sqrt(static_cast<float>(w));
    fill_normal(in, scale, seed);
    fill_normal(biases, 0.1f, seed + 1);
    fill_normal(out_node_major, scale, seed + 2);
    for (size_t neuron = 0; neuron < n; neuron++) {
        for (size_t column = 0; column < w; column++) {
            out.data()[column * n + neuron] = out_node_major.data()[neuron * w + column];
        }
    }
}

std::vector<const Cblas *> find_blas() {
    std::vector<const Cblas *> found;
    for (const Cblas *blas : {openblas(), mkl()}) {
        if (blas != nullptr) {
            found.push_back(blas);
        }
    }
    return found;
}

std::vector<std::unique_ptr<Peer>> find_peers() {
    std::vector<std::unique_ptr<Peer>> peers;
    for (const Cblas *blas : find_blas()) {
        for (bool node_major : {false, true}) {
            peers.push_back(std::make_unique<Gemm>(*blas, node_major));
            peers.push_back(std::make_unique<Gemv>(*blas, node_major));
        }
        if (blas->pack_size != nullptr && blas->pack != nullptr && blas->compute != nullptr) {
            peers.push_back(std::make_unique<PackedGemm>(*blas));
        }
    }
    return peers;
}

std::string describe_peers() {
    return (openblas() != nullptr ? openblas()->version : "OpenBLAS not found") + "; " +
           (mkl() != nullptr ? mkl()->version : "MKL not found");
}

} // namespace bench
