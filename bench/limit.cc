// What no implementation can beat on this machine.
//
//     limit/path_1x11/h768/b64/warm/uniform    the memory traffic of the very routes of layer/.../b64/warm/uniform
//     peak_fma/x86_avx512                      multiply-adds in registers, as many as the core can do
//
// The traffic: each distinct row of W_in and W_out that the batch visits is read once, in order of address and with
// nothing to wait for; x is read once and y written once. The rows lie as in a layer, input and output row side by
// side. A layer's limit is the larger of this time and its multiply-adds at the peak.
#include "bench/setting.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace bench {
namespace {

// ---- Reading as fast as the core can --------------------------------------------------------------------------

// Reads `count` floats (a multiple of 64, aligned to 64 bytes) and returns something that depends on all.
using Reader = float (*)(const float *values, size_t count);

float read_plain(const float *values, size_t count) {
    float sums[16] = {};
    for (size_t i = 0; i < count; i += 16) {
        for (size_t j = 0; j < 16; j++) {
            sums[j] += values[i + j];
        }
    }
    float sum = 0;
    for (float s : sums) {
        sum += s;
    }
    return sum;
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) float read_avx2(const float *values, size_t count) {
    __m256 sums[8] = {};
    for (size_t i = 0; i < count; i += 64) {
        for (size_t v = 0; v < 8; v++) {
            sums[v] = _mm256_add_ps(sums[v], _mm256_load_ps(values + i + 8 * v));
        }
    }
    for (size_t v = 1; v < 8; v++) {
        sums[0] = _mm256_add_ps(sums[0], sums[v]);
    }
    return _mm256_cvtss_f32(sums[0]);
}

__attribute__((target("avx512f"))) float read_avx512(const float *values, size_t count) {
    __m512 sums[4] = {};
    for (size_t i = 0; i < count; i += 64) {
        for (size_t v = 0; v < 4; v++) {
            sums[v] = _mm512_add_ps(sums[v], _mm512_load_ps(values + i + 16 * v));
        }
    }
    return _mm512_cvtss_f32(_mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3])));
}
#endif

// All readers that run here: which is fastest differs with where the rows come from.
std::vector<std::pair<std::string, Reader>> readers() {
    std::vector<std::pair<std::string, Reader>> found = {{"plain", read_plain}};
#if defined(__x86_64__)
    if (fff_isa_usable(FFF_ISA_X86_AVX2) == FFF_OK) {
        found.emplace_back("avx2", read_avx2);
    }
    if (fff_isa_usable(FFF_ISA_X86_AVX512) == FFF_OK) {
        found.emplace_back("avx512", read_avx512);
    }
#endif
    return found;
}

size_t padded(size_t width) {
    return (width + 63) / 64 * 64;
}

// The distinct rows that each batch of the tokens visits, in order.
std::vector<std::vector<uint32_t>> visited_rows(Setting &setting, size_t batch) {
    const Shape &shape = setting.shape;
    const fff_layer *layer = setting.layers_for(usable_isas().back())[0].get();
    size_t path = shape.path(), levels = shape.depth + 1, per_tree = fff_nodes_per_tree(shape.depth), size = 0;
    fff_workspace_size(layer, batch, 1, &size);
    std::vector<unsigned char> workspace(size);
    std::vector<uint32_t> nodes(batch * path);
    std::vector<float> logits(batch * path);
    std::vector<std::vector<uint32_t>> batches;
    for (size_t first = 0; first + batch <= MOST_TOKENS; first += batch) {
        if (fff_route(layer, batch, setting.input.data() + first * shape.width, shape.width, nodes.data(), path,
                      logits.data(), path, workspace.data(), size, nullptr) != FFF_OK) {
            return {};
        }
        std::vector<uint32_t> rows(nodes.size());
        for (size_t i = 0; i < nodes.size(); i++) {
            rows[i] = static_cast<uint32_t>(i % path / levels * per_tree) + nodes[i];
        }
        std::sort(rows.begin(), rows.end());
        rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
        batches.push_back(std::move(rows));
        if (batches.size() * batch * path > size_t{1} << 22) {
            break; // enough different batches
        }
    }
    return batches;
}

void limit(benchmark::State &state, const Shape &shape, Reader reader, size_t batch, bool cold, bool one_path) {
    Setting &setting = setting_for(shape, cold, one_path);
    std::vector<std::vector<uint32_t>> batches = visited_rows(setting, batch);
    if (batches.empty()) {
        state.SkipWithError("routing failed");
        return;
    }
    size_t width = padded(shape.width), row = 2 * width, copies = 1;
    while (cold && copies * shape.rows() * row * sizeof(float) < 2 * cache_bytes(3)) {
        copies++;
    }
    Buffer rows(copies * shape.rows() * row);
    Buffer inputs(MOST_TOKENS * width); // padded, for the reader
    size_t next = 0, first = 0, copy = 0;
    for (auto _ : state) {
        const float *weights = rows.data() + copy * shape.rows() * row;
        float sum = 0;
        for (uint32_t visited : batches[next]) {
            sum += reader(weights + visited * row, row);
        }
        sum += reader(inputs.data() + first * width, batch * width);
        benchmark::DoNotOptimize(sum);
        std::memset(setting.output.data() + first * shape.width, 0, batch * shape.width * sizeof(float));
        benchmark::ClobberMemory();
        next = next + 1 < batches.size() ? next + 1 : 0;
        first = next * batch;
        copy = copy + 1 < copies ? copy + 1 : 0;
    }
    double distinct = 0;
    for (const std::vector<uint32_t> &rows_of_batch : batches) {
        distinct += static_cast<double>(rows_of_batch.size()) / static_cast<double>(batches.size());
    }
    using benchmark::Counter;
    state.counters["distinct_rows"] = distinct;
    state.counters["multiply_adds_per_token"] = static_cast<double>(2 * shape.path() * shape.width);
    state.counters["s_per_token"] = Counter(static_cast<double>(state.iterations()) * static_cast<double>(batch),
                                            static_cast<Counter::Flags>(Counter::kIsRate | Counter::kInvert));
}

// ---- Multiply-adds as fast as the core can --------------------------------------------------------------------

const size_t FMA_ROUNDS = 1000;

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) float fma_avx2() {
    __m256 sums[12], factor = _mm256_set1_ps(0.5f);
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
    for (size_t v = 1; v < 12; v++) {
        sum = _mm256_add_ps(sum, sums[v]);
    }
    return _mm256_cvtss_f32(sum);
}

__attribute__((target("avx512f"))) float fma_avx512() {
    __m512 sums[12], factor = _mm512_set1_ps(0.5f);
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
    for (size_t v = 1; v < 12; v++) {
        sum = _mm512_add_ps(sum, sums[v]);
    }
    return _mm512_cvtss_f32(sum);
}
#endif

void peak_fma(benchmark::State &state, float (*loop)(), size_t lanes) {
    for (auto _ : state) {
        benchmark::DoNotOptimize(loop());
    }
    state.counters["multiply_adds/s"] = benchmark::Counter(
        static_cast<double>(state.iterations() * FMA_ROUNDS * 12 * lanes), benchmark::Counter::kIsRate);
}

} // namespace

void register_limits() {
#if defined(__x86_64__)
    if (fff_isa_usable(FFF_ISA_X86_AVX2) == FFF_OK) {
        benchmark::RegisterBenchmark("peak_fma/x86_avx2", peak_fma, fma_avx2, size_t{8});
    }
    if (fff_isa_usable(FFF_ISA_X86_AVX512) == FFF_OK) {
        benchmark::RegisterBenchmark("peak_fma/x86_avx512", peak_fma, fma_avx512, size_t{16});
    }
#endif
    for (const Shape &shape : shapes()) {
        for (bool cold : {false, true}) {
            for (bool one_path : {false, true}) {
                for (size_t batch = 1; batch <= MOST_TOKENS; batch *= 2) {
                    for (const auto &reader : readers()) {
                        std::string name = "limit/" + shape.name() + "/" + reader.first + "/h" +
                                           std::to_string(shape.width) + "/b" + std::to_string(batch) +
                                           temperature_and_routes(cold, one_path);
                        Reader read = reader.second;
                        benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State &state) {
                            limit(state, shape, read, batch, cold, one_path);
                        });
                    }
                }
            }
        }
    }
}

} // namespace bench
