/* What `fff verify` says of what it found: whether it holds, and whose fault it is. */
#include "tests/support.h"
#include "tools/verify/report.h"

#include <string.h>

/* Of the options' part: there are no options here. */
int usage_error(const struct command *command, const char *format, ...) {
    fail_msg("%s: %s", command->name, format);
    return 2;
}

/* The last sentence, which says whether the library is right. */
static void expect_last(json_t *why, const char *expected) {
    size_t count = json_array_size(why);
    assert_true(count > 0);
    const char *last = json_string_value(json_array_get(why, count - 1));
    if (strstr(last, expected) == NULL) {
        fail_msg("'%s' should contain '%s'", last, expected);
    }
    json_decref(why);
}

/* ---- Layer files ----------------------------------------------------------------------------------- */

enum { ISAS = 2 };

static void test_kernels_hold(void **unused) {
    (void)unused;
    static const struct verdict right = {.dense.tokens = 1};
    struct verdict found[ISAS] = {right, right};
    assert_true(kernels_hold(found, ISAS));
    found[0].expected_mismatches = found[1].expected.output_errors = 1; /* another program's results */
    assert_true(kernels_hold(found, ISAS));
    for (size_t i = 0; i < ISAS; i++) {
        found[i].differing_values = 1;
        assert_false(kernels_hold(found, ISAS));
        found[i] = right;
        found[i].dense.output_errors = 1;
        assert_false(kernels_hold(found, ISAS));
        found[i] = right;
        found[i].dense.unbounded = 1;
        assert_false(kernels_hold(found, ISAS));
        found[i] = right;
        assert_true(kernels_hold(found, ISAS));
    }
}

static void test_layer_file_holds(void **unused) {
    (void)unused;
    struct verdict verdicts[ISAS] = {{.dense.tokens = 1}, {.dense.tokens = 1}};
    struct store_verdict store = {.tokens = 1};
    const struct layer_findings found = {.verdicts = verdicts, .count = ISAS, .store = &store};
    assert_true(layer_file_holds(&found));
    store.differing_outputs = 1;
    assert_false(layer_file_holds(&found));
    store.differing_outputs = 0;
    verdicts[1].differing_values = 1;
    assert_false(layer_file_holds(&found));
}

static void test_layer_file_why(void **unused) {
    (void)unused;
    struct verdict found[ISAS] = {{.isa = FFF_ISA_GENERIC}, {.isa = FFF_ISA_X86_AVX2}};
    json_t *none = layer_file_why(found, ISAS);
    assert_int_equal(json_array_size(none), 0);
    json_decref(none);
    found[0].file.tokens = found[0].file.tokens_wrong = 1;
    expect_last(layer_file_why(found, ISAS), "the file differs, not the library");
    found[1].dense.output_errors = 1;
    expect_last(layer_file_why(found, ISAS), "but do not all lie within a proven bound");
    found[1].differing_values = 1;
    expect_last(layer_file_why(found, ISAS), "(generic, x86_avx2): the library is wrong");
}

/* ---- Models ---------------------------------------------------------------------------------------- */

static void test_model_why(void **unused) {
    (void)unused;
    static const char file[] = "the file differs, not the library", kernels[] = "do not hold by themselves either";
    struct layer_verdicts layers[2] = {{.isas[1].isa = FFF_ISA_X86_AVX2}, {.isas[1].isa = FFF_ISA_X86_AVX2}};
    struct model_verdict verdict = {.isa_count = ISAS, .config.layers = 2, .length = 1, .layers = layers};
    json_t *none = model_why(&verdict);
    assert_int_equal(json_array_size(none), 0);
    json_decref(none);
    verdict.runs[0].file_hidden = (struct difference){1, 1};
    expect_last(model_why(&verdict), file);
    for (size_t i = 0; i < ISAS; i++) {
        verdict.runs[i].differing_values = 1;
        expect_last(model_why(&verdict), kernels);
        verdict.runs[i].differing_values = 0;
        struct difference *steady[] = {&verdict.runs[i].steady_hidden, &verdict.runs[i].steady_logits};
        for (size_t s = 0; s < 2; s++) {
            *steady[s] = (struct difference){3e-5, 1};
            expect_last(model_why(&verdict), kernels);
            *steady[s] = (struct difference){0, 0};
        }
        for (size_t layer = 0; layer < 2; layer++) {
            layers[layer].isas[i].differing_values = 1;
            expect_last(model_why(&verdict), kernels);
            layers[layer].isas[i].differing_values = 0;
        }
    }
    expect_last(model_why(&verdict), file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kernels_hold),
        cmocka_unit_test(test_layer_file_holds),
        cmocka_unit_test(test_layer_file_why),
        cmocka_unit_test(test_model_why),
    };
    return cmocka_run_group_tests_name("why", tests, NULL, NULL);
}
