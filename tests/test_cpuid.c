/* Which features are found on which x86-64 CPU: CPUs are made up, so that every one is tried on any. */
#include "tests/support.h"

#include <cpuid.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- A CPU ----------------------------------------------------------------------------------------- */

enum { MOST_NAMES = 2 };
static struct {
    const char *names[MOST_NAMES]; /* of what the compiler's support says is there, the system's part included */
    unsigned ecx_1, eax_7_0, eax_7_1, ecx_l2;
} cpu;

static int supports(const char *name) {
    int found = 0;
    for (size_t i = 0; i < MOST_NAMES; i++) {
        found = found || (cpu.names[i] != NULL && strcmp(cpu.names[i], name) == 0);
    }
    return found;
}

static int ask(unsigned leaf, unsigned part, unsigned *eax, unsigned *ecx) {
    *eax = leaf == 7 ? (part == 0 ? cpu.eax_7_0 : cpu.eax_7_1) : 0;
    *ecx = leaf == 1 ? cpu.ecx_1 : leaf == 0x80000006 ? cpu.ecx_l2 : 0;
    return 1;
}

#define __builtin_cpu_init() ((void)0)
#define __builtin_cpu_supports(name) supports(name)
#define __get_cpuid(leaf, eax, ebx, ecx, edx) (*(ebx) = *(edx) = 0, ask(leaf, 0, eax, ecx))
#define __get_cpuid_count(leaf, part, eax, ebx, ecx, edx) (*(ebx) = *(edx) = 0, ask(leaf, part, eax, ecx))
#include "dispatch/dispatch.c"

/* ---- What is found of it --------------------------------------------------------------------------- */

/* These features are present, in their order, each followed by a space; no others. */
static void expect(const char *expected) {
    fff_cpu_feature features[32];
    size_t count = fff_cpu_features(features, 16);
    count += fff_cpu_optional_features(features + count, 16);
    char present[256] = "";
    for (size_t i = 0; i < count; i++) {
        if (features[i].present != 0) {
            strcat(strcat(present, features[i].name), " ");
        }
    }
    assert_string_equal(present, expected);
}

static void test_names(void **unused) {
    (void)unused;
    static const char *const names[] = {"avx2", "fma", "avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512vnni"};
    memset(&cpu, 0, sizeof cpu);
    expect("");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char expected[16];
        snprintf(expected, sizeof expected, "%s ", names[i]);
        cpu.names[0] = names[i];
        expect(expected);
    }
}

/* Bits of CPUID count where the system saves the registers that they need. */
static void test_bits(void **unused) {
    (void)unused;
    memset(&cpu, 0, sizeof cpu);
    cpu.ecx_1 = 1u << 29;
    expect("");
    cpu.names[0] = "avx";
    expect("f16c ");
    cpu.ecx_1 = ~cpu.ecx_1;
    expect("");
    cpu.ecx_1 = 0;
    cpu.eax_7_0 = 1;
    cpu.eax_7_1 = 1u << 4;
    expect("");
    cpu.names[1] = "avx2";
    expect("avx2 avxvnni ");
    cpu.eax_7_1 = ~cpu.eax_7_1;
    expect("avx2 ");
    cpu.eax_7_1 = 1u << 4;
    cpu.eax_7_0 = 0; /* there is no such part */
    expect("avx2 ");
}

static void test_cache(void **unused) {
    (void)unused;
    memset(&cpu, 0, sizeof cpu);
    assert_int_equal(fff_cpu_l2_bytes(), 0);
    cpu.ecx_l2 = 512u << 16 | 0x6140;
    assert_int_equal(fff_cpu_l2_bytes(), 512 * 1024);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_bits),
        cmocka_unit_test(test_cache),
    };
    return cmocka_run_group_tests_name("cpuid", tests, NULL, NULL);
}
