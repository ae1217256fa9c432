// Dense feedforward layers by other libraries: what an FFF is compared with.
#ifndef FFF_BENCH_PEERS_H
#define FFF_BENCH_PEERS_H

#include "bench/common.h"

namespace bench {

// The weights of a dense layer, in both orientations.
struct DenseWeights {
    Buffer in;             // neurons x width
    Buffer biases;         // neurons
    Buffer out_node_major; // neurons x width
    Buffer out;            // width x neurons, as PyTorch stores it
};

// One layer; or, where each is to come from memory as in a model, as many with the same values as together exceed
// the last cache twice.
struct DenseLayers {
    size_t width, neurons;
    bool cold;
    std::vector<DenseWeights> weights;
    DenseLayers(size_t width, size_t neurons, bool cold);
    // How many layers come in turn if a weight takes so many bytes: of narrow ones more, with the values of those.
    size_t in_turn(size_t bytes_of_weight) const;
};

// One way of computing a dense layer. Not changed by use but for its scratch memory: one at a time.
class Peer {
  public:
    virtual ~Peer() = default;
    virtual const std::string &name() const = 0; // e.g. "openblas_sgemm"
    // "" of float32; "bf16_" or "i8_" of a type that the products are of.
    virtual std::string kind() const {
        return "";
    }
    // What part of the output's root mean square may be its error's; 0: what float32 allows.
    virtual double tolerance() const {
        return 0;
    }
    // Of a weight, as it is read.
    virtual size_t bytes_of_weight() const {
        return sizeof(float);
    }
    // Whether it is worth timing at this batch.
    virtual bool takes(size_t batch) const = 0;
    // Keeps what it needs of the weights (packed where the library offers it) and memory for `batch` tokens, and drops
    // what it kept before. The layers must outlive its use. Throws std::runtime_error.
    virtual void prepare(const DenseLayers &layers, size_t batch) = 0;
    // output = gelu(input . in^T + biases) . out of that layer in turn, `batch` tokens (as prepared) of `width`.
    virtual void forward(size_t layer, const float *input, float *output) = 0;
};

// What a dense layer applies between its products where a library brings none of its own: the GELU of SLEEF by the best
// instruction set of this machine, whatever FFF_ISA says.
void gelu(Buffer &hidden);

using Peers = std::vector<std::unique_ptr<Peer>>;

// All ways of all libraries found; and for larger batches each again in parts of 256 and of 1024 tokens, one after the
// other: a dense layer's best batches, or nearly, on the CPUs that were tried.
Peers find_peers();
Peers blas_peers();
Peers onednn_peers();

// "OpenBLAS 0.3.34 ...; MKL ...; no oneDNN": for the context.
std::string describe_peers();
std::vector<std::string> onednn_versions();
// "oneDNN 3.13.2: bf16, no i8": which types each has fast products for on this CPU.
std::string describe_narrow_peers();

} // namespace bench

#endif
