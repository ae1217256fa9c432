// Leaf layers and layers of several parts, each beside something of as much work.
//
//     forest/leaf_1x8_w8/layer/x86_avx512/h768/b64       a leaf layer: 1 tree of depth 8, leaves of 8 neurons
//     forest/leaf_1x8_w8/path_2x7/x86_avx512/h768/b64    a path sum whose tokens visit as many rows of input weights
//     forest/32x0+4x8/layer/x86_avx512/h768/b64          one layer of 32 neurons and 4 trees
//     forest/32x0+4x8/apart/x86_avx512/h768/b64          two layers, and the sum of their outputs
//
// One layer, or the two, again and again; inputs spread over all leaves. What the timed loop computed is checked after
// it against the generic kernels, bit for bit.
#include "bench/setting.h"

#include <cmath>
#include <cstring>

namespace bench {
namespace {

const size_t WIDTH = 768;

struct PartShape {
    size_t trees, depth, leaf_width;
    size_t nodes() const {
        return trees * (leaf_width > 0 ? fff_nodes_per_tree(depth) / 2 : fff_nodes_per_tree(depth));
    }
    size_t neurons() const {
        return (trees << depth) * leaf_width;
    }
};

// What is timed, and what beside it.
struct Contest {
    std::string name, other;
    std::vector<PartShape> parts;       // of the layer
    std::vector<PartShape> other_parts; // a layer each, whose outputs are summed; none: the same parts, apart
};

// Depths and leaf widths of the tables of arXiv 2308.14711: from 1 to 8, and from 1 to 32.
const std::vector<Contest> &contests() {
    static const std::vector<Contest> all = {
        {"leaf_1x1_w8", "path_3x2", {{1, 1, 8}}, {{3, 2, 0}}},
        {"leaf_1x1_w32", "path_11x2", {{1, 1, 32}}, {{11, 2, 0}}},
        {"leaf_1x2_w1", "path_1x2", {{1, 2, 1}}, {{1, 2, 0}}},
        {"leaf_1x2_w16", "path_3x5", {{1, 2, 16}}, {{3, 5, 0}}},
        {"leaf_1x3_w4", "path_1x6", {{1, 3, 4}}, {{1, 6, 0}}},
        {"leaf_1x3_w32", "path_7x4", {{1, 3, 32}}, {{7, 4, 0}}},
        {"leaf_1x4_w2", "path_1x5", {{1, 4, 2}}, {{1, 5, 0}}},
        {"leaf_1x4_w8", "path_2x5", {{1, 4, 8}}, {{2, 5, 0}}},
        {"leaf_1x5_w16", "path_3x6", {{1, 5, 16}}, {{3, 6, 0}}},
        {"leaf_1x6_w2", "path_1x7", {{1, 6, 2}}, {{1, 7, 0}}},
        {"leaf_1x6_w8", "path_2x6", {{1, 6, 8}}, {{2, 6, 0}}},
        {"leaf_1x7_w4", "path_1x10", {{1, 7, 4}}, {{1, 10, 0}}},
        {"leaf_1x8_w1", "path_1x8", {{1, 8, 1}}, {{1, 8, 0}}},
        {"leaf_1x8_w2", "path_1x9", {{1, 8, 2}}, {{1, 9, 0}}},
        {"leaf_1x8_w8", "path_2x7", {{1, 8, 8}}, {{2, 7, 0}}},
        {"leaf_1x8_w16", "path_3x7", {{1, 8, 16}}, {{3, 7, 0}}},
        {"leaf_1x8_w32", "path_4x9", {{1, 8, 32}}, {{4, 9, 0}}},
        {"32x0+4x8", "apart", {{32, 0, 0}, {4, 8, 0}}, {}},
    };
    return all;
}

// One part's weights.
struct PartWeights {
    PartShape shape;
    Buffer in, biases, leaf_in, leaf_biases, out;
    PartWeights(const PartShape &s, uint64_t seed)
        : shape(s), in(s.nodes() * WIDTH), biases(s.nodes()), leaf_in(s.neurons() * WIDTH), leaf_biases(s.neurons()),
          out((s.leaf_width > 0 ? s.neurons() : s.nodes()) * WIDTH) {
        float scale = 1.0f / std::sqrt(static_cast<float>(WIDTH));
        for (Buffer *weights : {&in, &leaf_in, &out}) {
            fill_normal(*weights, scale, seed++);
        }
    }
    fff_layer_desc describe(fff_isa isa) const {
        fff_layer_desc desc{};
        desc.struct_size = sizeof desc;
        desc.input_width = desc.output_width = WIDTH;
        desc.depth = shape.depth;
        desc.trees = shape.trees;
        desc.isa = isa;
        desc.input_weights = {in.data(), WIDTH, 1};
        desc.biases = biases.data();
        desc.output_weights = {out.data(), WIDTH, 1};
        desc.leaf_width = shape.leaf_width;
        if (shape.leaf_width > 0) {
            desc.routing = FFF_ROUTING_GREATER_EQUAL;
            desc.leaf_weights = {leaf_in.data(), WIDTH, 1};
            desc.leaf_biases = leaf_biases.data();
        }
        return desc;
    }
};

Layer make_layer(std::vector<fff_layer_desc> descs) {
    for (size_t i = 0; i + 1 < descs.size(); i++) {
        descs[i].next = &descs[i + 1];
    }
    fff_layer *layer = nullptr;
    expect_ok(fff_layer_create(descs.data(), &layer));
    return Layer(layer);
}

// Layers whose outputs are summed, and what a batch of them needs.
class Sum {
  public:
    Sum(const std::vector<Layer> &layers, size_t batch) : layers_(layers), addend_(batch * WIDTH) {
        for (const Layer &layer : layers_) {
            size_t size = 0;
            expect_ok(fff_workspace_size(layer.get(), batch, 1, &size));
            size_ = std::max(size_, size);
        }
        workspace_ = Buffer(size_ / sizeof(float) + 1);
    }
    fff_status forward(size_t batch, const float *input, float *output) {
        fff_status status = forward_one(0, batch, input, output);
        for (size_t i = 1; i < layers_.size() && status == FFF_OK; i++) {
            status = forward_one(i, batch, input, addend_.data());
            for (size_t j = 0; j < batch * WIDTH; j++) {
                output[j] += addend_.data()[j];
            }
        }
        return status;
    }

  private:
    fff_status forward_one(size_t i, size_t batch, const float *input, float *output) {
        return fff_forward(layers_[i].get(), batch, input, WIDTH, output, WIDTH, workspace_.data(), size_, nullptr);
    }
    const std::vector<Layer> &layers_;
    Buffer addend_, workspace_;
    size_t size_ = 0;
};

// A contest's weights and inputs. The last one is kept while the next benchmark wants the same.
class ForestSetting {
  public:
    explicit ForestSetting(const Contest &c) : of(c), input(TURN_TOKENS * WIDTH), output(TURN_TOKENS * WIDTH) {
        fill_normal(input, 1.0f, 3);
        for (const PartShape &shape : c.parts) {
            weights_.emplace_back(shape, 10 * weights_.size() + 10);
        }
        for (const PartShape &shape : c.other_parts) {
            others_.emplace_back(shape, 10 * others_.size() + 60);
        }
    }
    const Contest of;
    Buffer input, output;

    // One layer, or the others. Kept.
    const std::vector<Layer> &layers(bool other, fff_isa isa) {
        std::vector<Layer> &made = layers_[{other, isa}];
        if (made.empty()) {
            std::vector<fff_layer_desc> descs;
            for (const PartWeights &part : other && !others_.empty() ? others_ : weights_) {
                descs.push_back(part.describe(isa));
            }
            if (!other) {
                made.push_back(make_layer(descs));
            }
            for (size_t i = 0; other && i < descs.size(); i++) {
                made.push_back(make_layer({descs[i]}));
            }
        }
        return made;
    }
    // By the generic kernels, of all tokens, one at a time. Kept. Where the same parts are apart, the two agree but for
    // rounding.
    const std::vector<float> &expected(bool other) {
        std::vector<float> &kept = expected_[other];
        if (!kept.empty()) {
            return kept;
        }
        Sum sum(layers(other, FFF_ISA_GENERIC), 1);
        kept.resize(TURN_TOKENS * WIDTH);
        for (size_t token = 0; token < TURN_TOKENS; token++) {
            expect_ok(sum.forward(1, input.data() + token * WIDTH, kept.data() + token * WIDTH));
        }
        return kept;
    }
    bool both_agree() {
        const std::vector<float> &ours = expected(false), &theirs = expected(true);
        for (size_t i = 0; i < ours.size() && others_.empty(); i++) {
            if (!(std::fabs(ours[i] - theirs[i]) <= 1e-6f)) { // of numbers of size 1/10: some roundings
                return false;
            }
        }
        return true;
    }
    bool outputs_are_right(bool other, size_t count) {
        return std::memcmp(output.data(), expected(other).data(), count * WIDTH * sizeof(float)) == 0;
    }

  private:
    std::vector<PartWeights> weights_, others_;
    std::vector<float> expected_[2];
    std::map<std::pair<bool, fff_isa>, std::vector<Layer>> layers_;
};

ForestSetting &setting_for(const Contest &of) {
    static std::unique_ptr<ForestSetting> kept;
    if (!kept || kept->of.name != of.name) {
        kept.reset(); // before the next is allocated
        kept = std::make_unique<ForestSetting>(of);
    }
    return *kept;
}

void forest(benchmark::State &state, const Contest &of, bool other, fff_isa isa, size_t batch) {
    ForestSetting &setting = setting_for(of);
    Sum sum(setting.layers(other, isa), batch);
    Turn turn{TURN_TOKENS, 1, batch};
    fff_status status = FFF_OK;
    size_t done = 0;
    auto run_next = [&] {
        size_t at = turn.first * WIDTH;
        status = sum.forward(batch, setting.input.data() + at, setting.output.data() + at);
        benchmark::DoNotOptimize(setting.output.data());
        done = std::max(done, turn.first + batch);
        turn.next();
    };
    warm_up(run_next);
    turn.first = done = 0;
    std::fill_n(setting.output.data(), setting.output.size(), std::nanf(""));
    for (auto _ : state) {
        run_next();
    }
    count_tokens(state, batch);
    if (status != FFF_OK) {
        wrong_output(state, fff_status_text(status));
    } else if (!setting.outputs_are_right(other, done)) {
        wrong_output(state, "differs from the generic kernels");
    } else if (!setting.both_agree()) {
        wrong_output(state, "the sum of the groups differs from the layer of both");
    }
}

} // namespace

void register_forests() {
    for (const Contest &of : contests()) {
        for (fff_isa isa : usable_isas()) {
            for (size_t batch : {1, 8, 64, 512, 4096}) {
                for (bool other : {false, true}) {
                    std::string name = "forest/" + of.name + "/" + (other ? of.other : "layer") + "/" +
                                       fff_isa_name(isa) + "/h" + std::to_string(WIDTH) + "/b" + std::to_string(batch);
                    add(name, [=](benchmark::State &state) { forest(state, of, other, isa, batch); });
                }
            }
        }
    }
}

} // namespace bench
