// What all benchmarks share: memory, numbers, the machine's caches, the instruction sets to run.
#ifndef FFF_BENCH_COMMON_H
#define FFF_BENCH_COMMON_H

#include <fff/fff.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace bench {

// Zeroed floats in 2 MB pages where there are enough of them, so that every side of a comparison has the same
// memory. Throws std::bad_alloc.
class Buffer {
  public:
    explicit Buffer(size_t count = 0);
    float *data() {
        return data_.get();
    }
    const float *data() const {
        return data_.get();
    }
    size_t size() const {
        return count_;
    }

  private:
    struct Free {
        void operator()(float *memory) const;
    };
    std::unique_ptr<float[], Free> data_;
    size_t count_;
};

// Seeded numbers near normal, times `scale`.
void fill_normal(Buffer &buffer, float scale, uint64_t seed);

// The instruction sets usable on this machine, in order of preference.
std::vector<fff_isa> usable_isas();

// Bytes of the cache of that level (1 to 3) of this core, as the operating system tells; a guess if it does not.
size_t cache_bytes(int level);

// A place for weights to come from: a working set of that many bytes.
struct WorkingSet {
    std::string name; // "L1", "L2", "L3", "DRAM"
    size_t bytes;
};
std::vector<WorkingSet> working_sets();

// What a run's context records: CPU, features, caches, governor, versions. Adds it to Google Benchmark's.
void add_context();

// "/cold/one_path" and the like: the end of a name.
std::string temperature_and_routes(bool cold, bool one_path);

// Registers the benchmarks of one file.
void register_kernels();
void register_layers();
void register_limits();

} // namespace bench

#endif
