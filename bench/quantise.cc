#include "bench/quantise.h"

#include <fff/fff.h>

#include <algorithm>
#include <cmath>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace bench {

#if defined(__x86_64__)
namespace {

// The largest size of a multiple of 32 values.
__attribute__((target("avx2"))) float largest_avx2(const float *values, size_t count) {
    __m256 most[4] = {}, sign = _mm256_set1_ps(-0.0f);
    for (size_t i = 0; i < count; i += 32) {
        for (size_t v = 0; v < 4; v++) {
            most[v] = _mm256_max_ps(most[v], _mm256_andnot_ps(sign, _mm256_loadu_ps(values + i + 8 * v)));
        }
    }
    alignas(32) float lanes[8];
    _mm256_store_ps(lanes, _mm256_max_ps(_mm256_max_ps(most[0], most[1]), _mm256_max_ps(most[2], most[3])));
    return *std::max_element(lanes, lanes + 8);
}

__attribute__((target("avx2"))) void quantise_avx2(const float *values, size_t count, float factor, int8_t *integers) {
    __m256 factors = _mm256_set1_ps(factor);
    __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7); // packing works in each half
    for (size_t i = 0; i < count; i += 32) {
        __m256i whole[4];
        for (size_t v = 0; v < 4; v++) {
            whole[v] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(values + i + 8 * v), factors));
        }
        __m256i bytes =
            _mm256_packs_epi16(_mm256_packs_epi32(whole[0], whole[1]), _mm256_packs_epi32(whole[2], whole[3]));
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(integers + i), _mm256_permutevar8x32_epi32(bytes, order));
    }
}

} // namespace
#endif

float quantise(const float *values, size_t count, int8_t *integers) {
    size_t whole = 0; // what vectors do
    float largest = 0;
#if defined(__x86_64__)
    static const bool has_avx2 = fff_isa_usable(FFF_ISA_X86_AVX2) == FFF_OK;
    whole = has_avx2 ? count / 32 * 32 : 0;
    largest = has_avx2 ? largest_avx2(values, whole) : 0;
#endif
    for (size_t i = whole; i < count; i++) {
        largest = std::max(largest, std::fabs(values[i]));
    }
    float factor = largest > 0 ? 127 / largest : 0;
#if defined(__x86_64__)
    if (has_avx2) {
        quantise_avx2(values, whole, factor, integers);
    }
#endif
    for (size_t i = whole; i < count; i++) {
        integers[i] = static_cast<int8_t>(std::rint(values[i] * factor));
    }
    return largest > 0 ? largest / 127 : 1;
}

} // namespace bench
