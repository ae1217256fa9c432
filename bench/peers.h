// Dense feedforward layers by other libraries: what an FFF is compared with.
//
// Libraries are loaded at run time, so that the harness runs with whatever is found, and says what that was.
#ifndef FFF_BENCH_PEERS_H
#define FFF_BENCH_PEERS_H

#include "bench/common.h"

namespace bench {

// The weights of a dense layer of `neurons` neurons, in both orientations.
struct DenseWeights {
    size_t width, neurons;
    Buffer in;             // neurons x width
    Buffer biases;         // neurons
    Buffer out_node_major; // neurons x width
    Buffer out;            // width x neurons, as PyTorch stores it
    DenseWeights(size_t width, size_t neurons, uint64_t seed);
};

// One way of computing a dense layer. Not changed by use but for its scratch memory: one at a time.
class Peer {
  public:
    virtual ~Peer() = default;
    virtual const std::string &name() const = 0; // e.g. "openblas_sgemm"
    // Whether it is worth timing at this batch.
    virtual bool takes(size_t batch) const = 0;
    // Keeps what it needs of the weights (packed where the library offers it) and memory for `batch` tokens.
    virtual void prepare(const DenseWeights &weights, size_t batch) = 0;
    // output = gelu(input . in^T + biases) . out, `batch` tokens (as prepared) of `width`.
    virtual void forward(const float *input, float *output) = 0;
};

// CBLAS with 32-bit integers, from a shared library, on one thread.
struct Cblas {
    std::string name, version; // "openblas", "OpenBLAS 0.3.34 ..."
    float (*sdot)(int, const float *, int, const float *, int) = nullptr;
    void (*saxpy)(int, float, const float *, int, float *, int) = nullptr;
    void (*sgemm)(int, int, int, int, int, int, float, const float *, int, const float *, int, float, float *,
                  int) = nullptr;
    void (*sgemv)(int, int, int, int, float, const float *, int, const float *, int, float, float *, int) = nullptr;
    // MKL only: weights packed once.
    size_t (*pack_size)(int, int, int, int) = nullptr;
    void (*pack)(int, int, int, int, int, int, float, const float *, int, float *) = nullptr;
    void (*compute)(int, int, int, int, int, int, const float *, int, const float *, int, float, float *,
                    int) = nullptr;
};

// OpenBLAS and MKL, as far as found. FFF_BENCH_OPENBLAS and FFF_BENCH_MKL name the shared libraries where the loader
// does not find them, or others are wanted.
std::vector<const Cblas *> find_blas();

// All ways of all libraries found.
std::vector<std::unique_ptr<Peer>> find_peers();

// "OpenBLAS 0.3.34 ...; MKL not found": for the context.
std::string describe_peers();

} // namespace bench

#endif
