// Whole layers, FFF and dense, by batch size.
//
//     layer/path_1x11/x86_avx512/h768/b64/warm/uniform
//     fff_by_blas/openblas/path_1x11/h768/b64/warm/uniform
//     dense_4095/openblas_sgemm/h768/b64
//
// warm: one layer, again and again. cold: as many layers in turn as together exceed the last cache, as in a model.
// uniform: tokens spread over all leaves. one_path: different tokens, all on one path. The counter s_per_token is
// the time a token takes, in seconds. FFF outputs are compared with the generic kernels', bit for bit, dense outputs
// with float64, before they are timed.
#include "bench/peers.h"
#include "bench/setting.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstring>

namespace bench {
namespace {

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

// The layer as the published benchmark means it: calls of BLAS level 1, a token after the other, a dot product and a
// scaled addition a level, on separate matrices, with the activation of plain C.
void forward_by_blas(const Cblas &blas, Setting &setting, size_t first, size_t batch) {
    const Shape &shape = setting.shape;
    int width = static_cast<int>(shape.width);
    size_t per_tree = fff_nodes_per_tree(shape.depth);
    for (size_t token = first; token < first + batch; token++) {
        const float *input = setting.input.data() + token * shape.width;
        float *output = setting.output.data() + token * shape.width;
        std::memset(output, 0, shape.width * sizeof(float));
        for (size_t tree = 0; tree < shape.trees; tree++) {
            size_t node = 0;
            for (size_t level = 0; level <= shape.depth; level++) {
                size_t row = tree * per_tree + node;
                float logit =
                    blas.sdot(width, input, 1, setting.in.data() + row * shape.width, 1) + setting.biases.data()[row];
                float activation = 0.5f * logit * (1.0f + std::erf(logit * 0.70710678f));
                blas.saxpy(width, activation, setting.out.data() + row * shape.width, 1, output, 1);
                node = 2 * node + 1 + (logit > 0);
            }
        }
    }
}

void fff_by_blas(benchmark::State &state, const Cblas &blas, const Shape &shape, size_t batch, bool one_path) {
    Setting &setting = setting_for(shape, false, one_path);
    forward_by_blas(blas, setting, 0, CHECKED_TOKENS);
    for (size_t i = 0; i < setting.expected.size(); i++) { // another order of summation
        if (!(std::fabs(setting.output.data()[i] - setting.expected[i]) <=
              1e-4f * (1 + std::fabs(setting.expected[i])))) {
            state.SkipWithError("differs from the generic kernels");
            return;
        }
    }
    size_t first = 0;
    for (auto _ : state) {
        forward_by_blas(blas, setting, first, batch);
        benchmark::DoNotOptimize(setting.output.data());
        first = first + 2 * batch <= MOST_TOKENS ? first + batch : 0;
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
    for (const Shape &shape : shapes()) {
        for (bool cold : {false, true}) {
            for (bool one_path : {false, true}) {
                for (fff_isa isa : usable_isas()) {
                    for (size_t batch = 1; batch <= MOST_TOKENS; batch *= 2) {
                        std::string name = "layer/" + shape.name() + "/" + fff_isa_name(isa) + "/h" +
                                           std::to_string(shape.width) + "/b" + std::to_string(batch) +
                                           temperature_and_routes(cold, one_path);
                        benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State &state) {
                            fff(state, shape, isa, batch, cold, one_path);
                        });
                    }
                }
            }
        }
    }
    for (const Shape &shape : shapes()) {
        for (bool one_path : {false, true}) {
            for (const Cblas *blas : find_blas()) {
                for (size_t batch = 1; batch <= MOST_TOKENS; batch *= 2) {
                    std::string name = "fff_by_blas/" + blas->name + "/" + shape.name() + "/h" +
                                       std::to_string(shape.width) + "/b" + std::to_string(batch) +
                                       temperature_and_routes(false, one_path);
                    benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State &state) {
                        fff_by_blas(state, *blas, shape, batch, one_path);
                    });
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
