#include "bench/common.h"

#include "tools/random.h"

#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <new>
#include <stdexcept>

namespace bench {

static const size_t HUGE_PAGE = size_t{2} << 20;

void Buffer::Free::operator()(float *memory) const {
    std::free(memory);
}

Buffer::Buffer(size_t count) : count_(count) {
    size_t bytes = (count * sizeof(float) + 63) / 64 * 64 + 64;
    size_t alignment = bytes >= HUGE_PAGE ? HUGE_PAGE : 64;
    void *memory = nullptr;
    if (posix_memalign(&memory, alignment, bytes) != 0) {
        throw std::bad_alloc();
    }
    if (alignment == HUGE_PAGE) {
        (void)madvise(memory, bytes, MADV_HUGEPAGE); // advice: refusal changes nothing but speed
    }
    std::memset(memory, 0, bytes);
    data_.reset(static_cast<float *>(memory));
}

void fill_normal(Buffer &buffer, float scale, uint64_t seed) {
    for (size_t i = 0; i < buffer.size(); i++) {
        buffer.data()[i] = scale * random_normal(&seed);
    }
}

void expect_ok(fff_status status) {
    if (status != FFF_OK) {
        throw std::runtime_error(fff_status_text(status));
    }
}

std::vector<fff_isa> usable_isas() {
    std::vector<fff_isa> isas;
    for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
        if (fff_isa_usable(static_cast<fff_isa>(isa)) == FFF_OK) {
            isas.push_back(static_cast<fff_isa>(isa));
        }
    }
    return isas;
}

size_t cache_bytes(int level) {
    static const int names[] = {_SC_LEVEL1_DCACHE_SIZE, _SC_LEVEL2_CACHE_SIZE, _SC_LEVEL3_CACHE_SIZE};
    static const size_t guesses[] = {size_t{32} << 10, size_t{512} << 10, size_t{16} << 20};
    long bytes = sysconf(names[level - 1]);
    return bytes > 0 ? static_cast<size_t>(bytes) : guesses[level - 1];
}

bool come_from_memory(size_t bytes) {
    return bytes >= 2 * cache_bytes(3);
}

std::vector<WorkingSet> working_sets() {
    // Half of L1 and L2 leaves room for inputs and outputs. A shared L3 may be huge, and only partly ours: four
    // times L2 is surely beyond L2 and within any L3. Four times L3 is surely beyond it, even for a kernel that reads
    // half of each row.
    return {{"L1", cache_bytes(1) / 2},
            {"L2", cache_bytes(2) / 2},
            {"L3", 4 * cache_bytes(2)},
            {"DRAM", 4 * cache_bytes(3)}};
}

static cpu_set_t allowed; // to begin with

AllCpus::AllCpus() {
    (void)sched_setaffinity(0, sizeof allowed, &allowed);
}

AllCpus::~AllCpus() {
    (void)pin_to_one_cpu();
}

size_t AllCpus::count() {
    return static_cast<size_t>(CPU_COUNT(&allowed));
}

int pin_to_one_cpu() {
    cpu_set_t set;
    bool known = sched_getaffinity(0, sizeof set, &set) == 0;
    if (known && CPU_COUNT(&allowed) == 0) {
        allowed = set;
    }
    if (known && CPU_COUNT(&set) == 1) {
        int cpu = 0;
        while (!CPU_ISSET(cpu, &set)) {
            cpu++;
        }
        return cpu;
    }
    int cpu = sched_getcpu();
    if (cpu < 0) {
        return -1;
    }
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    return sched_setaffinity(0, sizeof set, &set) == 0 ? cpu : -1;
}

static bool wrong = false;

void wrong_output(benchmark::State &state, const char *what) {
    state.SkipWithError(what);
    wrong = true;
}

bool any_wrong_output() {
    return wrong;
}

std::vector<size_t> some_tokens(size_t count) {
    std::vector<size_t> tokens;
    for (size_t token = 0, step = 1; token < count; token += step++) {
        tokens.push_back(token);
    }
    if (count > 0 && tokens.back() != count - 1) {
        tokens.push_back(count - 1);
    }
    return tokens;
}

void count_tokens(benchmark::State &state, size_t batch) {
    using benchmark::Counter;
    state.counters["s_per_token"] = Counter(static_cast<double>(state.iterations()) * static_cast<double>(batch),
                                            static_cast<Counter::Flags>(Counter::kIsRate | Counter::kInvert));
}

// The first line of a file, or what stands behind "key : " in it; "unknown" if there is none.
static std::string read_line(const char *path, const std::string &key = "") {
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
        if (key.empty()) {
            return line;
        }
        if (line.compare(0, key.size(), key) == 0) {
            size_t colon = line.find(": ");
            return colon == std::string::npos ? "unknown" : line.substr(colon + 2);
        }
    }
    return "unknown";
}

void add_context(int pinned_cpu) {
    std::string features, isas;
    fff_cpu_feature found[32];
    size_t count = fff_cpu_features(found, 32);
    for (size_t i = 0; i < count; i++) {
        if (found[i].present) {
            features += std::string(features.empty() ? "" : " ") + found[i].name;
        }
    }
    for (fff_isa isa : usable_isas()) {
        isas += std::string(isas.empty() ? "" : " ") + fff_isa_name(isa);
    }
    benchmark::AddCustomContext("cpu", read_line("/proc/cpuinfo", "model name"));
    benchmark::AddCustomContext("cpu_features", features);
    benchmark::AddCustomContext("instruction_sets", isas);
    benchmark::AddCustomContext("governor", read_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"));
    benchmark::AddCustomContext("transparent_hugepage", read_line("/sys/kernel/mm/transparent_hugepage/enabled"));
    benchmark::AddCustomContext("compiler", __VERSION__);
    benchmark::AddCustomContext("libfff", fff_version());
    benchmark::AddCustomContext("sleef", fff_sleef_version());
    benchmark::AddCustomContext("threads", "1");
    benchmark::AddCustomContext("pinned_cpu", pinned_cpu >= 0 ? std::to_string(pinned_cpu) : "none");
}

} // namespace bench
