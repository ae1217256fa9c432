// Dense layers by oneDNN 3: matrix products with weights reordered beforehand to the layout it asks for.
//
// The library is loaded at run time through its C interface, which is stable within version 3; the handles are opaque
// and the few constants below are its own. FFF_BENCH_ONEDNN and FFF_BENCH_ONEDNN_OMP each name a build of it (e.g. on
// SYCL, and on OpenMP, which has less to do for each call). Both run on one thread because the harness runs on one
// CPU; they look at the CPUs they may use.
//
// In bfloat16 the inputs are converted, products accumulate in float32, and what lies between the two is bfloat16. In
// int8 weights have a scale a neuron or output column, inputs and what lies between the products one for the batch,
// found anew for each: what it costs to find it and to quantise is in the time, as it is for an FFF. One for the batch,
// not for a token, is what oneDNN computes fastest.
#include "bench/load.h"
#include "bench/peers.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <stdexcept>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace bench {
namespace {

enum { BF16 = 2, F32 = 3, S8 = 5, ENGINE_CPU = 1, IN_ORDER = 1, GELU_ERF = 0x31, QUERY_NAME = 8, QUERY_WEIGHTS = 131 };
enum { TAG_ANY = 1, TAG_A = 2, TAG_AB = 3, TAG_BA = 14 };
enum { ARG_SOURCE = 1, ARG_DESTINATION = 17, ARG_WEIGHTS = 33, ARG_BIAS = 41, ARG_SCALES = 4096 };
enum { ONE_SCALE = 0, COLUMN_SCALES = 2 };

struct Argument {
    int index;
    void *memory;
};

// The beginning of dnnl_version_t.
struct Version {
    int major, minor, patch;
};

void check(int status, const char *what) {
    if (status != 0) {
        throw std::runtime_error(std::string("oneDNN: ") + what + " failed, status " + std::to_string(status));
    }
}

using Destroy = int (*)(void *);
using Handle = std::unique_ptr<void, Destroy>;

struct Onednn {
    std::string name, version; // "onednn_3.13", "oneDNN 3.13.2"
    void *engine = nullptr, *stream = nullptr;

    const Version *(*get_version)() = nullptr;
    int (*engine_create)(void **, int, size_t) = nullptr;
    int (*stream_create)(void **, void *, unsigned) = nullptr;
    int (*stream_wait)(void *) = nullptr;
    int (*desc_create)(void **, int, const int64_t *, int, int) = nullptr;
    size_t (*desc_size)(const void *) = nullptr;
    int (*memory_create)(void **, const void *, void *, void *) = nullptr;
    int (*memory_set)(void *, void *) = nullptr;
    int (*ops_create)(void **) = nullptr;
    int (*ops_eltwise)(void *, int, float, float) = nullptr;
    int (*attr_create)(void **) = nullptr;
    int (*attr_set_ops)(void *, const void *) = nullptr;
    int (*attr_set_scales)(void *, int, int) = nullptr;
    int (*matmul_create)(void **, void *, const void *, const void *, const void *, const void *,
                         const void *) = nullptr;
    int (*reorder_create)(void **, const void *, void *, const void *, void *, const void *) = nullptr;
    int (*query)(const void *, int, int, void *) = nullptr;
    const void *(*query_desc)(const void *, int, int) = nullptr;
    int (*primitive_create)(void **, const void *) = nullptr;
    int (*execute)(const void *, void *, int, const Argument *) = nullptr;
    Destroy desc_destroy = nullptr, memory_destroy = nullptr, ops_destroy = nullptr, attr_destroy = nullptr,
            primitive_desc_destroy = nullptr, primitive_destroy = nullptr;

    bool open(const char *environment, std::initializer_list<const char *> names) {
        void *library = open_library(environment, names);
        bool complete = library != nullptr && load(library, "dnnl_version", get_version) &&
                        load(library, "dnnl_engine_create", engine_create) &&
                        load(library, "dnnl_stream_create", stream_create) &&
                        load(library, "dnnl_stream_wait", stream_wait) &&
                        load(library, "dnnl_memory_desc_create_with_tag", desc_create) &&
                        load(library, "dnnl_memory_desc_get_size", desc_size) &&
                        load(library, "dnnl_memory_create", memory_create) &&
                        load(library, "dnnl_memory_set_data_handle", memory_set) &&
                        load(library, "dnnl_post_ops_create", ops_create) &&
                        load(library, "dnnl_post_ops_append_eltwise", ops_eltwise) &&
                        load(library, "dnnl_primitive_attr_create", attr_create) &&
                        load(library, "dnnl_primitive_attr_set_post_ops", attr_set_ops) &&
                        load(library, "dnnl_primitive_attr_set_scales_mask", attr_set_scales) &&
                        load(library, "dnnl_primitive_desc_query", query) &&
                        load(library, "dnnl_matmul_primitive_desc_create", matmul_create) &&
                        load(library, "dnnl_reorder_primitive_desc_create", reorder_create) &&
                        load(library, "dnnl_primitive_desc_query_md", query_desc) &&
                        load(library, "dnnl_primitive_create", primitive_create) &&
                        load(library, "dnnl_primitive_execute", execute) &&
                        load(library, "dnnl_memory_desc_destroy", desc_destroy) &&
                        load(library, "dnnl_memory_destroy", memory_destroy) &&
                        load(library, "dnnl_post_ops_destroy", ops_destroy) &&
                        load(library, "dnnl_primitive_attr_destroy", attr_destroy) &&
                        load(library, "dnnl_primitive_desc_destroy", primitive_desc_destroy) &&
                        load(library, "dnnl_primitive_destroy", primitive_destroy);
        if (!complete || get_version()->major != 3) {
            return false;
        }
        const Version &v = *get_version();
        name = "onednn_" + std::to_string(v.major) + "." + std::to_string(v.minor);
        version = "oneDNN " + std::to_string(v.major) + "." + std::to_string(v.minor) + "." + std::to_string(v.patch);
        if (engine_create(&engine, ENGINE_CPU, 0) != 0 || stream_create(&stream, engine, IN_ORDER) != 0) {
            std::cerr << "fff_bench: " << version << " finds no CPU to run on (its SYCL runtime needs OpenCL)\n";
            return false;
        }
        return true;
    }

    Handle desc(size_t rows, size_t columns, int tag, int type = F32) const {
        const int64_t sizes[] = {static_cast<int64_t>(rows), static_cast<int64_t>(columns)};
        void *made = nullptr;
        check(desc_create(&made, 2, sizes, type, tag), "memory descriptor");
        return Handle(made, desc_destroy);
    }
    Handle memory(const void *layout, const void *values) const {
        void *made = nullptr;
        check(memory_create(&made, layout, engine, const_cast<void *>(values)), "memory");
        return Handle(made, memory_destroy);
    }
    Handle scales(size_t count, const float *values) const {
        const int64_t size = static_cast<int64_t>(count);
        void *made = nullptr;
        check(desc_create(&made, 1, &size, F32, TAG_A), "memory descriptor");
        Handle layout(made, desc_destroy);
        return memory(layout.get(), values);
    }
    Handle reorder(const void *from, const void *to) const {
        void *made = nullptr;
        check(reorder_create(&made, from, engine, to, engine, nullptr), "reorder");
        Handle description(made, primitive_desc_destroy);
        return primitive(made);
    }
    Handle primitive(const void *description) const {
        void *made = nullptr;
        check(primitive_create(&made, description), "primitive");
        return Handle(made, primitive_destroy);
    }
};

// The element types of a product; int8 sources and weights are scaled.
struct Types {
    int source = F32, weights = F32, destination = F32;
    bool scaled() const {
        return weights == S8;
    }
};

#if defined(__x86_64__)
// The largest size of a multiple of 32 values.
__attribute__((target("avx2"))) float largest_avx2(const float *values, size_t count) {
    __m256 most[4] = {}, sign = _mm256_set1_ps(-0.0f);
    for (size_t i = 0; i < count; i += 32) {
        for (size_t v = 0; v < 4; v++) {
            most[v] = _mm256_max_ps(most[v], _mm256_andnot_ps(sign, _mm256_loadu_ps(values + i + 8 * v)));
        }
    }
    alignas(32) float lanes[8];
    _mm256_store_ps(lanes, _mm256_max_ps(_mm256_max_ps(most[0], most[1]), _mm256_max_ps(most[2], most[3])));
    return *std::max_element(lanes, lanes + 8);
}

__attribute__((target("avx2"))) void quantise_avx2(const float *values, size_t count, float factor, int8_t *integers) {
    __m256 factors = _mm256_set1_ps(factor);
    __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7); // packing works in each half
    for (size_t i = 0; i < count; i += 32) {
        __m256i whole[4];
        for (size_t v = 0; v < 4; v++) {
            whole[v] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(values + i + 8 * v), factors));
        }
        __m256i bytes =
            _mm256_packs_epi16(_mm256_packs_epi32(whole[0], whole[1]), _mm256_packs_epi32(whole[2], whole[3]));
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(integers + i), _mm256_permutevar8x32_epi32(bytes, order));
    }
}
#endif

// Rounds all to integers of up to 127, of one scale, which is returned.
float quantise(const float *values, size_t count, int8_t *integers) {
    size_t whole = 0; // what vectors do
    float largest = 0;
#if defined(__x86_64__)
    static const bool has_avx2 = fff_isa_usable(FFF_ISA_X86_AVX2) == FFF_OK;
    whole = has_avx2 ? count / 32 * 32 : 0;
    largest = has_avx2 ? largest_avx2(values, whole) : 0;
#endif
    for (size_t i = whole; i < count; i++) {
        largest = std::max(largest, std::fabs(values[i]));
    }
    float factor = largest > 0 ? 127 / largest : 0;
#if defined(__x86_64__)
    if (has_avx2) {
        quantise_avx2(values, whole, factor, integers);
    }
#endif
    for (size_t i = whole; i < count; i++) {
        integers[i] = static_cast<int8_t>(std::rint(values[i] * factor));
    }
    return largest > 0 ? largest / 127 : 1;
}

// One matrix product: rows x inner times inner x columns.
class Product {
  public:
    // `biases` may be null.
    Product(const Onednn &dnn, size_t rows, size_t inner, size_t columns, bool biases, bool gelu,
            const Types &types = {})
        : dnn_(dnn), inner_(inner), columns_(columns), source_(dnn.desc(rows, inner, TAG_AB, types.source)),
          biases_(dnn.desc(1, columns, TAG_AB)), destination_(dnn.desc(rows, columns, TAG_AB, types.destination)),
          description_(nullptr, dnn.primitive_desc_destroy), primitive_(nullptr, dnn.primitive_destroy) {
        void *made = nullptr;
        check(dnn.ops_create(&made), "post-operations");
        Handle ops(made, dnn.ops_destroy);
        if (gelu) {
            check(dnn.ops_eltwise(ops.get(), GELU_ERF, 0, 0), "GELU");
        }
        check(dnn.attr_create(&made), "attributes");
        Handle attributes(made, dnn.attr_destroy);
        check(dnn.attr_set_ops(attributes.get(), ops.get()), "attributes");
        if (types.scaled()) {
            check(dnn.attr_set_scales(attributes.get(), ARG_SOURCE, ONE_SCALE), "scales");
            check(dnn.attr_set_scales(attributes.get(), ARG_WEIGHTS, COLUMN_SCALES), "scales");
        }
        Handle any = dnn.desc(inner, columns, TAG_ANY, types.weights);
        check(dnn.matmul_create(&made, dnn.engine, source_.get(), any.get(), biases ? biases_.get() : nullptr,
                                destination_.get(), attributes.get()),
              "matrix product");
        description_.reset(made);
        primitive_ = dnn.primitive(made);
    }
    // Whether oneDNN computes it by its plain reference: it runs, but is not what the library would be used for.
    bool is_reference() const {
        const char *name = "";
        check(dnn_.query(description_.get(), QUERY_NAME, 0, &name), "implementation's name");
        return std::strncmp(name, "ref", 3) == 0;
    }
    // The weights, inner x columns with that tag, in the layout and type the product asks for.
    Buffer reorder(const void *weights, int tag, int type = F32) const {
        const void *wanted = dnn_.query_desc(description_.get(), QUERY_WEIGHTS, 0);
        Buffer reordered(dnn_.desc_size(wanted) / sizeof(float) + 1);
        Handle plain = dnn_.desc(inner_, columns_, tag, type);
        Handle from = dnn_.memory(plain.get(), weights), to = dnn_.memory(wanted, reordered.data());
        Handle reorder = dnn_.reorder(plain.get(), wanted);
        const Argument arguments[] = {{ARG_SOURCE, from.get()}, {ARG_DESTINATION, to.get()}};
        check(dnn_.execute(reorder.get(), dnn_.stream, 2, arguments), "reorder");
        check(dnn_.stream_wait(dnn_.stream), "reorder");
        return reordered;
    }
    // What turns float32 sources into the product's.
    Handle conversion(size_t rows) const {
        Handle plain = dnn_.desc(rows, inner_, TAG_AB);
        return dnn_.reorder(plain.get(), source_.get());
    }
    Handle source() const {
        return dnn_.memory(source_.get(), nullptr);
    }
    Handle destination() const {
        return dnn_.memory(destination_.get(), nullptr);
    }
    Handle biases(const Buffer &values) const {
        return dnn_.memory(biases_.get(), values.data());
    }
    Handle weights(const Buffer &reordered) const {
        return dnn_.memory(dnn_.query_desc(description_.get(), QUERY_WEIGHTS, 0), reordered.data());
    }
    // Scales are for int8.
    void run(void *source, void *weights, void *biases, void *destination, void *source_scale = nullptr,
             void *weight_scales = nullptr) const {
        Argument arguments[6] = {{ARG_SOURCE, source}, {ARG_WEIGHTS, weights}, {ARG_DESTINATION, destination}};
        int count = 3;
        if (biases != nullptr) {
            arguments[count++] = {ARG_BIAS, biases};
        }
        if (source_scale != nullptr) {
            arguments[count++] = {ARG_SCALES | ARG_SOURCE, source_scale};
            arguments[count++] = {ARG_SCALES | ARG_WEIGHTS, weight_scales};
        }
        check(dnn_.execute(primitive_.get(), dnn_.stream, count, arguments), "matrix product");
    }

  private:
    const Onednn &dnn_;
    size_t inner_, columns_;
    Handle source_, biases_, destination_, description_, primitive_;
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
        in_ = std::make_unique<Product>(dnn_, batch, layers.width, layers.neurons, true, own_gelu_);
        out_ = std::make_unique<Product>(dnn_, batch, layers.neurons, layers.width, false, false);
        input_ = in_->source();
        hidden_of_in_ = in_->destination();
        hidden_of_out_ = out_->source();
        output_ = out_->destination();
        check(dnn_.memory_set(hidden_of_in_.get(), hidden_.data()), "memory");
        check(dnn_.memory_set(hidden_of_out_.get(), hidden_.data()), "memory");
        for (const DenseWeights &weights : layers.weights) {
            Buffer in = in_->reorder(weights.in.data(), TAG_BA),
                   out = out_->reorder(weights.out_node_major.data(), TAG_AB);
            Handle in_memory = in_->weights(in), out_memory = out_->weights(out), biases = in_->biases(weights.biases);
            layers_.push_back(
                {std::move(in), std::move(out), std::move(in_memory), std::move(out_memory), std::move(biases)});
        }
    }
    void forward(size_t index, const float *input, float *output) override {
        const Layer &layer = layers_[index];
        check(dnn_.memory_set(input_.get(), const_cast<float *>(input)), "memory");
        check(dnn_.memory_set(output_.get(), output), "memory");
        in_->run(input_.get(), layer.in_memory.get(), layer.biases.get(), hidden_of_in_.get());
        if (!own_gelu_) {
            check(dnn_.stream_wait(dnn_.stream), "matrix product");
            gelu(hidden_);
        }
        out_->run(hidden_of_out_.get(), layer.out_memory.get(), nullptr, output_.get());
        check(dnn_.stream_wait(dnn_.stream), "matrix product");
    }

  private:
    struct Layer {
        Buffer in, out;
        Handle in_memory, out_memory, biases;
    };
    const Onednn &dnn_;
    bool own_gelu_;
    std::string name_;
    Buffer hidden_;
    std::unique_ptr<Product> in_, out_;
    Handle input_{nullptr, nullptr}, hidden_of_in_{nullptr, nullptr}, hidden_of_out_{nullptr, nullptr},
        output_{nullptr, nullptr};
    std::vector<Layer> layers_;
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
    bool takes(size_t) const override {
        return true;
    }
    void prepare(const DenseLayers &layers, size_t batch) override {
        layers_.clear();
        narrow_ = Buffer(batch * layers.width / 2 + 1);
        hidden_ = Buffer(batch * layers.neurons / 2 + 1);
        in_ = std::make_unique<Product>(dnn_, batch, layers.width, layers.neurons, true, true, BF16_IN);
        out_ = std::make_unique<Product>(dnn_, batch, layers.neurons, layers.width, false, false, BF16_OUT);
        convert_ = in_->conversion(batch);
        Handle plain = dnn_.desc(batch, layers.width, TAG_AB);
        input_ = dnn_.memory(plain.get(), nullptr);
        narrow_input_ = in_->source();
        hidden_of_in_ = in_->destination();
        hidden_of_out_ = out_->source();
        output_ = out_->destination();
        check(dnn_.memory_set(narrow_input_.get(), narrow_.data()), "memory");
        check(dnn_.memory_set(hidden_of_in_.get(), hidden_.data()), "memory");
        check(dnn_.memory_set(hidden_of_out_.get(), hidden_.data()), "memory");
        for (const DenseWeights &weights : layers.weights) {
            Buffer in = in_->reorder(weights.in.data(), TAG_BA);
            Buffer out = out_->reorder(weights.out_node_major.data(), TAG_AB);
            Handle in_memory = in_->weights(in), out_memory = out_->weights(out), biases = in_->biases(weights.biases);
            layers_.push_back(
                {std::move(in), std::move(out), std::move(in_memory), std::move(out_memory), std::move(biases)});
        }
    }
    void forward(size_t index, const float *input, float *output) override {
        const Layer &layer = layers_[index];
        check(dnn_.memory_set(input_.get(), const_cast<float *>(input)), "memory");
        check(dnn_.memory_set(output_.get(), output), "memory");
        const Argument conversion[] = {{ARG_SOURCE, input_.get()}, {ARG_DESTINATION, narrow_input_.get()}};
        check(dnn_.execute(convert_.get(), dnn_.stream, 2, conversion), "conversion");
        in_->run(narrow_input_.get(), layer.in_memory.get(), layer.biases.get(), hidden_of_in_.get());
        out_->run(hidden_of_out_.get(), layer.out_memory.get(), nullptr, output_.get());
        check(dnn_.stream_wait(dnn_.stream), "matrix product");
    }

  private:
    struct Layer {
        Buffer in, out;
        Handle in_memory, out_memory, biases;
    };
    const Onednn &dnn_;
    Buffer narrow_, hidden_;
    std::unique_ptr<Product> in_, out_;
    Handle convert_{nullptr, nullptr}, input_{nullptr, nullptr}, narrow_input_{nullptr, nullptr},
        hidden_of_in_{nullptr, nullptr}, hidden_of_out_{nullptr, nullptr}, output_{nullptr, nullptr};
    std::vector<Layer> layers_;
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
    bool takes(size_t) const override {
        return true;
    }
    void prepare(const DenseLayers &layers, size_t batch) override {
        layers_.clear();
        input_integers_.resize(batch * layers.width);
        hidden_integers_.resize(batch * layers.neurons);
        hidden_ = Buffer(batch * layers.neurons);
        in_ = std::make_unique<Product>(dnn_, batch, layers.width, layers.neurons, true, true, I8_BOTH);
        out_ = std::make_unique<Product>(dnn_, batch, layers.neurons, layers.width, false, false, I8_BOTH);
        input_ = in_->source();
        hidden_of_in_ = in_->destination();
        hidden_of_out_ = out_->source();
        output_ = out_->destination();
        input_scale_ = dnn_.scales(1, &scales_[0]);
        hidden_scale_ = dnn_.scales(1, &scales_[1]);
        check(dnn_.memory_set(input_.get(), input_integers_.data()), "memory");
        check(dnn_.memory_set(hidden_of_in_.get(), hidden_.data()), "memory");
        check(dnn_.memory_set(hidden_of_out_.get(), hidden_integers_.data()), "memory");
        for (const DenseWeights &weights : layers.weights) {
            Matrix in(dnn_, *in_, weights.in, layers.width), out(dnn_, *out_, weights.out, layers.neurons);
            layers_.push_back({std::move(in), std::move(out), in_->biases(weights.biases)});
        }
    }
    void forward(size_t index, const float *input, float *output) override {
        const Layer &layer = layers_[index];
        scales_[0] = quantise(input, input_integers_.size(), input_integers_.data());
        in_->run(input_.get(), layer.in.memory.get(), layer.biases.get(), hidden_of_in_.get(), input_scale_.get(),
                 layer.in.scales_memory.get());
        check(dnn_.stream_wait(dnn_.stream), "matrix product");
        scales_[1] = quantise(hidden_.data(), hidden_.size(), hidden_integers_.data());
        check(dnn_.memory_set(output_.get(), output), "memory");
        out_->run(hidden_of_out_.get(), layer.out.memory.get(), nullptr, output_.get(), hidden_scale_.get(),
                  layer.out.scales_memory.get());
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
    std::unique_ptr<Product> in_, out_;
    Handle input_{nullptr, nullptr}, hidden_of_in_{nullptr, nullptr}, hidden_of_out_{nullptr, nullptr},
        output_{nullptr, nullptr}, input_scale_{nullptr, nullptr}, hidden_scale_{nullptr, nullptr};
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
