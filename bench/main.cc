// fff_bench: Google Benchmark over the kernels and whole layers. All of its flags work, e.g.
//
//     fff_bench --benchmark_filter='(layer/path_1x11/.*|dense_4095/.*)/h768/b(1|64)/warm/(uniform/)?real'
//               --benchmark_repetitions=9 --benchmark_enable_random_interleaving=true
//               --benchmark_report_aggregates_only=true --benchmark_format=json
//
// Exit status: 0; 1 if an output was wrong; 2 for arguments or files that make no sense.
#include "bench/peers.h"
#include "bench/setting.h"

#include <exception>
#include <iostream>
#include <set>

namespace {

// What a filter can name.
void explain_names() {
    auto list = [](const char *what, const std::set<std::string> &names) {
        std::cerr << what;
        for (const std::string &name : names) {
            std::cerr << " " << name;
        }
        std::cerr << "\n";
    };
    std::set<std::string> isas, others, shapes, peers;
    for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
        bool usable = fff_isa_usable(static_cast<fff_isa>(isa)) == FFF_OK;
        (usable ? isas : others).insert(fff_isa_name(static_cast<fff_isa>(isa)));
    }
    for (const bench::Shape &shape : bench::shapes()) {
        shapes.insert(shape.name());
    }
    for (const std::unique_ptr<bench::Peer> &peer : bench::find_peers()) {
        peers.insert(peer->name());
    }
    std::cerr << "fff_bench: no benchmark has such a name. A filter is a regular expression; the names are\n"
                 "  layer/SHAPE/ISA/hWIDTH/bBATCH/TEMPERATURE/ROUTES\n"
                 "  layer_stored/path_1x11/STORED/ISA/hWIDTH/bBATCH/warm/ROUTES\n"
                 "  limit_stored/path_1x11/STORED/{plain,avx2...}/hWIDTH/bBATCH/warm/ROUTES\n"
                 "  limit/SHAPE/{plain,avx2,avx512,avx512_ahead,avx512_meanwhile}/hWIDTH/bBATCH/TEMPERATURE/ROUTES\n"
                 "  layer_threads/SHAPE/ISA/h768/bBATCH/warm/ROUTES/{t1,t2,t4...}\n"
                 "  fff_by_blas/{openblas,mkl}/SHAPE/hWIDTH/bBATCH/warm/ROUTES\n"
                 "  forest/leaf_TREESxDEPTH_wWIDTH/{layer,path_TREESxDEPTH}/ISA/h768/bBATCH\n"
                 "  forest/32x0+4x8/{layer,apart}/ISA/h768/bBATCH\n"
                 "  dense_NEURONS/PEER/hWIDTH/bBATCH/TEMPERATURE\n"
                 "  dense_{bf16,i8}_NEURONS/PEER/hWIDTH/bBATCH/TEMPERATURE\n"
                 "  node_dot/TYPE/ISA/hWIDTH/{t1,t4,t16}/{L1,L2,L3,DRAM}\n"
                 "  two_levels/TYPE/ISA/hWIDTH/t16/{L1,L2,L3,DRAM}\n"
                 "  descend/TYPE/ISA/hWIDTH/{L1,L2,L3,DRAM}\n"
                 "  accumulate/TYPE/ISA/hWIDTH/{L1,L2,L3,DRAM}\n"
                 "  roots/TYPE/ISA/hWIDTH/{L1,L2,L3,DRAM}\n"
                 "  add_roots/TYPE/ISA/hWIDTH/{L1,L2,L3,DRAM}\n"
                 "  activate/f32/ISA/{gelu,gelu_tanh,relu,relu2,silu,identity}/{n12,n4096}\n"
                 "  peak_fma/ISA\n"
                 "with\n";
    list("  ISA         ", isas);
    list("              not usable on this machine or not built:", others);
    list("  SHAPE       ", shapes);
    list("  PEER        ", peers);
    std::cerr << "  STORED       bf16, bf16+i8-exact, i8 or f16: what the layer stores\n"
                 "  TYPE         f32, bf16, f16 or i8: of the rows\n"
                 "  WIDTH        256, 512, 768, 1024, 2048 or 4096 for path_1x11; else 768\n"
                 "  BATCH        1, 2, 4 and so on to 16384\n"
                 "  TEMPERATURE  warm or cold; hot for layer/.../one_path, up to the batch that L2 holds\n"
                 "  ROUTES       uniform, one_path (not cold); recorded with FFF_BENCH_ROUTES=FILE\n"
                 "--benchmark_list_tests lists all.\n";
}

} // namespace

int main(int argc, char **argv) {
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) {
        return 2;
    }
    int cpu = bench::pin_to_one_cpu();
    try {
        bench::read_recorded_routes();
        bench::add_context(cpu);
        benchmark::AddCustomContext("dense_peers", bench::describe_peers());
        benchmark::AddCustomContext("narrow_peers", bench::describe_narrow_peers());
        bench::register_kernels();
        bench::register_layers();
        bench::register_limits();
        bench::register_forests();
        bench::register_training();
        // All, said so that Google Benchmark 1.7 does not take a time quadratic in their number.
        std::string filter = benchmark::GetBenchmarkFilter();
        if (benchmark::RunSpecifiedBenchmarks(filter.empty() || filter == "all" ? "^" : filter) == 0) {
            explain_names();
            return 2;
        }
    } catch (const std::exception &error) {
        std::cerr << "fff_bench: " << error.what() << "\n";
        return 2;
    }
    benchmark::Shutdown();
    return bench::any_wrong_output() ? 1 : 0;
}
