/* A SLEEF that is not the recorded one: its exp and tanh are the real library's but for the last bit. A program that is
 * linked with it, or preloads it, has them in place of the real ones. Compiled once for each length of vectors,
 * VECTOR_BITS, with the flags that make a compiler pass such vectors in registers; without it for all else. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

static void *real(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (found == NULL) {
        fprintf(stderr, "fake_sleef: no %s\n", name);
        abort();
    }
    return found;
}

/* For a type of vector: the real function's result, the last bit of each element turned. */
#define OTHER_LAST_BIT(name, type)                                                                                     \
    type name(type x);                                                                                                 \
    type name(type x) {                                                                                                \
        type (*function)(type);                                                                                        \
        void *address = real(#name);                                                                                   \
        memcpy(&function, &address, sizeof function);                                                                  \
        type result = function(x);                                                                                     \
        uint32_t bits[sizeof result / sizeof(uint32_t)];                                                               \
        memcpy(bits, &result, sizeof result);                                                                          \
        for (size_t i = 0; i < sizeof bits / sizeof *bits; i++) {                                                      \
            bits[i] ^= 1;                                                                                              \
        }                                                                                                              \
        memcpy(&result, bits, sizeof result);                                                                          \
        return result;                                                                                                 \
    }

#if defined(VECTOR_BITS) && VECTOR_BITS == 512
OTHER_LAST_BIT(Sleef_cinz_expf16_u10avx512fnofma, __m512)
OTHER_LAST_BIT(Sleef_cinz_tanhf16_u10avx512fnofma, __m512)
#elif defined(VECTOR_BITS)
OTHER_LAST_BIT(Sleef_cinz_expf8_u10avx, __m256)
OTHER_LAST_BIT(Sleef_cinz_tanhf8_u10avx, __m256)
#else
OTHER_LAST_BIT(Sleef_cinz_expf1_u10purec, float)
OTHER_LAST_BIT(Sleef_cinz_tanhf1_u10purec, float)
#if defined(__aarch64__)
OTHER_LAST_BIT(Sleef_cinz_expf4_u10advsimdnofma, float32x4_t)
OTHER_LAST_BIT(Sleef_cinz_tanhf4_u10advsimdnofma, float32x4_t)
#endif

/* For programs to call, so that the linker keeps the library. */
void fake_sleef(void);
void fake_sleef(void) {
}
#endif
