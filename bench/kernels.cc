// Every entry of the kernel table, on every usable instruction set, with weights in L1, L2, L3 and DRAM.
//
//     node_dot_f32/x86_avx512/h768/t4/L2    four tokens against each row of a working set half of L2
//     two_levels_f32/x86_avx512/h768/t16/L2 sixteen against each row and two others
//
// bytes/s counts the weights read; FLOP/s two for each multiply-add. Every result is compared with the generic
// kernel's, bit for bit, before it is timed.
#include "bench/common.h"
#include "dispatch/dispatch.h"
#include "tools/random.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

namespace bench {
namespace {

const size_t PATH = 12; // rows that accumulate sums: the path length of depth 11

// Packed weights of `rows` rows side by side, as kernels may be given them, and inputs.
struct Weights {
    Buffer rows, biases, inputs;
    fff_trees trees{};
    std::vector<uint32_t> order; // all rows, shuffled: so that no prefetcher knows the next

    Weights(size_t width, size_t trees_count, size_t levels, size_t nodes, size_t tokens)
        : rows(trees_count * nodes * 2 * padded(width)), biases(trees_count * nodes), inputs(tokens * width),
          order(trees_count * nodes) {
        // Weights beyond the first 16 MB repeat: what matters is where they lie, not what they are.
        uint64_t seed = 1;
        size_t own = std::min(rows.size(), size_t{4} << 20);
        float scale = 1.0f / std::sqrt(static_cast<float>(width));
        for (size_t i = 0; i < own; i++) {
            rows.data()[i] = i % padded(width) < width ? scale * random_normal(&seed) : 0.0f;
        }
        for (size_t i = own / (2 * padded(width)) * (2 * padded(width)); i < rows.size(); i++) {
            rows.data()[i] = rows.data()[i % (own / (2 * padded(width)) * (2 * padded(width)))];
        }
        fill_normal(inputs, 1.0f, 2);
        // A layer's uppermost levels are near where the others are not; here, all are or none is.
        bool near = rows.size() * sizeof(float) <= cache_bytes(2) / 2;
        trees.input_rows = reinterpret_cast<const unsigned char *>(rows.data());
        trees.output_rows = reinterpret_cast<const unsigned char *>(rows.data() + padded(width));
        trees.biases = biases.data();
        trees.row_stride = 2 * padded(width) * sizeof(float);
        trees.input_bytes = trees.output_bytes = width * sizeof(float);
        trees.input_width = width;
        trees.output_width = width;
        trees.tree_count = trees_count;
        trees.level_count = levels;
        trees.node_count = nodes;
        trees.near_levels = near ? levels : 0;
        trees.threshold = FFF_THRESHOLD_GREATER;
        std::iota(order.begin(), order.end(), 0u);
        for (size_t i = order.size() - 1; i > 0; i--) {
            std::swap(order[i], order[random_below(&seed, i + 1)]);
        }
    }
    static size_t padded(size_t width) {
        return (width + FFF_PARTIAL_SUMS - 1) / FFF_PARTIAL_SUMS * FFF_PARTIAL_SUMS;
    }
    size_t row_bytes() const {
        return trees.row_stride;
    }
};

// The weights of the last benchmark, kept while the next one wants the same.
const Weights &weights_for(size_t width, size_t trees, size_t levels, size_t nodes, size_t tokens) {
    static std::unique_ptr<Weights> kept;
    if (!kept || kept->trees.input_width != width || kept->trees.tree_count != trees ||
        kept->trees.level_count != levels || kept->trees.node_count != nodes || kept->inputs.size() != tokens * width) {
        kept.reset(); // before the next is allocated
        kept = std::make_unique<Weights>(width, trees, levels, nodes, tokens);
    }
    return *kept;
}

void set_rates(benchmark::State &state, double bytes, double multiply_adds) {
    using benchmark::Counter;
    double iterations = static_cast<double>(state.iterations());
    state.counters["bytes/s"] = Counter(bytes * iterations, Counter::kIsRate, Counter::kIs1024);
    state.counters["FLOP/s"] = Counter(2 * multiply_adds * iterations, Counter::kIsRate);
}

bool same_bits(const float *a, const float *b, size_t count) {
    return std::memcmp(a, b, count * sizeof *a) == 0;
}

// Rows of the working set in random order, each against `tokens` tokens; with `two`, and the two rows behind it as its
// children's.
void node_dot(benchmark::State &state, fff_isa isa, size_t width, size_t tokens, size_t bytes, bool two) {
    size_t row_bytes = Weights::padded(width) * 2 * sizeof(float), rows = std::max<size_t>(3, bytes / row_bytes);
    const Weights &w = weights_for(width, rows, 1, 1, 16);
    std::vector<uint32_t> which(tokens);
    std::iota(which.begin(), which.end(), 0u);
    std::vector<float> logits(2 * tokens), expected(2 * tokens);
    auto compute = [&](const fff_kernels *kernels, size_t row, std::vector<float> &to) {
        if (two) {
            kernels->rows[FFF_WEIGHT_F32]->two_levels(&w.trees, row, std::min(row + 1, rows - 2), tokens, which.data(),
                                                      w.inputs.data(), width * sizeof(float), false, to.data(), 2);
        } else {
            kernels->rows[FFF_WEIGHT_F32]->node_dot(&w.trees, row, tokens, which.data(), w.inputs.data(),
                                                    width * sizeof(float), to.data(), 2);
        }
    };
    const fff_kernels *kernels = fff_kernels_of(isa);
    for (size_t i = 0; i < std::min<size_t>(rows, 100); i++) {
        compute(kernels, w.order[i], logits);
        compute(&fff_kernels_generic, w.order[i], expected);
        if (!same_bits(logits.data(), expected.data(), logits.size())) {
            wrong_output(state, "differs from the generic kernel");
            return;
        }
    }
    size_t next = 0;
    for (auto _ : state) {
        compute(kernels, w.order[next], logits);
        benchmark::DoNotOptimize(logits.data());
        next = next + 1 < rows ? next + 1 : 0;
    }
    double rows_read = two ? 3 : 1; // a third of its multiply-adds are for nothing
    set_rates(state, rows_read * static_cast<double>(width * sizeof(float)),
              rows_read * static_cast<double>(width * tokens));
}

// Tokens in turn down one tree as deep as the working set allows; enough tokens to visit most of it.
void descend(benchmark::State &state, fff_isa isa, size_t width, size_t bytes) {
    const fff_kernels *kernels = fff_kernels_of(isa);
    size_t rows = bytes / (Weights::padded(width) * 2 * sizeof(float)), levels = 1;
    while ((size_t{2} << levels) - 1 <= rows && levels < FFF_MAX_DEPTH) {
        levels++;
    }
    size_t tokens = std::min<size_t>(std::max<size_t>(64, 2 * rows / levels), 65536);
    const Weights &w = weights_for(width, 1, levels, (size_t{1} << levels) - 1, tokens);
    std::vector<uint32_t> nodes(levels), expected_nodes(levels);
    std::vector<float> logits(levels), expected(levels);
    for (size_t t = 0; t < 64; t++) {
        const float *input = w.inputs.data() + t * width;
        kernels->rows[FFF_WEIGHT_F32]->descend(&w.trees, input, false, nodes.data(), logits.data());
        fff_kernels_generic.rows[FFF_WEIGHT_F32]->descend(&w.trees, input, false, expected_nodes.data(),
                                                          expected.data());
        if (nodes != expected_nodes || !same_bits(logits.data(), expected.data(), levels)) {
            wrong_output(state, "differs from the generic kernel");
            return;
        }
    }
    size_t next = 0;
    for (auto _ : state) {
        kernels->rows[FFF_WEIGHT_F32]->descend(&w.trees, w.inputs.data() + next * width, false, nodes.data(),
                                               logits.data());
        benchmark::DoNotOptimize(logits.data());
        next = next + 1 < tokens ? next + 1 : 0;
    }
    state.counters["levels"] = static_cast<double>(levels);
    set_rates(state, static_cast<double>(levels * width * sizeof(float)), static_cast<double>(levels * width));
}

// PATH rows of the working set, in random order, summed for one token.
void accumulate(benchmark::State &state, fff_isa isa, size_t width, size_t bytes) {
    const fff_kernels *kernels = fff_kernels_of(isa);
    size_t rows = std::max<size_t>(1, bytes / (Weights::padded(width) * 2 * sizeof(float)));
    const Weights &w = weights_for(width, 1, PATH, rows, 1); // any nodes may be summed: the tree need not be whole
    std::vector<float> activations(PATH), output(width), expected(width);
    uint64_t seed = 3;
    for (float &a : activations) {
        a = random_normal(&seed);
    }
    std::vector<uint32_t> nodes(w.order);
    while (nodes.size() < PATH) {
        nodes.push_back(nodes[nodes.size() % rows]);
    }
    const uint32_t token = 0;
    kernels->rows[FFF_WEIGHT_F32]->accumulate(&w.trees, 1, &token, nodes.data(), activations.data(), 0, output.data(),
                                              width);
    fff_kernels_generic.rows[FFF_WEIGHT_F32]->accumulate(&w.trees, 1, &token, nodes.data(), activations.data(), 0,
                                                         expected.data(), width);
    if (!same_bits(output.data(), expected.data(), width)) {
        wrong_output(state, "differs from the generic kernel");
        return;
    }
    size_t next = 0;
    for (auto _ : state) {
        kernels->rows[FFF_WEIGHT_F32]->accumulate(&w.trees, 1, &token, nodes.data() + next, activations.data(), 0,
                                                  output.data(), width);
        benchmark::DoNotOptimize(output.data());
        next = next + 2 * PATH <= nodes.size() ? next + PATH : 0;
    }
    set_rates(state, static_cast<double>(PATH * width * sizeof(float)), static_cast<double>(PATH * width));
}

// Sixteen tokens against sixteen trees that are all root, then the next sixteen of the working set: both halves of a
// dense layer.
const size_t ROOTS = 16;

fff_trees some_roots(const fff_trees &all, size_t first) {
    fff_trees some = all;
    some.input_rows += first * all.row_stride;
    some.output_rows += first * all.row_stride;
    some.biases += first;
    some.tree_count = std::min(ROOTS, all.tree_count);
    return some;
}

void roots(benchmark::State &state, fff_isa isa, size_t width, size_t bytes, bool add) {
    const fff_kernels *kernels = fff_kernels_of(isa);
    const Weights &w =
        weights_for(width, std::max<size_t>(1, bytes / (Weights::padded(width) * 2 * sizeof(float))), 1, 1, ROOTS);
    fff_trees trees = some_roots(w.trees, 0);
    Buffer logits(ROOTS * trees.tree_count), outputs(ROOTS * width);
    auto run = [&](const fff_kernels &with) {
        if (add) {
            with.rows[FFF_WEIGHT_F32]->add_roots(&trees, ROOTS, logits.data(), trees.tree_count, 0, outputs.data(),
                                                 width);
        } else {
            with.rows[FFF_WEIGHT_F32]->roots(&trees, ROOTS, w.inputs.data(), width * sizeof(float), false,
                                             logits.data(), trees.tree_count);
        }
    };
    if (add) {
        fill_normal(logits, 1.0f, 5);
    }
    Buffer &written = add ? outputs : logits;
    run(*kernels);
    std::vector<float> found(written.data(), written.data() + written.size());
    run(fff_kernels_generic);
    if (!same_bits(found.data(), written.data(), found.size())) {
        wrong_output(state, "differs from the generic kernel");
        return;
    }
    size_t next = 0;
    for (auto _ : state) {
        run(*kernels);
        benchmark::DoNotOptimize(written.data());
        next = next + 2 * trees.tree_count <= w.trees.tree_count ? next + trees.tree_count : 0;
        trees = some_roots(w.trees, next);
    }
    set_rates(state, static_cast<double>(trees.tree_count * width * sizeof(float)),
              static_cast<double>(trees.tree_count * ROOTS * width));
}

void activate(benchmark::State &state, fff_isa isa, fff_activation activation, size_t count) {
    const fff_kernels *kernels = fff_kernels_of(isa);
    Buffer logits(count), activations(count), expected(count);
    fill_normal(logits, 1.0f, 4);
    kernels->activate(activation, count, logits.data(), activations.data());
    fff_kernels_generic.activate(activation, count, logits.data(), expected.data());
    if (!same_bits(activations.data(), expected.data(), count)) {
        wrong_output(state, "differs from the generic kernel");
        return;
    }
    for (auto _ : state) {
        kernels->activate(activation, count, logits.data(), activations.data());
        benchmark::DoNotOptimize(activations.data());
    }
    state.SetItemsProcessed(static_cast<int64_t>(state.iterations()) * static_cast<int64_t>(count));
}

} // namespace

void register_kernels() {
    static const size_t widths[] = {256, 768, 1024, 4096};
    static const char *activation_names[FFF_ACTIVATION_COUNT] = {"gelu",  "gelu_tanh", "relu",
                                                                 "relu2", "silu",      "identity"};
    // Working sets outermost, so that neighbours in a run share their weights.
    for (const WorkingSet &set : working_sets()) {
        for (size_t width : widths) {
            for (fff_isa isa : usable_isas()) {
                std::string where = std::string("/") + fff_isa_name(isa) + "/h" + std::to_string(width);
                size_t bytes = set.bytes;
                for (size_t tokens : {1, 4, 16}) {
                    std::string name = "node_dot_f32" + where + "/t" + std::to_string(tokens) + "/" + set.name;
                    add(name, [=](benchmark::State &state) { node_dot(state, isa, width, tokens, bytes, false); });
                }
                add("two_levels_f32" + where + "/t16/" + set.name,
                    [=](benchmark::State &state) { node_dot(state, isa, width, 16, bytes, true); });
                add("descend_f32" + where + "/" + set.name,
                    [=](benchmark::State &state) { descend(state, isa, width, bytes); });
                add("accumulate_f32" + where + "/" + set.name,
                    [=](benchmark::State &state) { accumulate(state, isa, width, bytes); });
                add("roots_f32" + where + "/" + set.name,
                    [=](benchmark::State &state) { roots(state, isa, width, bytes, false); });
                add("add_roots_f32" + where + "/" + set.name,
                    [=](benchmark::State &state) { roots(state, isa, width, bytes, true); });
            }
        }
    }
    for (fff_isa isa : usable_isas()) {
        for (int a = 0; a < FFF_ACTIVATION_COUNT; a++) {
            for (size_t count : {12, 4096}) {
                fff_activation activation = static_cast<fff_activation>(a);
                std::string name = std::string("activate_f32/") + fff_isa_name(isa) + "/" + activation_names[a] + "/n" +
                                   std::to_string(count);
                add(name, [=](benchmark::State &state) { activate(state, isa, activation, count); });
            }
        }
    }
}

} // namespace bench
