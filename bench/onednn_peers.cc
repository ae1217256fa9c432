// Dense layers by oneDNN 3: matrix products with weights reordered beforehand to the layout it asks for.
//
// FFF_BENCH_ONEDNN and FFF_BENCH_ONEDNN_OMP each name a build of it (e.g. on SYCL, and on OpenMP, which has less to do
// for each call). Both run on one thread because the harness runs on one CPU; they look at the CPUs they may use.
//
// In bfloat16 the inputs are converted, products accumulate in float32, and what lies between the two is bfloat16. In
// int8 weights have a scale a neuron or output column, inputs and what lies between the products one for the batch,
// found anew for each: what it costs to find it and to quantise is in the time, as it is for an FFF. One for the batch,
// not for a token, is what oneDNN computes fastest.
#include "bench/onednn.h"
#include "bench/peers.h"
#include "bench/quantise.h"

#include <map>

namespace bench {
namespace {

using namespace onednn;

// Both products of a dense layer, and the matrices that they read and write, whose memory is told for each use.
struct Products {
    Product in, out;
    Handle input, hidden_of_in, hidden_of_out, output;
    Products(const Onednn &dnn, const DenseLayers &layers, size_t batch, bool gelu, const Types &in_types = {},
             const Types &out_types = {})
        : in(dnn, batch, layers.width, layers.neurons, true, gelu, in_types),
          out(dnn, batch, layers.neurons, layers.width, false, false, out_types), input(in.source()),
          hidden_of_in(in.destination()), hidden_of_out(out.source()), output(out.destination()) {
    }
};

// A layer's weights in the layouts and types that the products ask for, but for int8.
struct Packed {
    Buffer in, out;
    Handle in_memory, out_memory, biases;
    Packed(const Products &products, const DenseWeights &weights)
        : in(products.in.reorder(weights.in.data(), TAG_BA)),
          out(products.out.reorder(weights.out_node_major.data(), TAG_AB)), in_memory(products.in.weights(in)),
          out_memory(products.out.weights(out)), biases(products.in.biases(weights.biases)) {
    }
};

// GELU with the same SLEEF as the library's, or oneDNN's own within the first product.
class OnednnPeer : public Peer {
  public:
    OnednnPeer(const Onednn &dnn, bool own_gelu)
        : dnn_(dnn), own_gelu_(own_gelu), name_(dnn.name + (own_gelu ? "_own_gelu" : "")) {
    }
    const std::string &name() const override {
        return name_;
    }
    bool takes(size_t) const override {
        return true;
    }
    void prepare(const DenseLayers &layers, size_t batch) override {
        layers_.clear();
        hidden_ = Buffer(batch * layers.neurons);
        products_ = std::make_unique<Products>(dnn_, layers, batch, own_gelu_);
        check(dnn_.memory_set(products_->hidden_of_in.get(), hidden_.data()), "memory");
        check(dnn_.memory_set(products_->hidden_of_out.get(), hidden_.data()), "memory");
        for (const DenseWeights &weights : layers.weights) {
            layers_.emplace_back(*products_, weights);
        }
    }
    void forward(size_t index, const float *input, float *output) override {
        const Packed &layer = layers_[index];
        check(dnn_.memory_set(products_->input.get(), const_cast<float *>(input)), "memory");
        check(dnn_.memory_set(products_->output.get(), output), "memory");
        products_->in.run(products_->input.get(), layer.in_memory.get(), layer.biases.get(),
                          products_->hidden_of_in.get());
        if (!own_gelu_) {
            check(dnn_.stream_wait(dnn_.stream), "matrix product");
            gelu(hidden_);
        }
        products_->out.run(products_->hidden_of_out.get(), layer.out_memory.get(), nullptr, products_->output.get());
        check(dnn_.stream_wait(dnn_.stream), "matrix product");
    }

  private:
    const Onednn &dnn_;
    bool own_gelu_;
    std::string name_;
    Buffer hidden_;
    std::unique_ptr<Products> products_;
    std::vector<Packed> layers_;
};

const Types BF16_IN = {BF16, BF16, BF16}, BF16_OUT = {BF16, BF16, F32}, I8_BOTH = {S8, S8, F32};

// All in bfloat16.
class Bf16Peer : public Peer {
  public:
    explicit Bf16Peer(const Onednn &dnn) : dnn_(dnn) {
    }
    const std::string &name() const override {
        return dnn_.name;
    }
    std::string kind() const override {
        return "bf16_";
    }
    double tolerance() const override {
        return 0.02;
    }
    size_t bytes_of_weight() const override {
        return 2;
    }
    bool takes(size_t) const override {
        return true;
    }
    void prepare(const DenseLayers &layers, size_t batch) override {
        layers_.clear();
        narrow_ = Buffer(batch * layers.width / 2 + 1);
        hidden_ = Buffer(batch * layers.neurons / 2 + 1);
        products_ = std::make_unique<Products>(dnn_, layers, batch, true, BF16_IN, BF16_OUT);
        convert_ = products_->in.conversion(batch);
        Handle plain = dnn_.desc(batch, layers.width, TAG_AB);
        input_ = dnn_.memory(plain.get(), nullptr);
        check(dnn_.memory_set(products_->input.get(), narrow_.data()), "memory");
        check(dnn_.memory_set(products_->hidden_of_in.get(), hidden_.data()), "memory");
        check(dnn_.memory_set(products_->hidden_of_out.get(), hidden_.data()), "memory");
        while (layers_.size() < layers.in_turn(bytes_of_weight())) {
            layers_.emplace_back(*products_, layers.weights[layers_.size() % layers.weights.size()]);
        }
    }
    void forward(size_t index, const float *input, float *output) override {
        const Packed &layer = layers_[index];
        check(dnn_.memory_set(input_.get(), const_cast<float *>(input)), "memory");
        check(dnn_.memory_set(products_->output.get(), output), "memory");
        const Argument conversion[] = {{ARG_SOURCE, input_.get()}, {ARG_DESTINATION, products_->input.get()}};
        check(dnn_.execute(convert_.get(), dnn_.stream, 2, conversion), "conversion");
        products_->in.run(products_->input.get(), layer.in_memory.get(), layer.biases.get(),
                          products_->hidden_of_in.get());
        products_->out.run(products_->hidden_of_out.get(), layer.out_memory.get(), nullptr, products_->output.get());
        check(dnn_.stream_wait(dnn_.stream), "matrix product");
    }

  private:
    const Onednn &dnn_;
    Buffer narrow_, hidden_;
    std::unique_ptr<Products> products_;
    Handle convert_{nullptr, nullptr}, input_{nullptr, nullptr};
    std::vector<Packed> layers_;
};

// All in int8, with float32 between the products until it is quantised.
class I8Peer : public Peer {
  public:
    explicit I8Peer(const Onednn &dnn) : dnn_(dnn) {
    }
    const std::string &name() const override {
        return dnn_.name;
    }
    std::string kind() const override {
        return "i8_";
    }
    double tolerance() const override {
        return 0.06;
    }
    size_t bytes_of_weight() const override {
        return 1;
    }
    bool takes(size_t) const override {
        return true;
    }
    void prepare(const DenseLayers &layers, size_t batch) override {
        layers_.clear();
        input_integers_.resize(batch * layers.width);
        hidden_integers_.resize(batch * layers.neurons);
        hidden_ = Buffer(batch * layers.neurons);
        products_ = std::make_unique<Products>(dnn_, layers, batch, true, I8_BOTH, I8_BOTH);
        input_scale_ = dnn_.scales(1, &scales_[0]);
        hidden_scale_ = dnn_.scales(1, &scales_[1]);
        check(dnn_.memory_set(products_->input.get(), input_integers_.data()), "memory");
        check(dnn_.memory_set(products_->hidden_of_in.get(), hidden_.data()), "memory");
        check(dnn_.memory_set(products_->hidden_of_out.get(), hidden_integers_.data()), "memory");
        while (layers_.size() < layers.in_turn(bytes_of_weight())) {
            const DenseWeights &weights = layers.weights[layers_.size() % layers.weights.size()];
            Matrix in(dnn_, products_->in, weights.in, layers.width),
                out(dnn_, products_->out, weights.out, layers.neurons);
            layers_.push_back({std::move(in), std::move(out), products_->in.biases(weights.biases)});
        }
    }
    void forward(size_t index, const float *input, float *output) override {
        const Layer &layer = layers_[index];
        scales_[0] = quantise(input, input_integers_.size(), input_integers_.data());
        products_->in.run(products_->input.get(), layer.in.memory.get(), layer.biases.get(),
                          products_->hidden_of_in.get(), input_scale_.get(), layer.in.scales_memory.get());
        check(dnn_.stream_wait(dnn_.stream), "matrix product");
        scales_[1] = quantise(hidden_.data(), hidden_.size(), hidden_integers_.data());
        check(dnn_.memory_set(products_->output.get(), output), "memory");
        products_->out.run(products_->hidden_of_out.get(), layer.out.memory.get(), nullptr, products_->output.get(),
                           hidden_scale_.get(), layer.out.scales_memory.get());
        check(dnn_.stream_wait(dnn_.stream), "matrix product");
    }

  private:
    // Weights of one scale a column, given with each column side by side.
    struct Matrix {
        Buffer packed, scales;
        Handle memory, scales_memory;
        Matrix(const Onednn &dnn, const Product &product, const Buffer &weights, size_t inner)
            : scales(weights.size() / inner), memory(nullptr, nullptr), scales_memory(nullptr, nullptr) {
            std::vector<int8_t> integers(weights.size());
            for (size_t column = 0; column < scales.size(); column++) {
                scales.data()[column] =
                    quantise(weights.data() + column * inner, inner, integers.data() + column * inner);
            }
            packed = product.reorder(integers.data(), TAG_BA, S8);
            memory = product.weights(packed);
            scales_memory = dnn.scales(scales.size(), scales.data());
        }
    };
    struct Layer {
        Matrix in, out;
        Handle biases;
    };
    const Onednn &dnn_;
    float scales_[2] = {};
    std::vector<int8_t> input_integers_, hidden_integers_;
    Buffer hidden_;
    std::unique_ptr<Products> products_;
    Handle input_scale_{nullptr, nullptr}, hidden_scale_{nullptr, nullptr};
    std::vector<Layer> layers_;
};

// Whether the library has more for that type here than its reference.
bool has_fast(const Onednn &dnn, const Types &types) {
    try {
        return !Product(dnn, 64, 768, 768, true, true, types).is_reference();
    } catch (const std::runtime_error &) {
        return false;
    }
}

struct Has {
    bool bf16, i8;
};

// Asked once.
const Has &narrow_types(const Onednn &dnn) {
    static std::map<const Onednn *, Has> known;
    auto [found, made] = known.try_emplace(&dnn);
    if (made) {
        found->second = {has_fast(dnn, BF16_IN) && has_fast(dnn, BF16_OUT), has_fast(dnn, I8_BOTH)};
    }
    return found->second;
}

const std::vector<std::unique_ptr<Onednn>> &libraries() {
    static const std::vector<std::unique_ptr<Onednn>> found = [] {
        std::vector<std::unique_ptr<Onednn>> libraries;
        auto newest = std::make_unique<Onednn>(), omp = std::make_unique<Onednn>();
        if (newest->open("FFF_BENCH_ONEDNN", {"libdnnl.so.3"})) {
            libraries.push_back(std::move(newest));
        }
        if (omp->open("FFF_BENCH_ONEDNN_OMP", {}) && (libraries.empty() || libraries[0]->name != omp->name)) {
            libraries.push_back(std::move(omp));
        }
        return libraries;
    }();
    return found;
}

} // namespace

Peers onednn_peers() {
    Peers peers;
    for (const std::unique_ptr<Onednn> &library : libraries()) {
        for (bool own_gelu : {false, true}) {
            peers.push_back(std::make_unique<OnednnPeer>(*library, own_gelu));
        }
        if (narrow_types(*library).bf16) {
            peers.push_back(std::make_unique<Bf16Peer>(*library));
        }
        if (narrow_types(*library).i8) {
            peers.push_back(std::make_unique<I8Peer>(*library));
        }
    }
    return peers;
}

std::string describe_narrow_peers() {
    std::string text;
    for (const std::unique_ptr<Onednn> &library : libraries()) {
        const Has &has = narrow_types(*library);
        text += (text.empty() ? "" : "; ") + library->version + ": " + (has.bf16 ? "bf16" : "no bf16") + ", " +
                (has.i8 ? "i8" : "no i8");
    }
    return text.empty() ? "no oneDNN" : text;
}

std::vector<std::string> onednn_versions() {
    std::vector<std::string> versions;
    for (const std::unique_ptr<Onednn> &library : libraries()) {
        versions.push_back(library->version);
    }
    return versions;
}

} // namespace bench
