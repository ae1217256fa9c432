// Whole layers, FFF and dense, by batch size.
//
//     layer/path_1x11/x86_avx512/h768/b64/warm/uniform
//     dense_4095/openblas_sgemm/h768/b64
//
// warm: one layer, again and again. cold: as many layers in turn as together exceed the last cache, as in a model.
// uniform: tokens spread over all leaves. one_path: different tokens, all on one path. The counter s_per_token is
// the time a token takes, in seconds. FFF outputs are compared with the generic kernels', bit for bit, dense outputs
// with float64, before they are timed.
#include "bench/peers.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <stdexcept>

namespace bench {
namespace {

const size_t MOST_TOKENS = 16384;
const size_t CHECKED_TOKENS = 64; // of an FFF result; a dense result's first one is compared

struct Shape {
    size_t trees, depth, width;
    std::string name() const {
        return "path_" + std::to_string(trees) + "x" + std::to_string(depth);
    }
    size_t rows() const {
        return trees * fff_nodes_per_tree(depth);
    }
};
const Shape SHAPES[] = {{1, 11, 768}, {3072, 0, 768}, {512, 2, 768}, {128, 4, 768}, {32, 6, 768},  {8, 8, 768},
                        {1, 15, 768}, {1, 11, 256},   {1, 11, 512},  {1, 11, 1024}, {1, 11, 2048}, {1, 11, 4096}};

struct Destroy {
    void operator()(fff_layer *layer) const {
        fff_layer_destroy(layer);
    }
};
using Layer = std::unique_ptr<fff_layer, Destroy>;

Layer make_layer(const Shape &shape, fff_isa isa, const Buffer &in, const Buffer &biases, const Buffer &out) {
    fff_layer_desc desc{};
    desc.struct_size = sizeof desc;
    desc.input_width = desc.output_width = shape.width;
    desc.depth = shape.depth;
    desc.trees = shape.trees;
    desc.isa = isa;
    desc.input_weights = {in.data(), shape.width, 1};
    desc.biases = biases.data();
    desc.output_weights = {out.data(), shape.width, 1};
    fff_layer *layer = nullptr;
    fff_status status = fff_layer_create(&desc, &layer);
    if (status != FFF_OK) {
        throw std::runtime_error(fff_status_text(status));
    }
    return Layer(layer);
}

// What the benchmarks of one shape, routing and temperature have in common; the last one is kept.
struct Setting {
    Shape shape;
    bool cold, one_path;
    Buffer in, biases, out, input, output;
    std::vector<float> expected; // of the first CHECKED_TOKENS, by the generic kernels
    std::map<fff_isa, std::vector<Layer>> layers;

    Setting(const Shape &s, bool is_cold, bool is_one_path)
        : shape(s), cold(is_cold), one_path(is_one_path), in(s.rows() * s.width), biases(s.rows()),
          out(s.rows() * s.width), input(MOST_TOKENS * s.width), output(MOST_TOKENS * s.width),
          expected(CHECKED_TOKENS * s.width) {
        float scale = 1.0f / std::sqrt(static_cast<float>(s.width));
        fill_normal(in, scale, 1);
        fill_normal(out, scale, 2);
        fill_normal(input, 1.0f, 3);
        std::fill_n(biases.data(), biases.size(), one_path ? 100.0f : 0.0f); // far above any sum: all go right
        Layer generic = make_layer(shape, FFF_ISA_GENERIC, in, biases, out);
        run(generic.get(), CHECKED_TOKENS, CHECKED_TOKENS, expected.data());
    }
    const std::vector<Layer> &layers_for(fff_isa isa) {
        std::vector<Layer> &made = layers[isa];
        if (made.empty()) {
            layers.clear(); // one instruction set's at a time: cold layers fill gigabytes
            std::vector<Layer> &fresh = layers[isa];
            do {
                fresh.push_back(make_layer(shape, isa, in, biases, out));
            } while (cold && fresh.size() * fff_layer_memory(fresh[0].get()) < 2 * cache_bytes(3));
            return fresh;
        }
        return made;
    }
    // `tokens` tokens in batches; true if all succeeded.
    bool run(const fff_layer *layer, size_t tokens, size_t batch, float *result) {
        size_t size = 0;
        bool ok = fff_workspace_size(layer, batch, 1, &size) == FFF_OK;
        std::vector<unsigned char> workspace(size);
        for (size_t first = 0; ok && first < tokens; first += batch) {
            size_t count = std::min(batch, tokens - first);
            ok = fff_forward(layer, count, input.data() + first * shape.width, shape.width,
                             result + first * shape.width, shape.width, workspace.data(), size, nullptr) == FFF_OK;
        }
        return ok;
    }
};

Setting &setting_for(const Shape &shape, bool cold, bool one_path) {
    static std::unique_ptr<Setting> kept;
    if (!kept || kept->shape.name() != shape.name() || kept->shape.width != shape.width || kept->cold != cold ||
        kept->one_path != one_path) {
        kept.reset(); // before the next is allocated
        kept = std::make_unique<Setting>(shape, cold, one_path);
    }
    return *kept;
}

void count_tokens(benchmark::State &state, size_t batch) {
    using benchmark::Counter;
    state.counters["s_per_token"] = Counter(static_cast<double>(state.iterations()) * static_cast<double>(batch),
                                            static_cast<Counter::Flags>(Counter::kIsRate | Counter::kInvert));
}

void fff(benchmark::State &state, const Shape &shape, fff_isa isa, size_t batch, bool cold, bool one_path) {
    Setting &setting = setting_for(shape, cold, one_path);
    const std::vector<Layer> &layers = setting.layers_for(isa);
    for (const Layer &layer : layers) {
        std::vector<float> found(setting.expected.size());
        if (!setting.run(layer.get(), CHECKED_TOKENS, batch, found.data()) ||
            std::memcmp(found.data(), setting.expected.data(), found.size() * sizeof(float)) != 0) {
            state.SkipWithError("differs from the generic kernels");
            return;
        }
    }
    size_t size = 0;
    fff_workspace_size(layers[0].get(), batch, 1, &size);
    Buffer workspace(size / sizeof(float) + 1);
    size_t first = 0, layer = 0;
    for (auto _ : state) {
        fff_forward(layers[layer].get(), batch, setting.input.data() + first * shape.width, shape.width,
                    setting.output.data() + first * shape.width, shape.width, workspace.data(), size, nullptr);
        benchmark::DoNotOptimize(setting.output.data());
        first = first + 2 * batch <= MOST_TOKENS ? first + batch : 0;
        layer = layer + 1 < layers.size() ? layer + 1 : 0;
    }
    count_tokens(state, batch);
}

// The first token's output in float64, and how far float32 may be off: many times what rounding explains, and a
// small part of what a wrong weight, bias or activation would change.
bool dense_is_right(const DenseWeights &weights, const float *input, const float *output) {
    std::vector<double> sums(weights.width), magnitudes(weights.width);
    for (size_t neuron = 0; neuron < weights.neurons; neuron++) {
        double z = static_cast<double>(weights.biases.data()[neuron]);
        for (size_t i = 0; i < weights.width; i++) {
            z += static_cast<double>(input[i]) * static_cast<double>(weights.in.data()[neuron * weights.width + i]);
        }
        double activation = 0.5 * z * std::erfc(-z * std::sqrt(0.5));
        for (size_t j = 0; j < weights.width; j++) {
            double term = activation * static_cast<double>(weights.out_node_major.data()[neuron * weights.width + j]);
            sums[j] += term;
            magnitudes[j] += std::fabs(term);
        }
    }
    for (size_t j = 0; j < weights.width; j++) {
        if (!(std::fabs(static_cast<double>(output[j]) - sums[j]) <= 1e-5 * magnitudes[j] + 1e-6)) {
            return false;
        }
    }
    return true;
}

void dense(benchmark::State &state, Peer &peer, size_t width, size_t neurons, size_t batch) {
    static std::unique_ptr<DenseWeights> kept;
    static Buffer input, output;
    if (!kept || kept->width != width || kept->neurons != neurons) {
        kept.reset();
        kept = std::make_unique<DenseWeights>(width, neurons, 7);
        input = Buffer(MOST_TOKENS * width);
        output = Buffer(MOST_TOKENS * width);
        fill_normal(input, 1.0f, 3);
    }
    peer.prepare(*kept, batch);
    peer.forward(input.data(), output.data());
    if (!dense_is_right(*kept, input.data(), output.data())) {
        state.SkipWithError("differs from float64");
        return;
    }
    for (auto _ : state) {
        peer.forward(input.data(), output.data());
        benchmark::DoNotOptimize(output.data());
    }
    count_tokens(state, batch);
}

} // namespace

void register_layers() {
    static std::vector<std::unique_ptr<Peer>> peers = find_peers();
    static const size_t dense_neurons[] = {4095, 3072, 12};
    for (const Shape &shape : SHAPES) {
        for (bool cold : {false, true}) {
            for (bool one_path : {false, true}) {
                for (fff_isa isa : usable_isas()) {
                    for (size_t batch = 1; batch <= MOST_TOKENS; batch *= 2) {
                        std::string name = "layer/" + shape.name() + "/" + fff_isa_name(isa) + "/h" +
                                           std::to_string(shape.width) + "/b" + std::to_string(batch) +
                                           (cold ? "/cold" : "/warm") + (one_path ? "/one_path" : "/uniform");
                        benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State &state) {
                            fff(state, shape, isa, batch, cold, one_path);
                        });
                    }
                }
            }
        }
    }
    for (size_t width : {768, 256, 512, 1024, 2048, 4096}) {
        for (size_t neurons : dense_neurons) {
            for (const std::unique_ptr<Peer> &peer : peers) {
                for (size_t batch = 1; batch <= MOST_TOKENS; batch *= 2) {
                    if (!peer->takes(batch)) {
                        continue;
                    }
                    std::string name = "dense_" + std::to_string(neurons) + "/" + peer->name() + "/h" +
                                       std::to_string(width) + "/b" + std::to_string(batch);
                    Peer *way = peer.get();
                    benchmark::RegisterBenchmark(
                        name.c_str(), [=](benchmark::State &state) { dense(state, *way, width, neurons, batch); });
                }
            }
        }
    }
}

} // namespace bench
