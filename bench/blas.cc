#include "bench/blas.h"

#include "bench/load.h"

namespace bench {

// Debian's, or that of the scipy-openblas32 wheel, whose symbols have a prefix.
const Cblas *openblas() {
    static Cblas blas;
    static const bool found = [] {
        void *library =
            open_library("FFF_BENCH_OPENBLAS", {"libscipy_openblas.so", "libopenblas.so.0", "libopenblas.so"});
        if (library == nullptr) {
            return false;
        }
        for (std::string prefix : {"", "scipy_"}) {
            void (*set_threads)(int) = nullptr;
            char *(*config)() = nullptr;
            if (load(library, (prefix + "cblas_sgemm").c_str(), blas.sgemm) &&
                load(library, (prefix + "cblas_sgemv").c_str(), blas.sgemv) &&
                load(library, (prefix + "cblas_sdot").c_str(), blas.sdot) &&
                load(library, (prefix + "cblas_saxpy").c_str(), blas.saxpy) &&
                load(library, (prefix + "openblas_set_num_threads").c_str(), set_threads) &&
                load(library, (prefix + "openblas_get_config").c_str(), config)) {
                set_threads(1);
                blas.name = "openblas";
                blas.version = config();
                return true;
            }
        }
        return false;
    }();
    return found ? &blas : nullptr;
}

const Cblas *mkl() {
    static Cblas blas;
    static const bool found = [] {
        setenv("MKL_THREADING_LAYER", "SEQUENTIAL", 0); // read when the library first computes
        void *library = open_library("FFF_BENCH_MKL", {"libmkl_rt.so.3", "libmkl_rt.so.2", "libmkl_rt.so"});
        void (*set_threads)(int) = nullptr;
        void (*version)(char *, int) = nullptr;
        if (library == nullptr || !load(library, "cblas_sgemm", blas.sgemm) ||
            !load(library, "cblas_sgemv", blas.sgemv) || !load(library, "cblas_sdot", blas.sdot) ||
            !load(library, "cblas_saxpy", blas.saxpy) || !load(library, "MKL_Set_Num_Threads", set_threads)) {
            return false;
        }
        load(library, "cblas_sgemm_pack_get_size", blas.pack_size);
        load(library, "cblas_sgemm_pack", blas.pack);
        load(library, "cblas_sgemm_compute", blas.compute);
        set_threads(1);
        char text[200] = "MKL of unknown version";
        if (load(library, "MKL_Get_Version_String", version) || load(library, "mkl_get_version_string", version)) {
            version(text, sizeof text);
        }
        blas.name = "mkl";
        blas.version = text;
        return true;
    }();
    return found ? &blas : nullptr;
}

std::vector<const Cblas *> found_blas() {
    std::vector<const Cblas *> found;
    for (const Cblas *blas : {openblas(), mkl()}) {
        if (blas != nullptr) {
            found.push_back(blas);
        }
    }
    return found;
}

} // namespace bench
