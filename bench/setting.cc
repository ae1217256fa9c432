#include "bench/setting.h"

#include "bench/rows.h"
#include "bert/safetensors.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <stdexcept>

namespace bench {

// ---- Cases ------------------------------------------------------------------------------------------------------

// What FFF_BENCH_ROUTES names.
static struct {
    Shape shape{0, 0, 768};
    size_t tokens = 0;
    std::vector<uint32_t> nodes; // tokens x trees x levels
} recorded;

static bool has_recorded_routes(const Shape &shape) {
    return recorded.tokens > 0 && shape.trees == recorded.shape.trees && shape.depth == recorded.shape.depth;
}

static const uint32_t *recorded_route(const Shape &shape, size_t token) {
    return recorded.nodes.data() + token % recorded.tokens * shape.path();
}

std::string Shape::name() const {
    return "path_" + std::to_string(trees) + "x" + std::to_string(depth);
}

const std::vector<Shape> &shapes() {
    static const std::vector<Shape> all = [] {
        std::vector<Shape> list = {{1, 11, 768},  {3072, 0, 768}, {512, 2, 768}, {128, 4, 768}, {32, 6, 768},
                                   {8, 8, 768},   {1, 15, 768},   {1, 1, 768},   {1, 3, 768},   {1, 5, 768},
                                   {1, 7, 768},   {1, 9, 768},    {1, 13, 768},  {1, 11, 256},  {1, 11, 512},
                                   {1, 11, 1024}, {1, 11, 2048},  {1, 11, 4096}};
        if (recorded.tokens > 0 && std::none_of(list.begin(), list.end(), has_recorded_routes)) {
            list.push_back(recorded.shape);
        }
        return list;
    }();
    return all;
}

bool Case::takes(size_t batch) const {
    size_t rows = 2 * batch + 2 * shape.path(); // inputs and outputs; both matrices' rows of one path
    return temperature != Temperature::HOT || rows * shape.width * sizeof(float) <= cache_bytes(2) / 2;
}

std::string Case::name(size_t batch) const {
    static const char *const temperatures[] = {"/hot/", "/warm/", "/cold/"};
    static const char *const names[] = {"uniform", "one_path", "recorded"};
    return "/h" + std::to_string(shape.width) + "/b" + std::to_string(batch) +
           temperatures[static_cast<int>(temperature)] + names[static_cast<int>(routes)];
}

std::vector<Case> cases() {
    std::vector<Case> all;
    for (const Shape &shape : shapes()) {
        all.push_back({shape, Temperature::HOT, Routes::ONE_PATH});
        for (Temperature temperature : {Temperature::WARM, Temperature::COLD}) {
            for (Routes routes : {Routes::UNIFORM, Routes::ONE_PATH, Routes::RECORDED}) {
                if (temperature == Temperature::COLD && routes == Routes::ONE_PATH) {
                    continue; // one path of each layer: all of them fit into a cache
                }
                if (routes != Routes::RECORDED || has_recorded_routes(shape)) {
                    all.push_back({shape, temperature, routes});
                }
            }
        }
    }
    return all;
}

void read_recorded_routes() {
    const char *path = std::getenv("FFF_BENCH_ROUTES");
    if (path == nullptr) {
        return;
    }
    char error[500];
    std::unique_ptr<fff_safetensors, void (*)(fff_safetensors *)> file(fff_safetensors_open(path, error, sizeof error),
                                                                       fff_safetensors_close);
    if (!file) {
        throw std::runtime_error(error);
    }
    auto wrong = [&](const std::string &what) { return std::runtime_error(std::string(path) + ": " + what); };
    const fff_tensor *tensor = fff_safetensors_find(file.get(), "path");
    if (tensor == nullptr || tensor->type != FFF_TENSOR_I32 || tensor->rank != 3 || tensor->count == 0) {
        throw wrong("has no tensor 'path' of type I32 and shape tokens x trees x levels");
    }
    size_t trees = tensor->shape[1], levels = tensor->shape[2];
    size_t largest = 20; // deep enough for any model; 2^20 nodes of 768 floats fill 6 GB
    if (levels > largest || trees > (size_t{1} << largest) / fff_nodes_per_tree(levels - 1)) {
        throw wrong("'path' is of too many nodes to time: at most 2^20 in all trees");
    }
    recorded.shape = {trees, levels - 1, 768};
    recorded.tokens = tensor->shape[0];
    recorded.nodes.resize(tensor->count);
    std::memcpy(recorded.nodes.data(), tensor->data, tensor->bytes);
    for (size_t i = 0; i < tensor->count; i++) {
        uint32_t node = recorded.nodes[i];
        bool root = i % levels == 0;
        if (root ? node != 0 : (node != 2 * recorded.nodes[i - 1] + 1 && node != 2 * recorded.nodes[i - 1] + 2)) {
            throw wrong("'path' of token " + std::to_string(i / (trees * levels)) + ", tree " +
                        std::to_string(i / levels % trees) + ", level " + std::to_string(i % levels) + " is node " +
                        std::to_string(static_cast<int32_t>(node)) + ", which is not " +
                        (root ? "the root, 0" : "a child of the node before"));
        }
    }
}

// ---- Settings ---------------------------------------------------------------------------------------------------

// All tokens are compared with the generic kernels if these read no more of input rows than so many numbers: a second
// or two.
static const size_t MOST_TO_CHECK = size_t{1} << 28;

static const Stored FLOAT32 = {"f32", FFF_CHOOSE_F32, FFF_CHOOSE_F32, FFF_ROUTES_STORED};

const std::vector<Stored> &stored_kinds() {
    static const std::vector<Stored> all = {{"bf16", FFF_CHOOSE_BF16, FFF_CHOOSE_BF16, FFF_ROUTES_STORED},
                                            {"bf16+i8-exact", FFF_CHOOSE_BF16, FFF_CHOOSE_I8, FFF_ROUTES_EXACT},
                                            {"i8", FFF_CHOOSE_I8, FFF_CHOOSE_I8, FFF_ROUTES_STORED},
                                            {"f16", FFF_CHOOSE_F16, FFF_CHOOSE_F16, FFF_ROUTES_STORED}};
    return all;
}

static Layer make_layer(const Shape &shape, fff_isa isa, const Buffer &in, const Buffer &biases, const Buffer &out,
                        const Stored &stored = FLOAT32) {
    fff_layer_desc desc{};
    desc.struct_size = sizeof desc;
    desc.input_width = desc.output_width = shape.width;
    desc.depth = shape.depth;
    desc.trees = shape.trees;
    desc.isa = isa;
    desc.input_weights = {in.data(), shape.width, 1};
    desc.biases = biases.data();
    desc.output_weights = {out.data(), shape.width, 1};
    desc.store_input = stored.input;
    desc.store_output = stored.output;
    desc.routes = stored.routes;
    fff_layer *layer = nullptr;
    expect_ok(fff_layer_create(&desc, &layer));
    return Layer(layer);
}

Setting::Setting(const Case &c, size_t token_count)
    : of(c), tokens(token_count), in(c.shape.rows() * c.shape.width), biases(c.shape.rows()),
      out(c.shape.rows() * c.shape.width), input(token_count * c.shape.width), output(token_count * c.shape.width) {
    const Shape &shape = of.shape;
    float scale = 1.0f / std::sqrt(static_cast<float>(shape.width));
    fill_normal(in, scale, 1);
    fill_normal(out, scale, 2);
    fill_normal(input, 1.0f, 3);
    if (of.routes == Routes::ONE_PATH) {
        std::fill_n(biases.data(), biases.size(), 100.0f); // far above any sum: all go right
    }
    if (of.routes == Routes::RECORDED) {
        follow_recorded_routes();
    }
    if (tokens * shape.path() * shape.width <= MOST_TO_CHECK) {
        looked_at.resize(tokens);
        std::iota(looked_at.begin(), looked_at.end(), size_t{0});
    } else {
        looked_at = some_tokens(tokens);
    }
    Layer generic = make_layer(shape, FFF_ISA_GENERIC, in, biases, out);
    expected = outputs_of(generic.get());
    for (size_t i = 0; i < looked_at.size() && of.routes == Routes::RECORDED; i++) {
        std::vector<uint32_t> nodes = route(generic.get(), looked_at[i], 1);
        if (!std::equal(nodes.begin(), nodes.end(), recorded_route(shape, looked_at[i]))) {
            throw std::runtime_error("an input does not take the recorded route");
        }
    }
}

std::vector<float> Setting::outputs_of(const fff_layer *layer) const {
    size_t size = 0, width = of.shape.width;
    fff_status status = fff_workspace_size(layer, 1, 1, &size);
    std::vector<unsigned char> workspace(size);
    std::vector<float> outputs(looked_at.size() * width);
    for (size_t i = 0; i < looked_at.size() && status == FFF_OK; i++) {
        status = fff_forward(layer, 1, input.data() + looked_at[i] * width, width, outputs.data() + i * width, width,
                             workspace.data(), size, nullptr);
    }
    expect_ok(status);
    return outputs;
}

// Changes x until each node on the way sends it to the next: mirrored at the hyperplane of a node that does not.
// Rows of more nodes than x is wide cannot all be satisfied.
bool Setting::follow(const uint32_t *nodes, float *x) const {
    const Shape &shape = of.shape;
    size_t per_tree = fff_nodes_per_tree(shape.depth), levels = shape.depth + 1;
    for (int sweep = 0; sweep < 1000; sweep++) {
        bool all_right = true;
        for (size_t i = 0; i < shape.path(); i++) {
            if (i % levels == shape.depth) {
                continue; // nothing is routed by a leaf
            }
            const float *row = in.data() + (i / levels * per_tree + nodes[i]) * shape.width;
            float dot = 0, square = 0;
            for (size_t j = 0; j < shape.width; j++) {
                dot += x[j] * row[j];
                square += row[j] * row[j];
            }
            bool right = nodes[i + 1] == 2 * nodes[i] + 2;
            if (right ? dot < 0.01f : dot > -0.01f) { // far enough from zero for any order of summation
                float step = (right ? std::fabs(dot) + 0.02f : -std::fabs(dot) - 0.02f) - dot;
                for (size_t j = 0; j < shape.width; j++) {
                    x[j] += step / square * row[j];
                }
                all_right = false;
            }
        }
        if (all_right) {
            return true;
        }
    }
    return false;
}

std::vector<uint32_t> Setting::route(const fff_layer *layer, size_t first, size_t count) const {
    size_t path = of.shape.path(), size = 0;
    std::vector<uint32_t> nodes(count * path);
    std::vector<float> logits(count * path);
    fff_status status = fff_workspace_size(layer, count, 1, &size);
    std::vector<unsigned char> workspace(size);
    if (status == FFF_OK) {
        status = fff_route(layer, count, input.data() + first * of.shape.width, of.shape.width, nodes.data(), path,
                           logits.data(), path, workspace.data(), size, nullptr);
    }
    expect_ok(status);
    return nodes;
}

void Setting::follow_recorded_routes() {
    for (size_t token = 0; token < tokens; token++) {
        const uint32_t *nodes = recorded_route(of.shape, token);
        if (!follow(nodes, input.data() + token * of.shape.width)) {
            throw std::runtime_error("no inputs found that take the recorded routes");
        }
    }
}

const std::vector<Layer> &Setting::layers_for(fff_isa isa) {
    std::vector<Layer> &made = layers_[isa];
    bool cold = of.temperature == Temperature::COLD;
    while (made.empty() || (cold && !come_from_memory(made.size() * fff_layer_memory(made[0].get())))) {
        made.push_back(make_layer(of.shape, isa, in, biases, out));
    }
    return made;
}

// ---- Stored otherwise -------------------------------------------------------------------------------------------

const fff_layer *Setting::stored_layer(const Stored &stored, fff_isa isa) {
    auto [found, made] = stored_layers_.try_emplace({stored.name, isa});
    if (made) {
        found->second = make_layer(of.shape, isa, in, biases, out, stored);
    }
    return found->second.get();
}

static Buffer rounded(const Buffer &weights, fff_weight_choice type) {
    Buffer result(weights.size());
    for (size_t i = 0; i < weights.size(); i++) {
        result.data()[i] = type == FFF_CHOOSE_BF16 ? fff_widen_bf16(fff_round_bf16(weights.data()[i]))
                                                   : fff_widen_f16(fff_round_f16(weights.data()[i]));
    }
    return result;
}

const std::vector<float> &Setting::expected_of(const Stored &stored) {
    auto [found, made] = stored_expected_.try_emplace(stored.name);
    if (made && stored.is_16_bit()) {
        Buffer rounded_in = rounded(in, stored.input), rounded_out = rounded(out, stored.output);
        found->second = outputs_of(make_layer(of.shape, FFF_ISA_GENERIC, rounded_in, biases, rounded_out).get());
    } else if (made) {
        found->second = outputs_of(make_layer(of.shape, FFF_ISA_GENERIC, in, biases, out, stored).get());
    }
    return found->second;
}

void Setting::forward_all(const fff_layer *layer) {
    size_t size = 0, width = of.shape.width;
    fff_status status = fff_workspace_size(layer, tokens, 1, &size);
    std::vector<unsigned char> workspace(size);
    if (status == FFF_OK) {
        status = fff_forward(layer, tokens, input.data(), width, output.data(), width, workspace.data(), size, nullptr);
    }
    expect_ok(status);
}

const Error &Setting::error_of(const Stored &stored, fff_isa isa) {
    auto [found, made] = errors_.try_emplace({stored.name, isa}, Error{0, 0});
    if (!made) {
        return found->second;
    }
    const fff_layer *exact = layers_for(isa)[0].get(), *narrow = stored_layer(stored, isa);
    forward_all(exact);
    std::vector<float> right(output.data(), output.data() + output.size());
    forward_all(narrow);
    double difference = 0, size = 0;
    for (size_t i = 0; i < right.size(); i++) {
        double value = static_cast<double>(right[i]), off = static_cast<double>(output.data()[i]) - value;
        difference += off * off;
        size += value * value;
    }
    std::vector<uint32_t> right_nodes = route(exact, 0, tokens), nodes = route(narrow, 0, tokens);
    size_t path = of.shape.path(), others = 0;
    for (size_t token = 0; token < tokens; token++) {
        others += std::equal(nodes.begin() + token * path, nodes.begin() + (token + 1) * path,
                             right_nodes.begin() + token * path)
                      ? 0
                      : 1;
    }
    found->second = {std::sqrt(difference / size), static_cast<double>(others) / static_cast<double>(tokens)};
    return found->second;
}

void Setting::clear_outputs() {
    std::fill_n(output.data(), output.size(), std::nanf(""));
}

bool Setting::outputs_are_right(size_t count, float tolerance, const std::vector<float> *rights) const {
    size_t width = of.shape.width;
    const std::vector<float> &wanted = rights != nullptr ? *rights : expected;
    for (size_t i = 0; i < looked_at.size() && looked_at[i] < count; i++) {
        const float *found = output.data() + looked_at[i] * width, *right = wanted.data() + i * width;
        for (size_t j = 0; tolerance != 0 && j < width; j++) {
            if (!(std::fabs(found[j] - right[j]) <= tolerance * (1 + std::fabs(right[j])))) {
                return false;
            }
        }
        if (tolerance == 0 && std::memcmp(found, right, width * sizeof *right) != 0) {
            return false;
        }
    }
    return true;
}

Setting &setting_for(const Case &of, size_t batch) {
    static std::unique_ptr<Setting> kept;
    size_t tokens = of.temperature == Temperature::HOT ? batch : std::max(batch, TURN_TOKENS);
    while (tokens > batch && tokens * of.shape.width * sizeof(float) > size_t{64} << 20) {
        tokens /= 2;
    }
    if (!kept || kept->of.name(batch) != of.name(batch) || kept->of.shape.name() != of.shape.name() ||
        kept->tokens != tokens) {
        kept.reset(); // before the next is allocated
        kept = std::make_unique<Setting>(of, tokens);
    }
    return *kept;
}

} // namespace bench
