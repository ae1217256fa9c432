// Every entry of the kernel table, on every usable instruction set, with weights in L1, L2, L3 and DRAM.
//
//     node_dot/f32/x86_avx512/h768/t4/L2    four tokens against each row of a working set half of L2
//     two_levels/i8/x86_avx512/h768/t16/L2  sixteen against each row and two others, all of int8
//
// bytes/s counts the weights read; FLOP/s two for each multiply-add. Every result is compared with the generic
// kernel's, bit for bit, before it is timed.
#include "bench/common.h"
#include "bench/rows.h"
#include "dispatch/dispatch.h"
#include "tools/random.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <numeric>

namespace bench {
namespace {

const size_t PATH = 12; // rows that accumulate sums: the path length of depth 11

// Writes a weight of about `value` into a row of that type, whose scale, if there is one, is `scale`; returns the
// integer where it is one.
int put_weight(unsigned char *row, fff_weight_type type, size_t column, float value, float scale) {
    uint16_t half = 0;
    int8_t integer = 0;
    switch (type) {
    case FFF_WEIGHT_BF16:
        half = fff_round_bf16(value);
        std::memcpy(row + 2 * fff_bf16_place(column), &half, sizeof half);
        break;
    case FFF_WEIGHT_F16:
        half = fff_round_f16(value);
        std::memcpy(row + 2 * column, &half, sizeof half);
        break;
    case FFF_WEIGHT_I8:
        integer = static_cast<int8_t>(std::clamp(std::rint(value / scale), -127.0f, 127.0f));
        std::memcpy(row + column, &integer, sizeof integer);
        break;
    case FFF_WEIGHT_F32: std::memcpy(row + 4 * column, &value, sizeof value); break;
    }
    return integer;
}

// Bytes of one of the two parts of a row: a whole number of what kernels may read at once.
size_t part_bytes(fff_weight_type type, size_t width) {
    const size_t step = FFF_PARTIAL_SUMS * sizeof(float);
    return (fff_row_bytes(type, width) + step - 1) / step * step;
}

size_t row_bytes(fff_weight_type type, size_t width) {
    return 2 * part_bytes(type, width);
}

// Packed weights of `rows` rows side by side, as kernels may be given them, and inputs.
struct Weights {
    fff_weight_type type;
    Buffer rows, biases, inputs;
    std::vector<float> scales;
    std::vector<int64_t> sums;
    fff_trees trees{};
    std::vector<uint32_t> order; // all rows, shuffled: so that no prefetcher knows the next

    Weights(fff_weight_type t, size_t width, size_t trees_count, size_t levels, size_t nodes, size_t tokens)
        : type(t), rows(trees_count * nodes * row_bytes(t, width) / sizeof(float)), biases(trees_count * nodes),
          inputs(tokens * width), scales(trees_count * nodes), sums(trees_count * nodes), order(trees_count * nodes) {
        uint64_t seed = 1;
        fill_rows(width, &seed);
        fill_normal(inputs, 1.0f, 2);
        // A layer's uppermost levels are near where the others are not; here, all are or none is.
        bool near = rows.size() * sizeof(float) <= cache_bytes(2) / 2;
        trees.input_rows = reinterpret_cast<const unsigned char *>(rows.data());
        trees.output_rows = trees.input_rows + part_bytes(type, width);
        trees.biases = biases.data();
        trees.input_scales = scales.data();
        trees.input_sums = sums.data();
        trees.row_stride = trees.output_row_stride = row_bytes(type, width);
        trees.input_bytes = trees.output_bytes = fff_row_bytes(type, width);
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

    // A token as these kernels' input rows meet it, and how far it is to the next.
    const unsigned char *token(const fff_kernels *kernels, size_t index) const {
        const unsigned char *first = reinterpret_cast<const unsigned char *>(inputs.data());
        if (type == FFF_WEIGHT_I8) {
            first = reinterpret_cast<const unsigned char *>(quantised(kernels).data());
        }
        return first + index * token_stride();
    }
    size_t token_stride() const {
        return type == FFF_WEIGHT_I8 ? fff_quantised_bytes(trees.input_width) : trees.input_width * sizeof(float);
    }

  private:
    mutable std::map<const fff_kernels *, Buffer> quantised_; // each instruction set has a form of its own

    // Weights beyond the first 4 million repeat: what matters is where they lie, not what they are.
    void fill_rows(size_t width, uint64_t *seed) {
        size_t bytes = row_bytes(type, width), count = scales.size();
        size_t own = std::min(count, std::max<size_t>(1, (size_t{4} << 20) / (2 * width)));
        float size = 1.0f / std::sqrt(static_cast<float>(width)), scale = size / 30;
        unsigned char *first = reinterpret_cast<unsigned char *>(rows.data());
        std::fill(scales.begin(), scales.end(), scale);
        for (size_t row = 0; row < own; row++) {
            for (size_t column = 0; column < width; column++) {
                sums[row] += put_weight(first + row * bytes, type, column, size * random_normal(seed), scale);
                put_weight(first + row * bytes + bytes / 2, type, column, size * random_normal(seed), scale);
            }
        }
        for (size_t row = own; row < count; row++) {
            std::memcpy(first + row * bytes, first + row % own * bytes, bytes);
            sums[row] = sums[row % own];
        }
    }

    const Buffer &quantised(const fff_kernels *kernels) const {
        auto [found, made] = quantised_.try_emplace(kernels);
        size_t width = trees.input_width, tokens = inputs.size() / width;
        if (made) {
            found->second = Buffer(tokens * token_stride() / sizeof(float));
        }
        for (size_t t = 0; made && t < tokens; t++) {
            kernels->quantise(width, inputs.data() + t * width,
                              reinterpret_cast<unsigned char *>(found->second.data()) + t * token_stride());
        }
        return found->second;
    }
};

// The weights of the last benchmark, kept while the next one wants the same.
const Weights &weights_for(fff_weight_type type, size_t width, size_t trees, size_t levels, size_t nodes,
                           size_t tokens) {
    static std::unique_ptr<Weights> kept;
    if (!kept || kept->type != type || kept->trees.input_width != width || kept->trees.tree_count != trees ||
        kept->trees.level_count != levels || kept->trees.node_count != nodes || kept->inputs.size() != tokens * width) {
        kept.reset(); // before the next is allocated
        kept = std::make_unique<Weights>(type, width, trees, levels, nodes, tokens);
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
void node_dot(benchmark::State &state, fff_isa isa, fff_weight_type type, size_t width, size_t tokens, size_t bytes,
              bool two) {
    size_t rows = std::max<size_t>(3, bytes / row_bytes(type, width));
    const Weights &w = weights_for(type, width, rows, 1, 1, 16);
    std::vector<uint32_t> which(tokens);
    std::iota(which.begin(), which.end(), 0u);
    std::vector<float> logits(2 * tokens), expected(2 * tokens);
    auto compute = [&](const fff_kernels *kernels, size_t row, std::vector<float> &to) {
        if (two) {
            kernels->rows[type]->two_levels(&w.trees, row, std::min(row + 1, rows - 2), tokens, which.data(),
                                            w.token(kernels, 0), w.token_stride(), false, to.data(), 2);
        } else {
            kernels->rows[type]->node_dot(&w.trees, row, tokens, which.data(), w.token(kernels, 0), w.token_stride(),
                                          to.data(), 2);
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
    set_rates(state, rows_read * static_cast<double>(w.trees.input_bytes),
              rows_read * static_cast<double>(width * tokens));
}

// Tokens in turn down one tree as deep as the working set allows; enough tokens to visit most of it.
void descend(benchmark::State &state, fff_isa isa, fff_weight_type type, size_t width, size_t bytes) {
    const fff_kernels *kernels = fff_kernels_of(isa);
    size_t rows = bytes / row_bytes(type, width), levels = 1;
    while ((size_t{2} << levels) - 1 <= rows && levels < FFF_MAX_DEPTH) {
        levels++;
    }
    size_t tokens = std::min<size_t>(std::max<size_t>(64, 2 * rows / levels), 65536);
    const Weights &w = weights_for(type, width, 1, levels, (size_t{1} << levels) - 1, tokens);
    std::vector<uint32_t> nodes(levels), expected_nodes(levels);
    std::vector<float> logits(levels), expected(levels);
    for (size_t t = 0; t < 64; t++) {
        kernels->rows[type]->descend(&w.trees, w.token(kernels, t), false, nodes.data(), logits.data());
        fff_kernels_generic.rows[type]->descend(&w.trees, w.token(&fff_kernels_generic, t), false,
                                                expected_nodes.data(), expected.data());
        if (nodes != expected_nodes || !same_bits(logits.data(), expected.data(), levels)) {
            wrong_output(state, "differs from the generic kernel");
            return;
        }
    }
    const unsigned char *first = w.token(kernels, 0);
    size_t next = 0;
    for (auto _ : state) {
        kernels->rows[type]->descend(&w.trees, first + next * w.token_stride(), false, nodes.data(), logits.data());
        benchmark::DoNotOptimize(logits.data());
        next = next + 1 < tokens ? next + 1 : 0;
    }
    state.counters["levels"] = static_cast<double>(levels);
    set_rates(state, static_cast<double>(levels * w.trees.input_bytes), static_cast<double>(levels * width));
}

// PATH rows of the working set, in random order, summed for one token.
void accumulate(benchmark::State &state, fff_isa isa, fff_weight_type type, size_t width, size_t bytes) {
    const fff_kernels *kernels = fff_kernels_of(isa);
    size_t rows = std::max<size_t>(1, bytes / row_bytes(type, width));
    const Weights &w =
        weights_for(type, width, 1, PATH, rows, 1); // any nodes may be summed: the tree need not be whole
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
    kernels->rows[type]->accumulate(&w.trees, 1, &token, nodes.data(), activations.data(), 0, output.data(), width);
    fff_kernels_generic.rows[type]->accumulate(&w.trees, 1, &token, nodes.data(), activations.data(), 0,
                                               expected.data(), width);
    if (!same_bits(output.data(), expected.data(), width)) {
        wrong_output(state, "differs from the generic kernel");
        return;
    }
    size_t next = 0;
    for (auto _ : state) {
        kernels->rows[type]->accumulate(&w.trees, 1, &token, nodes.data() + next, activations.data(), 0, output.data(),
                                        width);
        benchmark::DoNotOptimize(output.data());
        next = next + 2 * PATH <= nodes.size() ? next + PATH : 0;
    }
    set_rates(state, static_cast<double>(PATH * w.trees.output_bytes), static_cast<double>(PATH * width));
}

// Sixteen tokens against sixteen trees that are all root, then the next sixteen of the working set: both halves of a
// dense layer.
const size_t ROOTS = 16;

fff_trees some_roots(const fff_trees &all, size_t first) {
    fff_trees some = all;
    some.input_rows += first * all.row_stride;
    some.output_rows += first * all.output_row_stride;
    some.biases += first;
    some.input_scales += first;
    some.input_sums += first;
    some.tree_count = std::min(ROOTS, all.tree_count);
    return some;
}

void roots(benchmark::State &state, fff_isa isa, fff_weight_type type, size_t width, size_t bytes, bool add) {
    const fff_kernels *kernels = fff_kernels_of(isa);
    const Weights &w = weights_for(type, width, std::max<size_t>(1, bytes / row_bytes(type, width)), 1, 1, ROOTS);
    fff_trees trees = some_roots(w.trees, 0);
    uint32_t order[ROOTS];
    std::iota(order, order + ROOTS, 0);
    Buffer logits(ROOTS * trees.tree_count), outputs(ROOTS * width);
    auto run = [&](const fff_kernels &with) {
        if (add) {
            with.rows[type]->add_roots(&trees, ROOTS, order, logits.data(), trees.tree_count, 0, outputs.data(), width);
        } else {
            with.rows[type]->roots(&trees, ROOTS, order, w.token(&with, 0), w.token_stride(), false, logits.data(),
                                   trees.tree_count);
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
    set_rates(state, static_cast<double>(trees.tree_count * (add ? trees.output_bytes : trees.input_bytes)),
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

namespace {

// All that are given rows, of one type, from one working set.
void register_row_kernels(fff_weight_type type, fff_isa isa, size_t width, const WorkingSet &set) {
    std::string kind = std::string("/") + fff_weight_type_name(type) + "/" + fff_isa_name(isa);
    std::string where = kind + "/h" + std::to_string(width);
    size_t bytes = set.bytes;
    for (size_t tokens : {1, 4, 16}) {
        std::string name = "node_dot" + where + "/t" + std::to_string(tokens) + "/" + set.name;
        add(name, [=](benchmark::State &state) { node_dot(state, isa, type, width, tokens, bytes, false); });
    }
    add("two_levels" + where + "/t16/" + set.name,
        [=](benchmark::State &state) { node_dot(state, isa, type, width, 16, bytes, true); });
    add("descend" + where + "/" + set.name, [=](benchmark::State &state) { descend(state, isa, type, width, bytes); });
    add("accumulate" + where + "/" + set.name,
        [=](benchmark::State &state) { accumulate(state, isa, type, width, bytes); });
    add("roots" + where + "/" + set.name,
        [=](benchmark::State &state) { roots(state, isa, type, width, bytes, false); });
    add("add_roots" + where + "/" + set.name,
        [=](benchmark::State &state) { roots(state, isa, type, width, bytes, true); });
}

} // namespace

void register_kernels() {
    static const size_t widths[] = {256, 768, 1024, 4096};
    static const char *activation_names[FFF_ACTIVATION_COUNT] = {"gelu",  "gelu_tanh", "relu",
                                                                 "relu2", "silu",      "identity"};
    // Working sets outermost, so that neighbours in a run share their weights.
    for (const WorkingSet &set : working_sets()) {
        for (size_t width : widths) {
            for (int type = 0; type < FFF_WEIGHT_TYPE_COUNT; type++) {
                for (fff_isa isa : usable_isas()) {
                    register_row_kernels(static_cast<fff_weight_type>(type), isa, width, set);
                }
            }
        }
    }
    for (fff_isa isa : usable_isas()) {
        for (int a = 0; a < FFF_ACTIVATION_COUNT; a++) {
            for (size_t count : {12, 4096}) {
                fff_activation activation = static_cast<fff_activation>(a);
                std::string name = std::string("activate/f32/") + fff_isa_name(isa) + "/" + activation_names[a] + "/n" +
                                   std::to_string(count);
                add(name, [=](benchmark::State &state) { activate(state, isa, activation, count); });
            }
        }
    }
}

} // namespace bench
