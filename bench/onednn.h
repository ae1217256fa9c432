// oneDNN 3, loaded at run time through its C interface, which is stable within version 3; the handles are opaque and
// the few constants below are its own.
#ifndef FFF_BENCH_ONEDNN_H
#define FFF_BENCH_ONEDNN_H

#include "bench/common.h"
#include "bench/load.h"

#include <cstring>
#include <stdexcept>

namespace bench::onednn {

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

inline void check(int status, const char *what) {
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

} // namespace bench::onednn

#endif
