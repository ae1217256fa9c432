// A layer to be timed, its inputs and what it must compute: shared by the layer benchmarks and their limit.
#ifndef FFF_BENCH_SETTING_H
#define FFF_BENCH_SETTING_H

#include "bench/common.h"

#include <map>

namespace bench {

const size_t MOST_TOKENS = 16384;
// Come in turn, for FFF layers and dense ones; more only for a larger batch.
const size_t TURN_TOKENS = MOST_TOKENS / 4;

// Which tokens and which layer come next: all in turn.
struct Turn {
    const size_t tokens, layers, batch;
    size_t first = 0, layer = 0;
    void next() {
        first = first + 2 * batch <= tokens ? first + batch : 0;
        layer = layer + 1 < layers ? layer + 1 : 0;
    }
};

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

// The shapes of the paper's list, other depths, other widths; and that of the recorded routes.
const std::vector<Shape> &shapes();

enum class Routes {
    UNIFORM,  // random inputs: spread over all leaves
    ONE_PATH, // different inputs, all on one path
    RECORDED, // the node sequences of a file
};

enum class Temperature {
    HOT,  // one layer and the same tokens again and again, all on one path: all that is used stays in L2
    WARM, // one layer, again and again
    COLD, // as many layers in turn as together exceed the last cache twice; not with ONE_PATH, which would fit into it
};

// What is timed but for the batch: how often each node is visited, and where weights come from.
struct Case {
    Shape shape;
    Temperature temperature;
    Routes routes;
    bool takes(size_t batch) const;       // whether a hot batch is not too large for L2
    std::string name(size_t batch) const; // "/h768/b64/cold/uniform"
};

// All that there are.
std::vector<Case> cases();

// Reads the node sequences that FFF_BENCH_ROUTES names, a safetensors file whose tensor `path` (I32, tokens x trees x
// levels, as in a layer file of `fff verify`) holds node indices, 0 being a tree's root. Throws std::runtime_error,
// saying what is wrong with the file. Nothing happens without FFF_BENCH_ROUTES.
void read_recorded_routes();

struct DestroyLayer {
    void operator()(fff_layer *layer) const {
        fff_layer_destroy(layer);
    }
};
using Layer = std::unique_ptr<fff_layer, DestroyLayer>;

// How a layer stores its weights, which are given as float32.
struct Stored {
    std::string name; // "bf16+i8-exact"
    fff_weight_choice input, output;
    fff_routes routes;
    bool is_16_bit() const { // both parts, so that it is the float32 layer of rounded weights
        return input == output && (input == FFF_CHOOSE_BF16 || input == FFF_CHOOSE_F16);
    }
};

// All that are timed beside float32.
const std::vector<Stored> &stored_kinds();

// Relative to the float32 layer: the root mean square of the output's difference, in units of that of the output; the
// share of tokens that take another route.
struct Error {
    double rms, other_routes;
};

// Throws std::runtime_error where a layer cannot be made, or recorded routes cannot be had.
class Setting {
  public:
    Setting(const Case &of, size_t tokens);

    const Case of;
    const size_t tokens; // those of `input`: a multiple of every batch up to it
    Buffer in, biases, out, input, output;

    // One instruction set's layers, all with the same weights. Kept.
    const std::vector<Layer> &layers_for(fff_isa isa);
    // Likewise, one layer that stores the same weights otherwise.
    const fff_layer *stored_layer(const Stored &stored, fff_isa isa);
    // What such a layer must compute, to the bit, for the tokens that outputs_are_right looks at: of 16 bits, what the
    // float32 layer of the rounded weights does; else what the generic kernels do. Kept.
    const std::vector<float> &expected_of(const Stored &stored);
    // Of all tokens. Kept. Overwrites `output`.
    const Error &error_of(const Stored &stored, fff_isa isa);
    // The nodes that `count` tokens from `first` on visit, by one of these layers: count x path.
    std::vector<uint32_t> route(const fff_layer *layer, size_t first, size_t count) const;
    // Overwrites all with NaN.
    void clear_outputs();
    // Whether the first `count` tokens' outputs equal the generic kernels', a token at a time, bit for bit, or `right`
    // if given; `tolerance` if other than 0 allows for another order of summation. All are looked at; of shapes of so
    // many trees that this would take long, those of some_tokens().
    bool outputs_are_right(size_t count, float tolerance, const std::vector<float> *right = nullptr) const;

  private:
    void follow_recorded_routes();
    bool follow(const uint32_t *nodes, float *x) const;
    std::vector<float> outputs_of(const fff_layer *layer) const; // for the tokens that are looked at
    void forward_all(const fff_layer *layer);

    std::vector<size_t> looked_at;
    std::vector<float> expected; // of those
    std::map<fff_isa, std::vector<Layer>> layers_;
    std::map<std::string, std::vector<float>> stored_expected_; // by name
    std::map<std::pair<std::string, fff_isa>, Layer> stored_layers_;
    std::map<std::pair<std::string, fff_isa>, Error> errors_;
};

// With TURN_TOKENS tokens, enough to visit most leaves, or as many as the batch; fewer if inputs are beyond 64 MB. Hot:
// as many as the batch. The last one is kept while the next benchmark wants the same.
Setting &setting_for(const Case &of, size_t batch);

} // namespace bench

#endif
