#include "dispatch/dispatch.h"

#include "config.h"

#include <stdlib.h>
#include <string.h>
#if FFF_ARCH_X86_64
#include <cpuid.h>
#elif FFF_ARCH_ARM64 && defined(__linux__)
#include <sys/auxv.h>
#elif FFF_ARCH_ARM64 && defined(__APPLE__)
#include <sys/sysctl.h>
#elif FFF_ARCH_ARM64 && defined(_WIN32)
#include <windows.h>
#endif

/* One row an instruction set, indexed by fff_isa; `variant` has other kernels for int8 rows, for CPUs that have more.
 */
static const struct {
    const char *name;
    const struct fff_kernels *kernels, *variant;
} isas[FFF_ISA_COUNT] = {
    [FFF_ISA_AUTO] = {"auto", NULL, NULL},
    [FFF_ISA_GENERIC] = {"generic", &fff_kernels_generic, NULL},
#if FFF_BUILT_X86_AVX2
    [FFF_ISA_X86_AVX2] = {"x86_avx2", &fff_kernels_x86_avx2, &fff_kernels_x86_avx2_vnni},
#else
    [FFF_ISA_X86_AVX2] = {"x86_avx2", NULL, NULL},
#endif
#if FFF_BUILT_X86_AVX512
    [FFF_ISA_X86_AVX512] = {"x86_avx512", &fff_kernels_x86_avx512, &fff_kernels_x86_avx512_vnni},
#else
    [FFF_ISA_X86_AVX512] = {"x86_avx512", NULL, NULL},
#endif
#if FFF_BUILT_ARM_NEON
    [FFF_ISA_ARM_NEON] = {"arm_neon", &fff_kernels_arm_neon, &fff_kernels_arm_neon_dotprod},
#else
    [FFF_ISA_ARM_NEON] = {"arm_neon", NULL, NULL},
#endif
};

static bool is_isa(fff_isa isa) {
    return (unsigned)isa < FFF_ISA_COUNT;
}

/* ---- CPU features ---------------------------------------------------------------------------- */

/* What this architecture's instruction sets need, each with the question whether it is there; ends with a row without a
 * name. */
struct feature {
    const char *name;
    bool (*present)(void);
    fff_isa isa;
    bool optional; /* only the variant needs it */
};

#if FFF_ARCH_X86_64

/* The compiler's own support asks CPUID and, through XGETBV, whether the operating system saves the registers. Its
 * state is set up before main() by the compiler's runtime; asking again is harmless and serves callers that run
 * earlier. It wants literal names. */
#define FFF_CPU_SUPPORTS(feature) (__builtin_cpu_init(), __builtin_cpu_supports(feature) != 0)

static bool has_avx2(void) {
    return FFF_CPU_SUPPORTS("avx2");
}
static bool has_fma(void) {
    return FFF_CPU_SUPPORTS("fma");
}
static bool has_avx512f(void) {
    return FFF_CPU_SUPPORTS("avx512f");
}
static bool has_avx512dq(void) {
    return FFF_CPU_SUPPORTS("avx512dq");
}
static bool has_avx512bw(void) {
    return FFF_CPU_SUPPORTS("avx512bw");
}
static bool has_avx512vl(void) {
    return FFF_CPU_SUPPORTS("avx512vl");
}

static bool has_avx512vnni(void) {
    return FFF_CPU_SUPPORTS("avx512vnni");
}

/* CPUID's bits that older compilers have no name for. The registers are those of AVX, which the system must save. */
static bool has_f16c(void) {
    unsigned eax, ebx, ecx, edx;
    return FFF_CPU_SUPPORTS("avx") && __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx >> 29 & 1) != 0;
}
static bool has_avxvnni(void) {
    unsigned eax, ebx, ecx, edx; /* of leaf 7, whose first part tells in EAX how many more there are */
    return FFF_CPU_SUPPORTS("avx2") && __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && eax >= 1 &&
           __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax >> 4 & 1) != 0;
}

static const struct feature cpu_features[] = {
    {"avx2", has_avx2, FFF_ISA_X86_AVX2, false},
    {"fma", has_fma, FFF_ISA_X86_AVX2, false},
    {"f16c", has_f16c, FFF_ISA_X86_AVX2, false},
    {"avxvnni", has_avxvnni, FFF_ISA_X86_AVX2, true},
    {"avx512f", has_avx512f, FFF_ISA_X86_AVX512, false},
    {"avx512dq", has_avx512dq, FFF_ISA_X86_AVX512, false},
    {"avx512bw", has_avx512bw, FFF_ISA_X86_AVX512, false},
    {"avx512vl", has_avx512vl, FFF_ISA_X86_AVX512, false},
    {"avx512vnni", has_avx512vnni, FFF_ISA_X86_AVX512, true},
    {NULL, NULL, FFF_ISA_AUTO, false},
};

#elif FFF_ARCH_ARM64

static bool has_asimd(void) {
#if defined(__linux__)
    return (getauxval(AT_HWCAP) & (1u << 1)) != 0; /* HWCAP_ASIMD */
#else
    return true; /* part of every AArch64 application processor */
#endif
}

static bool has_asimddp(void) {
#if defined(__linux__)
    return (getauxval(AT_HWCAP) & (1u << 20)) != 0; /* HWCAP_ASIMDDP */
#elif defined(__APPLE__)
    /* All Macs have it; of iPhones and iPads those since the A13. Systems before macOS 12 and iOS 15 do not tell. */
    int there = 0;
    size_t size = sizeof there;
    return sysctlbyname("hw.optional.arm.FEAT_DotProd", &there, &size, NULL, 0) == 0 && there != 0;
#elif defined(_WIN32)
    return IsProcessorFeaturePresent(43) != 0; /* PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE */
#elif defined(__ARM_FEATURE_DOTPROD)
    return true; /* the compiler was told so */
#else
    return false; /* the bits are the same without it */
#endif
}

static const struct feature cpu_features[] = {
    {"asimd", has_asimd, FFF_ISA_ARM_NEON, false},
    {"asimddp", has_asimddp, FFF_ISA_ARM_NEON, true},
    {NULL, NULL, FFF_ISA_AUTO, false},
};

#else

static const struct feature cpu_features[] = {{NULL, NULL, FFF_ISA_AUTO, false}};

#endif

size_t fff_cpu_l2_bytes(void) {
#if FFF_ARCH_X86_64
    unsigned eax, ebx, ecx, edx; /* AMD's leaf, which Intel has, too: kilobytes in the upper half of ECX */
    return __get_cpuid(0x80000006, &eax, &ebx, &ecx, &edx) != 0 ? (size_t)(ecx >> 16) << 10 : 0;
#else
    return 0;
#endif
}

static size_t list_features(fff_cpu_feature *features, size_t capacity, bool optional) {
    size_t count = 0;
    for (const struct feature *feature = cpu_features; feature->name != NULL; feature++) {
        if (feature->optional == optional && count++ < capacity) {
            features[count - 1] = (fff_cpu_feature){feature->name, feature->isa, feature->present()};
        }
    }
    return count;
}

size_t fff_cpu_features(fff_cpu_feature *features, size_t capacity) {
    return list_features(features, capacity, false);
}

size_t fff_cpu_optional_features(fff_cpu_feature *features, size_t capacity) {
    return list_features(features, capacity, true);
}

/* Whether the CPU has all that an instruction set's rows above name, or that its variant needs besides. */
static bool has_features_of(fff_isa isa, bool optional) {
    for (const struct feature *feature = cpu_features; feature->name != NULL; feature++) {
        if (feature->isa == isa && feature->optional == optional && !feature->present()) {
            return false;
        }
    }
    return true;
}

/* ---- Instruction sets ------------------------------------------------------------------------ */

const struct fff_kernels *fff_kernels_of(fff_isa isa) {
    if (!is_isa(isa)) {
        return NULL;
    }
    return isas[isa].variant != NULL && has_features_of(isa, true) ? isas[isa].variant : isas[isa].kernels;
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
    bool usable =
        has_features_of(isa, false) && (isa != FFF_ISA_X86_AVX512 || has_features_of(FFF_ISA_X86_AVX2, false));
    return usable ? FFF_OK : FFF_ERROR_ISA_NOT_SUPPORTED;
}

fff_status fff_isa_choose(fff_isa requested, fff_isa *chosen) {
    if (chosen == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    if (!is_isa(requested)) {
        return FFF_ERROR_OPTION;
    }
    const char *named = requested == FFF_ISA_AUTO ? getenv("FFF_ISA") : NULL;
    if (named != NULL && named[0] != '\0') {
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
    fff_isa best = FFF_ISA_GENERIC; /* of those that are usable, the one with the highest number */
    for (int i = FFF_ISA_GENERIC + 1; i < FFF_ISA_COUNT; i++) {
        if (fff_isa_usable((fff_isa)i) == FFF_OK) {
            best = (fff_isa)i;
        }
    }
    *chosen = best;
    return FFF_OK;
}
