#include "tools/machine/blas_kernels.h"

#include <fff/fff.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/auxv.h>

/* What kernels and CPUs can use, from less to more. A name that is not listed is left alone: it may be a newer CPU's.
 */
enum level { BASELINE, AVX, AVX2, AVX512, NEON, SVE };
static const char *const level_names[] = {"", "AVX", "AVX2", "AVX-512", "NEON", "SVE"};

/* OpenBLAS's names of its kernels. */
static const struct {
    const char *name;
    enum level level;
} kernels[] = {
    {"Unknown", BASELINE},   {"Generic", BASELINE},      {"Katmai", BASELINE},    {"Coppermine", BASELINE},
    {"Northwood", BASELINE}, {"Prescott", BASELINE},     {"Banias", BASELINE},    {"Core2", BASELINE},
    {"Penryn", BASELINE},    {"Dunnington", BASELINE},   {"Nehalem", BASELINE},   {"Athlon", BASELINE},
    {"Opteron", BASELINE},   {"Opteron_SSE3", BASELINE}, {"Barcelona", BASELINE}, {"Bobcat", BASELINE},
    {"Nano", BASELINE},      {"Atom", BASELINE},         {"Sandybridge", AVX},    {"Bulldozer", AVX},
    {"Piledriver", AVX},     {"Steamroller", AVX},       {"Excavator", AVX},      {"Haswell", AVX2},
    {"Zen", AVX2},           {"armv8", BASELINE},        {"cortexa53", NEON},     {"cortexa55", NEON},
    {"cortexa57", NEON},     {"cortexa72", NEON},        {"cortexa73", NEON},     {"cortexa76", NEON},
    {"falkor", NEON},        {"thunderx", NEON},         {"thunderx2t99", NEON},  {"thunderx3t110", NEON},
    {"tsv110", NEON},        {"emag8180", NEON},         {"neoversen1", NEON},    {"vortex", NEON},
    {"ft2000", NEON},
};

#if defined(__aarch64__)
static enum level cpu_level(void) {
    enum { SVE_BIT = 1 << 22 }; /* HWCAP_SVE, which older headers lack */
    return (getauxval(AT_HWCAP) & SVE_BIT) != 0 ? SVE : NEON;
}
#else
/* Whether the CPU has all features of an instruction set, be it built into this library or not. */
static bool cpu_has(fff_isa isa) {
    enum { MOST_FEATURES = 32 };
    fff_cpu_feature features[MOST_FEATURES];
    size_t count = fff_cpu_features(features, MOST_FEATURES), of_isa = 0, present = 0;
    for (size_t i = 0; i < count && i < MOST_FEATURES; i++) {
        of_isa += features[i].isa == isa;
        present += features[i].isa == isa && features[i].present;
    }
    return of_isa > 0 && present == of_isa;
}

static enum level cpu_level(void) {
    return cpu_has(FFF_ISA_X86_AVX512) ? AVX512 : cpu_has(FFF_ISA_X86_AVX2) ? AVX2 : BASELINE;
}
#endif

/* Kernels to ask for where OpenBLAS does not see that it could use them. */
static const char *better_kernels(enum level cpu) {
    return cpu == AVX512 ? "SkylakeX" : cpu == AVX2 ? "Haswell" : cpu == SVE ? "NEOVERSEV1" : "NEOVERSEN1";
}

bool blas_shortcoming(const struct fff_blas *blas, char *text, size_t size) {
    *text = '\0';
    if (blas->version == NULL) {
        snprintf(text, size, "The dense side is not OpenBLAS but %s, which may be slow.", blas->file);
        return true;
    }
    enum level cpu = cpu_level();
    for (size_t i = 0; blas->kernels != NULL && i < sizeof kernels / sizeof *kernels; i++) {
        if (strcasecmp(blas->kernels, kernels[i].name) == 0 && kernels[i].level < cpu) {
            const char *asked = getenv("OPENBLAS_CORETYPE");
            int used =
                snprintf(text, size,
                         "OpenBLAS chose its kernels for %s, though this CPU has %s: a better dense side is faster; ",
                         blas->kernels, level_names[cpu]);
            if (used > 0 && (size_t)used < size && asked != NULL && *asked != '\0') {
                snprintf(text + used, size - (size_t)used, "OPENBLAS_CORETYPE=%.32s asks for them.", asked);
            } else if (used > 0 && (size_t)used < size) {
                snprintf(text + used, size - (size_t)used, "try OPENBLAS_CORETYPE=%s.", better_kernels(cpu));
            }
            return true;
        }
    }
    return false;
}
