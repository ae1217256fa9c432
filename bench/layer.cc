// Whole layers, FFF and dense, by batch size.
//
//     layer/path_1x11/x86_avx512/h768/b64/warm/uniform
//     layer_stored/path_1x11/bf16/x86_avx512/h768/b64/warm/uniform
//     fff_by_blas/openblas/path_1x11/h768/b64/warm/uniform
//     dense_4095/openblas_sgemm/h768/b64/warm
//     dense_4095/openblas_sgemm_by256/h768/b4096/warm    as 16 calls
//     dense_bf16_4095/onednn_3.13/h768/b64/warm
//
// warm: one layer, again and again. cold: as many layers in turn as together exceed the last cache twice, as in a
// model; where tokens are few, the rows of upper levels stay in caches. hot: a layer's path and the same tokens, which
// all stay in L2. Routes: see Routes in setting.h. The counter s_per_token is the time a token takes, in seconds. What
// the timed loop computed is checked after it: FFF against the generic kernels, bit for bit, some tokens of dense
// layers against float64.
#include "bench/blas.h"
#include "bench/peers.h"
#include "bench/setting.h"

#include "tools/machine/threads.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <set>
#include <stdexcept>

namespace bench {
namespace {

// Tokens in turn, all of the setting's; layers in turn. What `run` computed is checked afterwards.
template <class Run>
void time_fff(benchmark::State &state, Setting &setting, size_t layers, size_t batch, float tolerance, Run run,
              const std::vector<float> *right = nullptr) {
    Turn turn{setting.tokens, layers, batch};
    size_t done = 0;
    auto run_next = [&] {
        size_t at = turn.first * setting.of.shape.width;
        run(turn.layer, setting.input.data() + at, setting.output.data() + at);
        benchmark::DoNotOptimize(setting.output.data());
        done = std::max(done, turn.first + batch);
        turn.next();
    };
    warm_up(run_next);
    turn.first = done = 0;
    setting.clear_outputs();
    for (auto _ : state) {
        run_next();
    }
    count_tokens(state, batch);
    if (!setting.outputs_are_right(done, tolerance, right)) {
        wrong_output(state, "differs from the generic kernels");
    }
}

void fff(benchmark::State &state, const Case &of, fff_isa isa, size_t batch) {
    Setting &setting = setting_for(of, batch);
    const std::vector<Layer> &layers = setting.layers_for(isa);
    size_t size = 0;
    fff_status status = fff_workspace_size(layers[0].get(), batch, 1, &size);
    Buffer workspace(size / sizeof(float) + 1);
    time_fff(state, setting, layers.size(), batch, 0, [&](size_t layer, const float *input, float *output) {
        status = fff_forward(layers[layer].get(), batch, input, of.shape.width, output, of.shape.width,
                             workspace.data(), size, nullptr);
    });
    if (status != FFF_OK) {
        wrong_output(state, fff_status_text(status));
    }
}

// A layer that stores narrow weights. Counters tell its error.
void fff_stored(benchmark::State &state, const Case &of, const Stored &stored, fff_isa isa, size_t batch) {
    Setting &setting = setting_for(of, batch);
    const fff_layer *layer = setting.stored_layer(stored, isa);
    const std::vector<float> &right = setting.expected_of(stored);
    const Error &error = setting.error_of(stored, isa);
    if (stored.routes == FFF_ROUTES_EXACT && error.other_routes != 0) {
        wrong_output(state, "takes other routes than the float32 layer");
        return;
    }
    size_t size = 0, width = of.shape.width;
    fff_status status = fff_workspace_size(layer, batch, 1, &size);
    Buffer workspace(size / sizeof(float) + 1);
    auto run = [&](size_t, const float *input, float *output) {
        status = fff_forward(layer, batch, input, width, output, width, workspace.data(), size, nullptr);
    };
    time_fff(state, setting, 1, batch, 0, run, &right);
    if (status != FFF_OK) {
        wrong_output(state, fff_status_text(status));
    }
    state.counters["rms"] = error.rms;
    state.counters["other_routes"] = error.other_routes;
}

// The same by threads: on all CPUs, where the other benchmarks stay on one. One thread is timed likewise.
void fff_by_threads(benchmark::State &state, const Case &of, fff_isa isa, size_t batch, size_t threads) {
    AllCpus all;
    static std::map<size_t, std::unique_ptr<void, void (*)(void *)>> pools;
    auto pool = pools.try_emplace(threads, nullptr, thread_pool_destroy).first;
    if (!pool->second) {
        pool->second.reset(thread_pool_create(threads));
    }
    if (!pool->second) {
        throw std::runtime_error("no threads");
    }
    fff_runner runner = thread_pool_runner(pool->second.get());
    Setting &setting = setting_for(of, batch);
    const fff_layer *layer = setting.layers_for(isa)[0].get();
    size_t size = 0;
    fff_status status = fff_workspace_size(layer, batch, threads, &size);
    Buffer workspace(size / sizeof(float) + 1);
    time_fff(state, setting, 1, batch, 0, [&](size_t, const float *input, float *output) {
        status =
            fff_forward(layer, batch, input, of.shape.width, output, of.shape.width, workspace.data(), size, &runner);
    });
    if (status != FFF_OK) {
        wrong_output(state, fff_status_text(status));
    }
}

// The layer as the published benchmark means it: calls of BLAS level 1, a token after the other, a dot product and a
// scaled addition a level, on separate matrices, with the activation of plain C.
void forward_by_blas(const Cblas &blas, const Setting &setting, size_t batch, const float *inputs, float *outputs) {
    const Shape &shape = setting.of.shape;
    int width = static_cast<int>(shape.width);
    size_t per_tree = fff_nodes_per_tree(shape.depth);
    for (size_t token = 0; token < batch; token++) {
        const float *input = inputs + token * shape.width;
        float *output = outputs + token * shape.width;
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

void fff_by_blas(benchmark::State &state, const Cblas &blas, const Case &of, size_t batch) {
    Setting &setting = setting_for(of, batch);
    time_fff(state, setting, 1, batch, 1e-4f,
             [&](size_t, const float *input, float *output) { forward_by_blas(blas, setting, batch, input, output); });
}

// One token's output in float64: the sums, and those of their terms' magnitudes.
struct Reference {
    std::vector<double> sums, magnitudes;
};

Reference dense_reference(const DenseLayers &layers, const float *input) {
    const DenseWeights &weights = layers.weights[0];
    std::vector<double> sums(layers.width), magnitudes(layers.width);
    for (size_t neuron = 0; neuron < layers.neurons; neuron++) {
        double z = static_cast<double>(weights.biases.data()[neuron]);
        for (size_t i = 0; i < layers.width; i++) {
            z += static_cast<double>(input[i]) * static_cast<double>(weights.in.data()[neuron * layers.width + i]);
        }
        double activation = 0.5 * z * std::erfc(-z * std::sqrt(0.5));
        for (size_t j = 0; j < layers.width; j++) {
            double term = activation * static_cast<double>(weights.out_node_major.data()[neuron * layers.width + j]);
            sums[j] += term;
            magnitudes[j] += std::fabs(term);
        }
    }
    return {std::move(sums), std::move(magnitudes)};
}

// How far float32 may be off: many times what rounding explains, and a small part of what a wrong weight, bias or
// activation would change. Narrow types may be off by so much of the output's size, both as root mean squares.
bool dense_is_right(const Reference &right, const float *output, double relative) {
    double difference = 0, size = 0;
    for (size_t j = 0; j < right.sums.size(); j++) {
        double off = std::fabs(static_cast<double>(output[j]) - right.sums[j]);
        if (relative == 0 && !(off <= 1e-5 * right.magnitudes[j] + 1e-6)) {
            return false;
        }
        difference += off * off;
        size += right.sums[j] * right.sums[j];
    }
    return relative == 0 || std::sqrt(difference) <= relative * std::sqrt(size);
}

// Dense layers of one size, all ways to compute them, and inputs.
class Dense {
  public:
    Dense(size_t width, size_t neurons, bool cold, size_t batch)
        : layers_(width, neurons, cold), peers_(find_peers()), prepared_(peers_.size()),
          tokens_(std::max(batch, TURN_TOKENS)), input_(tokens_ * width), output_(tokens_ * width) {
        fill_normal(input_, 1.0f, 3);
    }
    bool serves(size_t width, bool cold, size_t batch) const {
        return layers_.width == width && layers_.cold == cold && batch <= tokens_;
    }

    void run(benchmark::State &state, size_t way, size_t batch) {
        Peer &peer = *peers_[way];
        if (prepared_[way] != batch) {
            peer.prepare(layers_, batch);
            prepared_[way] = batch;
        }
        Turn turn{tokens_, layers_.in_turn(peer.bytes_of_weight()), batch};
        size_t done = 0, width = layers_.width;
        auto run_next = [&] {
            peer.forward(turn.layer, input_.data() + turn.first * width, output_.data() + turn.first * width);
            benchmark::DoNotOptimize(output_.data());
            done = std::max(done, turn.first + batch);
            turn.next();
        };
        if (batch <= 256) {
            warm_up(run_next);
        } else if (batch <= 4096) {
            run_next(); // larger ones take seconds
        }
        turn.first = done = 0;
        std::fill_n(output_.data(), output_.size(), std::nanf(""));
        for (auto _ : state) {
            run_next();
        }
        count_tokens(state, batch);
        for (size_t token : some_tokens(done)) {
            if (!dense_is_right(right_output(token), output_.data() + token * width, peer.tolerance())) {
                wrong_output(state, "differs from float64");
                break;
            }
        }
    }

  private:
    const Reference &right_output(size_t token) {
        auto [found, made] = right_.try_emplace(token);
        if (made) {
            found->second = dense_reference(layers_, input_.data() + token * layers_.width);
        }
        return found->second;
    }

    DenseLayers layers_;
    Peers peers_;
    std::vector<size_t> prepared_; // for that batch
    size_t tokens_;
    Buffer input_, output_;
    std::map<size_t, Reference> right_; // by token
};

// Up to three warm sizes of one width are kept, since their benchmarks may come in any order; only one cold.
Dense &dense_for(size_t width, size_t neurons, bool cold, size_t batch) {
    static std::map<size_t, Dense> kept; // by neurons
    auto any = kept.begin(), same = kept.find(neurons);
    if (any != kept.end() && !(same != kept.end() ? same : any)->second.serves(width, cold, batch)) {
        kept.clear();
    }
    if (kept.count(neurons) == 0 && kept.size() == (cold ? 1 : 3)) {
        kept.clear(); // before the next is allocated
    }
    return kept.try_emplace(neurons, width, neurons, cold, batch).first->second;
}

// The published shape, warm, in all that it can be stored as.
void register_stored(const Case &of, size_t batch) {
    if (of.temperature != Temperature::WARM || of.shape.trees != 1 || of.shape.depth != 11) {
        return;
    }
    for (const Stored &stored : stored_kinds()) {
        for (fff_isa isa : usable_isas()) {
            std::string name =
                "layer_stored/" + of.shape.name() + "/" + stored.name + "/" + fff_isa_name(isa) + of.name(batch);
            add(name, [=](benchmark::State &state) { fff_stored(state, of, stored, isa, batch); });
        }
    }
}

} // namespace

void register_layers() {
    std::unique_ptr<void, void (*)(void *)> pool(thread_pool_create(1), thread_pool_destroy);
    bool have_threads = pool != nullptr;
    for (const Case &of : cases()) {
        for (size_t batch = 1; batch <= MOST_TOKENS; batch *= 2) {
            if (!of.takes(batch)) {
                break;
            }
            for (fff_isa isa : usable_isas()) {
                std::string name = "layer/" + of.shape.name() + "/" + fff_isa_name(isa) + of.name(batch);
                add(name, [=](benchmark::State &state) { fff(state, of, isa, batch); });
            }
            register_stored(of, batch);
            for (fff_isa isa : usable_isas()) {
                if (of.temperature != Temperature::WARM || of.shape.width != 768 || !have_threads) {
                    break;
                }
                for (size_t threads = 1; threads <= AllCpus::count(); threads *= 2) {
                    std::string name = "layer_threads/" + of.shape.name() + "/" + fff_isa_name(isa) + of.name(batch) +
                                       "/t" + std::to_string(threads);
                    add(name, [=](benchmark::State &state) { fff_by_threads(state, of, isa, batch, threads); });
                }
            }
            for (const Cblas *blas : found_blas()) {
                if (of.temperature != Temperature::WARM) {
                    break; // its weights are one layer's
                }
                std::string name = "fff_by_blas/" + blas->name + "/" + of.shape.name() + of.name(batch);
                add(name, [=](benchmark::State &state) { fff_by_blas(state, *blas, of, batch); });
            }
        }
    }
    // As many neurons as the shapes have at their width, and fewer: the paper's usual layer, and one that costs what a
    // path costs.
    std::set<std::pair<size_t, size_t>> sizes;
    for (const Shape &shape : shapes()) {
        for (size_t neurons : {shape.rows(), size_t{3072}, size_t{12}}) {
            sizes.insert({shape.width, neurons});
        }
    }
    Peers ways = find_peers();
    for (const auto &[width, neurons] : sizes) {
        for (bool cold : {false, true}) {
            for (size_t batch = 1; batch <= MOST_TOKENS; batch *= 2) {
                for (size_t way = 0; way < ways.size(); way++) {
                    if (!ways[way]->takes(batch)) {
                        continue;
                    }
                    std::string name = "dense_" + ways[way]->kind() + std::to_string(neurons) + "/" +
                                       ways[way]->name() + "/h" + std::to_string(width) + "/b" + std::to_string(batch) +
                                       (cold ? "/cold" : "/warm");
                    size_t w = width, n = neurons;
                    add(name, [=](benchmark::State &state) { dense_for(w, n, cold, batch).run(state, way, batch); });
                }
            }
        }
    }
}

} // namespace bench
