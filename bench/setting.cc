#include "bench/setting.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace bench {

std::string Shape::name() const {
    return "path_" + std::to_string(trees) + "x" + std::to_string(depth);
}

const std::vector<Shape> &shapes() {
    static const std::vector<Shape> all = {{1, 11, 768}, {3072, 0, 768}, {512, 2, 768}, {128, 4, 768},
                                           {32, 6, 768}, {8, 8, 768},    {1, 15, 768},  {1, 11, 256},
                                           {1, 11, 512}, {1, 11, 1024},  {1, 11, 2048}, {1, 11, 4096}};
    return all;
}

static Layer make_layer(const Shape &shape, fff_isa isa, const Buffer &in, const Buffer &biases, const Buffer &out) {
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

Setting::Setting(const Shape &s, bool is_cold, bool is_one_path)
    : shape(s), cold(is_cold), one_path(is_one_path), in(s.rows() * s.width), biases(s.rows()), out(s.rows() * s.width),
      input(MOST_TOKENS * s.width), output(MOST_TOKENS * s.width), expected(CHECKED_TOKENS * s.width) {
    float scale = 1.0f / std::sqrt(static_cast<float>(s.width));
    fill_normal(in, scale, 1);
    fill_normal(out, scale, 2);
    fill_normal(input, 1.0f, 3);
    std::fill_n(biases.data(), biases.size(), one_path ? 100.0f : 0.0f); // far above any sum: all go right
    Layer generic = make_layer(shape, FFF_ISA_GENERIC, in, biases, out);
    run(generic.get(), CHECKED_TOKENS, CHECKED_TOKENS, expected.data());
}

const std::vector<Layer> &Setting::layers_for(fff_isa isa) {
    if (layers_.count(isa) == 0) {
        layers_.clear(); // cold layers fill gigabytes
        std::vector<Layer> &made = layers_[isa];
        do {
            made.push_back(make_layer(shape, isa, in, biases, out));
        } while (cold && made.size() * fff_layer_memory(made[0].get()) < 2 * cache_bytes(3));
    }
    return layers_[isa];
}

bool Setting::run(const fff_layer *layer, size_t tokens, size_t batch, float *result) const {
    size_t size = 0;
    bool ok = fff_workspace_size(layer, batch, 1, &size) == FFF_OK;
    std::vector<unsigned char> workspace(size);
    for (size_t first = 0; ok && first < tokens; first += batch) {
        size_t count = std::min(batch, tokens - first);
        ok = fff_forward(layer, count, input.data() + first * shape.width, shape.width, result + first * shape.width,
                         shape.width, workspace.data(), size, nullptr) == FFF_OK;
    }
    return ok;
}

Setting &setting_for(const Shape &shape, bool cold, bool one_path) {
    static std::unique_ptr<Setting> kept;
    if (!kept || kept->shape.name() != shape.name() || kept->shape.width != shape.width || kept->cold != cold ||
        kept->one_path != one_path) {
        kept.reset(); // before the next is allocated
        kept = std::make_unique<Setting>(shape, cold, one_path);
    }
    return *kept;
}

} // namespace bench
