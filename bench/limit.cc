// What no implementation can beat on this machine.
//
//     limit/path_1x11/h768/b64/warm/uniform    the memory traffic of the very routes of layer/.../b64/warm/uniform
//     limit_stored/path_1x11/i8/avx512/h768/b64/warm/uniform   the same of rows that the layer stores as int8
//     peak_fma/x86_avx512                      multiply-adds in registers, as many as the core can do
//
// The traffic: each distinct row of W_in and W_out that the batch visits is read once, in order of address and with
// nothing to wait for, or with each row asked for before or while those before it are read; x is read once and y
// written once. The rows lie as in a layer, input and output row side by side. A layer's limit is the larger of this
// time, that of the fastest way to read, and its multiply-adds at the peak.
#include "bench/rows.h"
#include "bench/setting.h"

#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace bench {
namespace {

// ---- Reading as fast as the core can --------------------------------------------------------------------------

// Asks for 64 floats, to come into L2.
inline void ask_for_64(const float *values) {
    for (size_t i = 0; i < 64; i += 16) {
        __builtin_prefetch(values + i, 0, 2);
    }
    benchmark::ClobberMemory(); // or a function that only prefetches may be left out
}

// Reads `count` floats (a multiple of 64, aligned to 64 bytes) and returns something that depends on all. Meanwhile
// asks for as many from `next` on, unless that is nullptr.
using Reader = float (*)(const float *values, size_t count, const float *next);

float read_plain(const float *values, size_t count, const float *next) {
    float sums[16] = {};
    for (size_t i = 0; i < count; i += 64) {
        if (next != nullptr) {
            ask_for_64(next + i);
        }
        for (size_t line = i; line < i + 64; line += 16) {
            for (size_t j = 0; j < 16; j++) {
                sums[j] += values[line + j];
            }
        }
    }
    float sum = 0;
    for (float s : sums) {
        sum += s;
    }
    return sum;
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) float read_avx2(const float *values, size_t count, const float *next) {
    __m256 sums[8] = {};
    for (size_t i = 0; i < count; i += 64) {
        if (next != nullptr) {
            ask_for_64(next + i);
        }
        for (size_t v = 0; v < 8; v++) {
            sums[v] = _mm256_add_ps(sums[v], _mm256_load_ps(values + i + 8 * v));
        }
    }
    for (size_t v = 1; v < 8; v++) {
        sums[0] = _mm256_add_ps(sums[0], sums[v]);
    }
    return _mm256_cvtss_f32(sums[0]);
}

__attribute__((target("avx512f"))) float read_avx512(const float *values, size_t count, const float *next) {
    __m512 sums[4] = {};
    for (size_t i = 0; i < count; i += 64) {
        if (next != nullptr) {
            ask_for_64(next + i);
        }
        for (size_t v = 0; v < 4; v++) {
            sums[v] = _mm512_add_ps(sums[v], _mm512_load_ps(values + i + 16 * v));
        }
    }
    return _mm512_cvtss_f32(_mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3])));
}
#endif

// A way to read rows: `ahead` rows before it reads one, it asks for it, at once or while it reads the one at hand.
struct Way {
    std::string name;
    Reader read;
    size_t ahead;
    bool at_once;
};

// All ways that run here: which is fastest differs with where the rows come from.
std::vector<Way> ways() {
    std::vector<Way> found = {{"plain", read_plain, 0, false}};
#if defined(__x86_64__)
    if (fff_isa_usable(FFF_ISA_X86_AVX2) == FFF_OK) {
        found.push_back({"avx2", read_avx2, 0, false});
    }
    if (fff_isa_usable(FFF_ISA_X86_AVX512) == FFF_OK) {
        found.push_back({"avx512", read_avx512, 0, false});
    }
#endif
    const Way best = found.back();
    found.push_back({best.name + "_ahead", best.read, 2, true});
    found.push_back({best.name + "_meanwhile", best.read, 2, false});
    return found;
}

size_t padded(size_t width) {
    return (width + 63) / 64 * 64;
}

// The distinct rows that each batch of the tokens visits, in order. The last case's are kept.
const std::vector<std::vector<uint32_t>> &visited_rows(Setting &setting, size_t batch) {
    static std::vector<std::vector<uint32_t>> batches;
    static std::string kept;
    const Shape &shape = setting.of.shape;
    std::string wanted = shape.name() + setting.of.name(batch);
    if (kept == wanted) {
        return batches;
    }
    kept = wanted;
    batches.clear();
    const fff_layer *layer = setting.layers_for(usable_isas().back())[0].get();
    size_t path = shape.path(), levels = shape.depth + 1, per_tree = fff_nodes_per_tree(shape.depth);
    for (size_t first = 0; first + batch <= setting.tokens; first += batch) {
        std::vector<uint32_t> nodes = setting.route(layer, first, batch);
        std::vector<bool> visited(shape.rows());
        for (size_t i = 0; i < nodes.size(); i++) {
            visited[i % path / levels * per_tree + nodes[i]] = true;
        }
        std::vector<uint32_t> rows;
        for (size_t row = 0; row < visited.size(); row++) {
            if (visited[row]) {
                rows.push_back(static_cast<uint32_t>(row));
            }
        }
        batches.push_back(std::move(rows));
        if (batches.size() * batch * path > size_t{1} << 22) {
            break; // enough different batches
        }
    }
    return batches;
}

// Floats that take as much memory as both parts of a row, each of so many bytes: a multiple of 64 of them.
size_t floats_of_row(const Shape &shape, fff_weight_type input, fff_weight_type output) {
    size_t both = 0;
    for (fff_weight_type type : {input, output}) {
        both += padded((fff_row_bytes(type, shape.width) + sizeof(float) - 1) / sizeof(float));
    }
    return both;
}

// The types of the rows' parts as the layer stores them. Routes are those of float32: others, of a few tokens, change
// how many distinct rows there are by next to nothing. Of exact routes' float32 rows, which few tokens need, none.
void limit(benchmark::State &state, const Case &of, const Way &way, size_t batch, fff_weight_type input_type,
           fff_weight_type output_type) {
    Setting &setting = setting_for(of, batch);
    const Shape &shape = of.shape;
    const std::vector<std::vector<uint32_t>> &batches = visited_rows(setting, batch);
    size_t width = padded(shape.width), row = floats_of_row(shape, input_type, output_type), copies = 1;
    while (of.temperature == Temperature::COLD && !come_from_memory(copies * shape.rows() * row * sizeof(float))) {
        copies++;
    }
    Buffer rows(copies * shape.rows() * row);
    Buffer inputs(setting.tokens * width); // padded, for the reader
    size_t next = 0, copy = 0;
    auto run_next = [&] {
        const float *weights = rows.data() + copy * shape.rows() * row;
        size_t first = next * batch;
        float sum = 0;
        const std::vector<uint32_t> &visited = batches[next];
        for (size_t i = 0; i < visited.size(); i++) {
            const float *coming = nullptr;
            if (way.ahead > 0 && i + way.ahead < visited.size()) {
                coming = weights + visited[i + way.ahead] * row;
            }
            for (size_t j = 0; way.at_once && coming != nullptr && j < row; j += 64) {
                ask_for_64(coming + j);
            }
            sum += way.read(weights + visited[i] * row, row, way.at_once ? nullptr : coming);
        }
        sum += way.read(inputs.data() + first * width, batch * width, nullptr);
        benchmark::DoNotOptimize(sum);
        std::memset(setting.output.data() + first * shape.width, 0, batch * shape.width * sizeof(float));
        benchmark::ClobberMemory();
        next = next + 1 < batches.size() ? next + 1 : 0;
        copy = copy + 1 < copies ? copy + 1 : 0;
    };
    warm_up(run_next);
    for (auto _ : state) {
        run_next();
    }
    double distinct = 0;
    for (const std::vector<uint32_t> &rows_of_batch : batches) {
        distinct += static_cast<double>(rows_of_batch.size()) / static_cast<double>(batches.size());
    }
    state.counters["distinct_rows"] = distinct;
    state.counters["multiply_adds_per_token"] = static_cast<double>(2 * shape.path() * shape.width);
    count_tokens(state, batch);
}

// ---- Multiply-adds as fast as the core can --------------------------------------------------------------------

const size_t FMA_ROUNDS = 1000;
const size_t FMA_CHAINS = 12; // independent: enough for any latency and number of units

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) float fma_avx2() {
    __m256 sums[FMA_CHAINS], factor = _mm256_set1_ps(0.5f);
    for (__m256 &s : sums) {
        s = _mm256_set1_ps(1.0f);
    }
    for (size_t round = 0; round < FMA_ROUNDS; round++) {
        for (__m256 &s : sums) {
            s = _mm256_fmadd_ps(s, factor, factor);
        }
        __asm__ volatile("" : "+x"(factor)); // stays in its register, but no round may be left out
    }
    __m256 sum = sums[0];
    for (size_t v = 1; v < FMA_CHAINS; v++) {
        sum = _mm256_add_ps(sum, sums[v]);
    }
    return _mm256_cvtss_f32(sum);
}

__attribute__((target("avx512f"))) float fma_avx512() {
    __m512 sums[FMA_CHAINS], factor = _mm512_set1_ps(0.5f);
    for (__m512 &s : sums) {
        s = _mm512_set1_ps(1.0f);
    }
    for (size_t round = 0; round < FMA_ROUNDS; round++) {
        for (__m512 &s : sums) {
            s = _mm512_fmadd_ps(s, factor, factor);
        }
        __asm__ volatile("" : "+v"(factor));
    }
    __m512 sum = sums[0];
    for (size_t v = 1; v < FMA_CHAINS; v++) {
        sum = _mm512_add_ps(sum, sums[v]);
    }
    return _mm512_cvtss_f32(sum);
}
#endif

#if defined(__aarch64__)
float fma_neon() {
    float32x4_t sums[FMA_CHAINS], factor = vdupq_n_f32(0.5f);
    for (float32x4_t &s : sums) {
        s = vdupq_n_f32(1.0f);
    }
    for (size_t round = 0; round < FMA_ROUNDS; round++) {
        for (float32x4_t &s : sums) {
            s = vfmaq_f32(factor, s, factor);
        }
        __asm__ volatile("" : "+w"(factor));
    }
    float32x4_t sum = sums[0];
    for (size_t v = 1; v < FMA_CHAINS; v++) {
        sum = vaddq_f32(sum, sums[v]);
    }
    return vgetq_lane_f32(sum, 0);
}
#endif

void peak_fma(benchmark::State &state, float (*loop)(), size_t lanes) {
    for (auto _ : state) {
        benchmark::DoNotOptimize(loop());
    }
    state.counters["multiply_adds/s"] = benchmark::Counter(
        static_cast<double>(state.iterations() * FMA_ROUNDS * FMA_CHAINS * lanes), benchmark::Counter::kIsRate);
}

// By the fastest instructions, with each way of asking for rows.
void register_stored_limits(const Case &of) {
    if (of.temperature != Temperature::WARM || of.shape.trees != 1 || of.shape.depth != 11) {
        return;
    }
    std::vector<Way> all = ways();
    for (const Stored &stored : stored_kinds()) {
        for (auto way = all.end() - 3; way != all.end(); ++way) {
            for (size_t batch = 1; batch <= MOST_TOKENS; batch *= 2) {
                std::string name =
                    "limit_stored/" + of.shape.name() + "/" + stored.name + "/" + way->name + of.name(batch);
                add(name, [=, by = *way](benchmark::State &state) {
                    limit(state, of, by, batch, static_cast<fff_weight_type>(stored.input - 1),
                          static_cast<fff_weight_type>(stored.output - 1));
                });
            }
        }
    }
}

} // namespace

void register_limits() {
#if defined(__aarch64__)
    add("peak_fma/arm_neon", [](benchmark::State &state) { peak_fma(state, fma_neon, 4); });
#endif
#if defined(__x86_64__)
    if (fff_isa_usable(FFF_ISA_X86_AVX2) == FFF_OK) {
        add("peak_fma/x86_avx2", [](benchmark::State &state) { peak_fma(state, fma_avx2, 8); });
    }
    if (fff_isa_usable(FFF_ISA_X86_AVX512) == FFF_OK) {
        add("peak_fma/x86_avx512", [](benchmark::State &state) { peak_fma(state, fma_avx512, 16); });
    }
#endif
    for (const Case &of : cases()) {
        if (of.temperature == Temperature::HOT) {
            continue; // nothing is read from afar
        }
        register_stored_limits(of);
        for (const Way &way : ways()) {
            for (size_t batch = 1; batch <= MOST_TOKENS; batch *= 2) {
                std::string name = "limit/" + of.shape.name() + "/" + way.name + of.name(batch);
                add(name,
                    [=](benchmark::State &state) { limit(state, of, way, batch, FFF_WEIGHT_F32, FFF_WEIGHT_F32); });
            }
        }
    }
}

} // namespace bench
