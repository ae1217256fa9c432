// A layer to be timed, its inputs and what it must compute: shared by the layer benchmarks and their limit.
#ifndef FFF_BENCH_SETTING_H
#define FFF_BENCH_SETTING_H

#include "bench/common.h"

#include <map>

namespace bench {

const size_t MOST_TOKENS = 16384;
const size_t CHECKED_TOKENS = 64; // of an FFF result; a dense result's first one is compared

struct Shape {
    size_t trees, depth, width;
    std::string name() const; // e.g. "path_1x11"
    size_t rows() const {
        return trees * fff_nodes_per_tree(depth);
    }
    size_t path() const {
        return trees * (depth + 1);
    }
};

// The shapes of the paper's list, a deeper one, and other widths.
const std::vector<Shape> &shapes();

struct DestroyLayer {
    void operator()(fff_layer *layer) const {
        fff_layer_destroy(layer);
    }
};
using Layer = std::unique_ptr<fff_layer, DestroyLayer>;

// Throws std::runtime_error where a layer cannot be made.
struct Setting {
    Shape shape;
    bool cold;     // as many layers in turn as together exceed the last cache
    bool one_path; // all tokens on one path; else spread over all leaves
    Buffer in, biases, out, input, output;
    std::vector<float> expected; // of the first CHECKED_TOKENS, by the generic kernels

    Setting(const Shape &shape, bool cold, bool one_path);
    // One instruction set's at a time.
    const std::vector<Layer> &layers_for(fff_isa isa);
    // `tokens` tokens in batches; true if all succeeded.
    bool run(const fff_layer *layer, size_t tokens, size_t batch, float *result) const;

  private:
    std::map<fff_isa, std::vector<Layer>> layers_;
};

// The last one is kept while the next benchmark wants the same.
Setting &setting_for(const Shape &shape, bool cold, bool one_path);

} // namespace bench

#endif
