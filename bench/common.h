// What all benchmarks share: memory, numbers, the machine's caches, the instruction sets to run.
#ifndef FFF_BENCH_COMMON_H
#define FFF_BENCH_COMMON_H

#include <fff/fff.h>

#include <benchmark/benchmark.h>

#include <chrono>
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

// Throws std::runtime_error with the status's text, unless it is FFF_OK.
void expect_ok(fff_status status);

// The instruction sets usable on this machine, in order of preference.
std::vector<fff_isa> usable_isas();

// Bytes of the cache of that level (1 to 3) of this core, as the operating system tells; a guess if it does not.
size_t cache_bytes(int level);

// Whether layers of so many bytes in all, used in turn, each come from memory: they exceed the last cache twice.
bool come_from_memory(size_t bytes);

// A place for weights to come from: a working set of that many bytes.
struct WorkingSet {
    std::string name; // "L1", "L2", "L3", "DRAM"
    size_t bytes;
};
std::vector<WorkingSet> working_sets();

// What a run's context records: CPU, features, caches, governor, versions. Adds it to Google Benchmark's.
void add_context(int pinned_cpu);

// Keeps this process on the CPU it runs on, unless it is already kept on one: before any library looks at how many
// there are. The number of that CPU, or -1.
int pin_to_one_cpu();

// While it lives, this thread may run on all CPUs that the process was allowed to begin with.
class AllCpus {
  public:
    AllCpus();
    ~AllCpus();
    AllCpus(const AllCpus &) = delete;
    AllCpus &operator=(const AllCpus &) = delete;
    static size_t count();
};

// Ends a benchmark whose output is wrong; the program will fail.
void wrong_output(benchmark::State &state, const char *what);
bool any_wrong_output();

// Calls `run` twice and for 5 ms at least before it is timed: whatever ran before has put its own data into the
// caches, and some last-level caches keep only what is asked for twice.
template <class Run> void warm_up(Run run) {
    auto began = std::chrono::steady_clock::now();
    for (int calls = 0; calls < 2 || std::chrono::steady_clock::now() - began < std::chrono::milliseconds(5); calls++) {
        run();
    }
}

// Tokens whose outputs are compared where a reference of all takes too long: 0, 1, 3, 6, 10 and so on, and the last of
// `count`. Triangular numbers, since 64 of them in a row stand at all 64 positions of a batch of 64; likewise for every
// other power of two.
std::vector<size_t> some_tokens(size_t count);

// Time a token, in seconds, as the counter s_per_token.
void count_tokens(benchmark::State &state, size_t batch);

// Registers one benchmark. It is timed by the clock on the wall, because some libraries compute in a thread of their
// own; Google Benchmark adds "/real_time" to the name for that.
template <class Function> void add(const std::string &name, Function function) {
    benchmark::RegisterBenchmark(name.c_str(), function)->UseRealTime();
}

// Registers the benchmarks of one file.
void register_kernels();
void register_layers();
void register_limits();
void register_forests();
void register_training();

} // namespace bench

#endif
