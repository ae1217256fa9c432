// fff_bench: Google Benchmark over the kernels and whole layers. All of its flags work, e.g.
//
//     fff_bench --benchmark_filter='layer/path_1x11/.*/h768/b(1|64)/warm/uniform|dense_4095/.*/h768/b(1|64)$'
//               --benchmark_repetitions=9 --benchmark_enable_random_interleaving=true
//               --benchmark_report_aggregates_only=true --benchmark_format=json
#include "bench/common.h"
#include "bench/peers.h"

#include <benchmark/benchmark.h>

int main(int argc, char **argv) {
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) {
        return 2;
    }
    bench::add_context();
    benchmark::AddCustomContext("dense_peers", bench::describe_peers());
    bench::register_kernels();
    bench::register_layers();
    bench::register_limits();
    if (benchmark::RunSpecifiedBenchmarks() == 0) {
        return 2; // no benchmark has such a name; Google Benchmark has said so
    }
    benchmark::Shutdown();
    return 0;
}
