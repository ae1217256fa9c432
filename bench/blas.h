// CBLAS from shared libraries, loaded at run time, so that the harness runs with whatever is found.
#ifndef FFF_BENCH_BLAS_H
#define FFF_BENCH_BLAS_H

#include <cstddef>
#include <string>
#include <vector>

namespace bench {

// With 32-bit integers, on one thread.
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
    bool packs() const {
        return pack_size != nullptr && pack != nullptr && compute != nullptr;
    }
};

// The values that CBLAS fixes for its enumerations, the same in every library; the last two are MKL's.
enum { CBLAS_ROW_MAJOR = 101, CBLAS_NO_TRANSPOSE = 111, CBLAS_TRANSPOSE = 112 };
enum { CBLAS_PACKED = 151, CBLAS_PACK_B = 162 };

// A library, or null. FFF_BENCH_OPENBLAS and FFF_BENCH_MKL name the shared libraries where the loader does not find
// them, or others are wanted.
const Cblas *openblas();
const Cblas *mkl();
std::vector<const Cblas *> found_blas();

} // namespace bench

#endif
