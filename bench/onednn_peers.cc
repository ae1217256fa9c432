// Dense layers by oneDNN 3: matrix products with weights reordered beforehand to the layout it asks for.
//
// The library is loaded at run time through its C interface, which is stable within version 3; the handles are opaque
// and the few constants below are its own. FFF_BENCH_ONEDNN and FFF_BENCH_ONEDNN_OMP each name a build of it (e.g. on
// SYCL, and on OpenMP, which has less to do for each call). Both run on one thread because the harness runs on one
// CPU; they look at the CPUs they may use.
#include "bench/load.h"
#include "bench/peers.h"

#include <stdexcept>

namespace bench {
namespace {

enum { F32 = 3, ENGINE_CPU = 1, IN_ORDER = 1, GELU_ERF = 0x31, QUERY_WEIGHTS = 131 };
enum { TAG_ANY = 1, TAG_AB = 3, TAG_BA = 14 };
enum { ARG_SOURCE = 1, ARG_DESTINATION = 17, ARG_WEIGHTS = 33, ARG_BIAS = 41 };

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
    int (*matmul_create)(void **, void *, const void *, const void *, const void *, const void *,
                         const void *) = nullptr;
    int (*reorder_create)(void **, const void *, void *, const void *, void *, const void *) = nullptr;
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

    Handle desc(size_t rows, size_t columns, int tag) const {
        const int64_t sizes[] = {static_cast<int64_t>(rows), static_cast<int64_t>(columns)};
        void *made = nullptr;
        check(desc_create(&made, 2, sizes, F32, tag), "memory descriptor");
        return Handle(made, desc_destroy);
    }
    Handle memory(const void *layout, const float *values) const {
        void *made = nullptr;
        check(memory_create(&made, layout, engine, const_cast<float *>(values)), "memory");
        return Handle(made, memory_destroy);
    }
    Handle primitive(const void *description) const {
        void *made = nullptr;
        check(primitive_create(&made, description), "primitive");
        return Handle(made, primitive_destroy);
    }
};

// One matrix product: rows x inner times inner x columns.
class Product {
  public:
    // `biases` may be null.
    Product(const Onednn &dnn, size_t rows, size_t inner, size_t columns, bool biases, bool gelu)
        : dnn_(dnn), inner_(inner), columns_(columns), source_(dnn.desc(rows, inner, TAG_AB)),
          biases_(dnn.desc(1, columns, TAG_AB)), destination_(dnn.desc(rows, columns, TAG_AB)),
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
        Handle any = dnn.desc(inner, columns, TAG_ANY);
        check(dnn.matmul_create(&made, dnn.engine, source_.get(), any.get(), biases ? biases_.get() : nullptr,
                                destination_.get(), attributes.get()),
              "matrix product");
        description_.reset(made);
        primitive_ = dnn.primitive(made);
    }
    // The weights, inner x columns with that tag, in the layout the product asks for.
    Buffer reorder(const Buffer &weights, int tag) const {
        const void *wanted = dnn_.query_desc(description_.get(), QUERY_WEIGHTS, 0);
        Buffer reordered(dnn_.desc_size(wanted) / sizeof(float) + 1);
        Handle plain = dnn_.desc(inner_, columns_, tag);
        Handle from = dnn_.memory(plain.get(), weights.data()), to = dnn_.memory(wanted, reordered.data());
        void *made = nullptr;
        check(dnn_.reorder_create(&made, plain.get(), dnn_.engine, wanted, dnn_.engine, nullptr), "reorder");
        Handle description(made, dnn_.primitive_desc_destroy), reorder = dnn_.primitive(made);
        const Argument arguments[] = {{ARG_SOURCE, from.get()}, {ARG_DESTINATION, to.get()}};
        check(dnn_.execute(reorder.get(), dnn_.stream, 2, arguments), "reorder");
        check(dnn_.stream_wait(dnn_.stream), "reorder");
        return reordered;
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
    void run(void *source, void *weights, void *biases, void *destination) const {
        const Argument arguments[] = {
            {ARG_SOURCE, source}, {ARG_WEIGHTS, weights}, {ARG_DESTINATION, destination}, {ARG_BIAS, biases}};
        check(dnn_.execute(primitive_.get(), dnn_.stream, biases != nullptr ? 4 : 3, arguments), "matrix product");
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
            Buffer in = in_->reorder(weights.in, TAG_BA), out = out_->reorder(weights.out_node_major, TAG_AB);
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
    }
    return peers;
}

std::vector<std::string> onednn_versions() {
    std::vector<std::string> versions;
    for (const std::unique_ptr<Onednn> &library : libraries()) {
        versions.push_back(library->version);
    }
    return versions;
}

} // namespace bench
