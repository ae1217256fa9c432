#include "dispatch/dispatch.h"

#include "config.h"

#include <stdlib.h>
#include <string.h>
#if FFF_ARCH_ARM64 && defined(__linux__)
#include <sys/auxv.h>
#endif

/* One row an instruction set, indexed by fff_isa. */
static const struct {
    const char *name;
    const struct fff_kernels *kernels;
} isas[FFF_ISA_COUNT] = {
    [FFF_ISA_AUTO] = {"auto", NULL},
    [FFF_ISA_GENERIC] = {"generic", &fff_kernels_generic},
#if FFF_BUILT_X86_AVX2
    [FFF_ISA_X86_AVX2] = {"x86_avx2", &fff_kernels_x86_avx2},
#else
    [FFF_ISA_X86_AVX2] = {"x86_avx2", NULL},
#endif
#if FFF_BUILT_X86_AVX512
    [FFF_ISA_X86_AVX512] = {"x86_avx512", &fff_kernels_x86_avx512},
#else
    [FFF_ISA_X86_AVX512] = {"x86_avx512", NULL},
#endif
#if FFF_BUILT_ARM_NEON
    [FFF_ISA_ARM_NEON] = {"arm_neon", &fff_kernels_arm_neon},
#else
    [FFF_ISA_ARM_NEON] = {"arm_neon", NULL},
#endif
};

static bool is_isa(fff_isa isa) {
    return (unsigned)isa < FFF_ISA_COUNT;
}

size_t fff_cpu_features(fff_cpu_feature *features, size_t capacity) {
#if FFF_ARCH_X86_64
    /* The compiler's own support asks CPUID and, through XGETBV, whether the operating system saves
     * the registers. Its state is set up before main() by the compiler's runtime; asking again is
     * harmless and serves callers that run earlier. */
    __builtin_cpu_init();
    const fff_cpu_feature found[] = {
        {"avx2", FFF_ISA_X86_AVX2, __builtin_cpu_supports("avx2") != 0},
        {"fma", FFF_ISA_X86_AVX2, __builtin_cpu_supports("fma") != 0},
        {"avx512f", FFF_ISA_X86_AVX512, __builtin_cpu_supports("avx512f") != 0},
        {"avx512dq", FFF_ISA_X86_AVX512, __builtin_cpu_supports("avx512dq") != 0},
        {"avx512bw", FFF_ISA_X86_AVX512, __builtin_cpu_supports("avx512bw") != 0},
        {"avx512vl", FFF_ISA_X86_AVX512, __builtin_cpu_supports("avx512vl") != 0},
    };
    size_t count = sizeof found / sizeof *found;
#elif FFF_ARCH_ARM64
#if defined(__linux__)
    int asimd = (getauxval(AT_HWCAP) & (1u << 1)) != 0; /* HWCAP_ASIMD */
#else
    int asimd = 1; /* part of every AArch64 application processor */
#endif
    const fff_cpu_feature found[] = {{"asimd", FFF_ISA_ARM_NEON, asimd}};
    size_t count = 1;
#else
    const fff_cpu_feature *found = NULL;
    size_t count = 0;
#endif
    for (size_t i = 0; i < count && i < capacity; i++) {
        features[i] = found[i];
    }
    return count;
}

const struct fff_kernels *fff_kernels_of(fff_isa isa) {
    return is_isa(isa) ? isas[isa].kernels : NULL;
}

const char *fff_isa_name(fff_isa isa) {
    return is_isa(isa) ? isas[isa].name : NULL;
}

fff_status fff_isa_by_name(const char *name, fff_isa *isa) {
    if (name == NULL || isa == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    for (int i = 0; i < FFF_ISA_COUNT; i++) {
        if (strcmp(name, isas[i].name) == 0) {
            *isa = (fff_isa)i;
            return FFF_OK;
        }
    }
    return FFF_ERROR_ISA_UNKNOWN;
}

fff_status fff_isa_usable(fff_isa isa) {
    if (!is_isa(isa) || isa == FFF_ISA_AUTO) {
        return FFF_ERROR_OPTION;
    }
    if (isas[isa].kernels == NULL) {
        return FFF_ERROR_ISA_NOT_BUILT;
    }
    fff_cpu_feature features[8];
    size_t count = fff_cpu_features(features, sizeof features / sizeof *features);
    for (size_t i = 0; i < count; i++) {
        if (features[i].isa == isa && !features[i].present) {
            return FFF_ERROR_ISA_NOT_SUPPORTED;
        }
    }
    return FFF_OK;
}

fff_status fff_isa_choose(fff_isa requested, fff_isa *chosen) {
    if (chosen == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    if (!is_isa(requested)) {
        return FFF_ERROR_OPTION;
    }
    const char *named = getenv("FFF_ISA");
    if (requested == FFF_ISA_AUTO && named != NULL && named[0] != '\0') {
        fff_status status = fff_isa_by_name(named, &requested);
        if (status != FFF_OK) {
            return status;
        }
    }
    if (requested != FFF_ISA_AUTO) {
        fff_status status = fff_isa_usable(requested);
        if (status == FFF_OK) {
            *chosen = requested;
        }
        return status;
    }
    fff_isa best = FFF_ISA_GENERIC;
    for (int i = FFF_ISA_GENERIC + 1; i < FFF_ISA_COUNT; i++) {
        if (fff_isa_usable((fff_isa)i) == FFF_OK) {
            best = (fff_isa)i;
        }
    }
    *chosen = best;
    return FFF_OK;
}
