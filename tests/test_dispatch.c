/* Choosing an instruction set. The environment's FFF_EXPECT_ISA, when set, is what this machine (or the
 * emulated one the tests run on) must choose. */
#include "tests/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void test_names(void **unused) {
    (void)unused;
    const char *names[FFF_ISA_COUNT] = {"auto", "generic", "x86_avx2", "x86_avx512", "arm_neon"};
    for (int i = 0; i < FFF_ISA_COUNT; i++) {
        fff_isa isa;
        assert_string_equal(fff_isa_name((fff_isa)i), names[i]);
        assert_int_equal(fff_isa_by_name(names[i], &isa), FFF_OK);
        assert_int_equal(isa, i);
    }
    assert_null(fff_isa_name((fff_isa)FFF_ISA_COUNT));
    assert_null(fff_isa_name((fff_isa)-1));
    fff_isa untouched = FFF_ISA_ARM_NEON;
    assert_int_equal(fff_isa_by_name("sse", &untouched), FFF_ERROR_ISA_UNKNOWN);
    assert_int_equal(fff_isa_by_name("", &untouched), FFF_ERROR_ISA_UNKNOWN);
    assert_int_equal(untouched, FFF_ISA_ARM_NEON);
}

static void test_features_decide(void **unused) {
    (void)unused;
    fff_cpu_feature features[32];
    size_t count = fff_cpu_features(features, 32);
    assert_true(count <= 32);
    assert_int_equal(fff_cpu_features(NULL, 0), count);
    assert_int_equal(fff_isa_usable(FFF_ISA_GENERIC), FFF_OK);
    for (size_t i = 0; i < count; i++) {
        fff_status usable = fff_isa_usable(features[i].isa);
        if (!features[i].present && usable != FFF_ERROR_ISA_NOT_BUILT) {
            assert_int_equal(usable, FFF_ERROR_ISA_NOT_SUPPORTED);
        }
    }
}

/* An instruction set is usable if it is built and every feature of it is present, for AVX-512 those of AVX2, too; a
 * feature names a vector set. */
static void test_all_features_of_an_isa(void **unused) {
    (void)unused;
    size_t count = fff_cpu_features(NULL, 0);
    fff_cpu_feature *features = test_allocate(count, sizeof *features);
    assert_int_equal(fff_cpu_features(features, count), count);
    for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
        size_t needed = 0, present = 0;
        for (size_t i = 0; i < count; i++) {
            bool of_avx2 = isa == FFF_ISA_X86_AVX512 && features[i].isa == FFF_ISA_X86_AVX2;
            if (features[i].isa == (fff_isa)isa || of_avx2) {
                needed++;
                present += features[i].present != 0;
            }
        }
        fff_status usable = fff_isa_usable((fff_isa)isa);
        if (usable != FFF_ERROR_ISA_NOT_BUILT) {
            assert_int_equal(usable, present == needed ? FFF_OK : FFF_ERROR_ISA_NOT_SUPPORTED);
            assert_true(isa == FFF_ISA_GENERIC || needed > 0);
        }
    }
    free(features);
}

/* Room for any number of features, fewer or more than there are: no more is written, and the rest is as it was. */
static void test_feature_capacity(void **unused) {
    (void)unused;
    size_t count = fff_cpu_features(NULL, 0);
    for (size_t capacity = 0; capacity < count + 3; capacity++) {
        struct guarded room = guarded_allocate(capacity * sizeof(fff_cpu_feature));
        fff_cpu_feature *features = room.data;
        memset(room.data, 0x5a, room.size);
        assert_int_equal(fff_cpu_features(features, capacity), count);
        for (size_t i = 0; i < capacity; i++) {
            fff_cpu_feature untouched;
            memset(&untouched, 0x5a, sizeof untouched);
            if (i < count) {
                assert_true(strlen(features[i].name) > 0);
                assert_true(features[i].present == 0 || features[i].present == 1);
            } else {
                assert_memory_equal(&features[i], &untouched, sizeof untouched);
            }
        }
        guarded_free(&room);
    }
}

/* Whether the kernel lists a feature of the CPU: a word of the first line that begins with "flags" or "Features". */
static bool is_listed(const char *feature) {
    static char line[8192];
    FILE *file = fopen("/proc/cpuinfo", "r");
    bool begun = false, listed = false;
    while (file != NULL && !begun && fgets(line, sizeof line, file) != NULL) {
        begun = strncmp(line, "flags", 5) == 0 || strncmp(line, "Features", 8) == 0;
    }
    if (file != NULL) {
        fclose(file);
    }
    for (const char *word = begun ? strtok(line, " \t\n") : NULL; word != NULL; word = strtok(NULL, " \t\n")) {
        listed = listed || strcmp(word, feature) == 0;
    }
    return listed;
}

/* What Linux lists of the CPU is present, and nothing else is, but for what older kernels do not know. An emulated
 * machine has the real one's list. */
static void test_features_are_those_of_the_kernel(void **unused) {
    (void)unused;
    static const struct {
        const char *name, *listed;
        bool always_known;
    } known[] = {
        {"avx2", "avx2", true},         {"fma", "fma", true},           {"f16c", "f16c", true},
        {"avxvnni", "avx_vnni", false}, {"avx512f", "avx512f", true},   {"avx512dq", "avx512dq", true},
        {"avx512bw", "avx512bw", true}, {"avx512vl", "avx512vl", true}, {"avx512vnni", "avx512_vnni", false},
        {"asimd", "asimd", true},       {"asimddp", "asimddp", false},
    };
    fff_cpu_feature features[32];
    size_t count = fff_cpu_features(features, 16);
    count += fff_cpu_optional_features(features + count, 16);
#if defined(__aarch64__)
    bool has_list = is_listed("fp");
#else
    bool has_list = is_listed("fpu");
#endif
    if (getenv("FFF_EXPECT_ISA") != NULL || !has_list) {
        skip(); /* an emulator, or no such list */
    }
    for (size_t i = 0; i < count; i++) {
        size_t k = 0;
        while (strcmp(known[k].name, features[i].name) != 0) {
            k++;
            assert_true(k < sizeof known / sizeof *known);
        }
        bool listed = is_listed(known[k].listed);
        if (listed ? !features[i].present : features[i].present && known[k].always_known) {
            fail_msg("%s is %s, and %s", features[i].name, features[i].present ? "present" : "absent",
                     listed ? "listed" : "not listed");
        }
    }
}

static void test_choice(void **unused) {
    (void)unused;
    fff_isa best;
    test_set_environment("FFF_ISA", NULL);
    assert_int_equal(fff_isa_choose(FFF_ISA_AUTO, &best), FFF_OK);
    for (int i = (int)best + 1; i < FFF_ISA_COUNT; i++) {
        assert_int_not_equal(fff_isa_usable((fff_isa)i), FFF_OK);
    }
    const char *expected = getenv("FFF_EXPECT_ISA");
    if (expected != NULL) {
        assert_string_equal(fff_isa_name(best), expected);
    }
    for (int i = FFF_ISA_GENERIC; i < FFF_ISA_COUNT; i++) {
        fff_isa chosen = FFF_ISA_AUTO;
        fff_status usable = fff_isa_usable((fff_isa)i);
        assert_int_equal(fff_isa_choose((fff_isa)i, &chosen), usable);
        assert_int_equal(chosen, usable == FFF_OK ? i : FFF_ISA_AUTO);
        test_set_environment("FFF_ISA", fff_isa_name((fff_isa)i));
        chosen = FFF_ISA_AUTO;
        assert_int_equal(fff_isa_choose(FFF_ISA_AUTO, &chosen), usable);
        assert_int_equal(chosen, usable == FFF_OK ? i : FFF_ISA_AUTO);
        /* what the caller names goes before what the environment names */
        assert_int_equal(fff_isa_choose(FFF_ISA_GENERIC, &chosen), FFF_OK);
        assert_int_equal(chosen, FFF_ISA_GENERIC);
    }
    fff_isa chosen = FFF_ISA_ARM_NEON;
    test_set_environment("FFF_ISA", "x87");
    assert_int_equal(fff_isa_choose(FFF_ISA_AUTO, &chosen), FFF_ERROR_ISA_UNKNOWN);
    assert_int_equal(chosen, FFF_ISA_ARM_NEON);
    const char *open[] = {"", "auto"};
    for (int i = 0; i < 2; i++) {
        test_set_environment("FFF_ISA", open[i]);
        assert_int_equal(fff_isa_choose(FFF_ISA_AUTO, &chosen), FFF_OK);
        assert_int_equal(chosen, best);
    }
    test_set_environment("FFF_ISA", NULL);
}

static void test_versions(void **unused) {
    (void)unused;
    char version[32];
    snprintf(version, sizeof version, "%d.%d.%d", FFF_VERSION_MAJOR, FFF_VERSION_MINOR, FFF_VERSION_PATCH);
    assert_string_equal(fff_version(), version);
    assert_true(strlen(fff_sleef_version()) > 0);
}

/* Each status says something of its own, with a word for what is wrong; a number that is none says so. */
static void test_status_texts(void **unused) {
    (void)unused;
    const char *unknown = fff_status_text((fff_status)-1);
    enum { STATUSES = FFF_ERROR_PARTS + 1 };
    static const char *const words[STATUSES] = {
        [FFF_OK] = "success",
        [FFF_ERROR_NULL_POINTER] = "NULL",
        [FFF_ERROR_STRUCT_SIZE] = "struct_size",
        [FFF_ERROR_SHAPE] = "depth",
        [FFF_ERROR_OPTION] = "option",
        [FFF_ERROR_OVERFLOW] = "too large to address",
        [FFF_ERROR_STRIDE] = "stride",
        [FFF_ERROR_ALIGNMENT] = "aligned",
        [FFF_ERROR_OVERLAP] = "share memory",
        [FFF_ERROR_WORKSPACE] = "workspace is too small",
        [FFF_ERROR_NODE] = "node index",
        [FFF_ERROR_ISA_UNKNOWN] = "no instruction set has that name",
        [FFF_ERROR_ISA_NOT_BUILT] = "built without",
        [FFF_ERROR_ISA_NOT_SUPPORTED] = "this machine",
        [FFF_ERROR_OUT_OF_MEMORY] = "out of memory",
        [FFF_ERROR_RUNNER] = "runner",
        [FFF_ERROR_SLEEF] = "SLEEF",
        [FFF_ERROR_WEIGHT] = "a weight does not fit",
        [FFF_ERROR_SCALE] = "scales",
        [FFF_ERROR_NUMBER] = "threshold",
        [FFF_ERROR_PARTS] = "parts",
    };
    assert_string_equal(fff_status_text((fff_status)STATUSES), unknown);
    for (int i = 0; i < STATUSES; i++) {
        const char *text = fff_status_text((fff_status)i);
        assert_string_not_equal(text, unknown);
        assert_non_null(strstr(text, words[i]));
        for (int j = 0; j < i; j++) {
            assert_string_not_equal(text, fff_status_text((fff_status)j));
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_features_decide),
        cmocka_unit_test(test_all_features_of_an_isa),
        cmocka_unit_test(test_feature_capacity),
        cmocka_unit_test(test_features_are_those_of_the_kernel),
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_status_texts),
    };
    return cmocka_run_group_tests_name("dispatch", tests, NULL, NULL);
}
