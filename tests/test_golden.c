/* Layers run by the authors' own code (docs/design.md names it): the library must take the recorded
 * paths and agree with the recorded outputs within the proven bounds. */
#include "tests/support.h"
#include "tools/verify_layer.h"

#include <stdlib.h>

static void check_file(const char *path) {
    char error[512];
    struct layer_data data;
    struct verdict verdicts[FFF_ISA_COUNT];
    fff_isa isas[FFF_ISA_COUNT];
    size_t count = usable_isas(isas);
    if (layer_data_load(path, &data, error, sizeof error) != 0) {
        fail_msg("%s", error);
    }
    assert_non_null(data.expected_output);
    assert_non_null(data.expected_path);
    assert_int_equal(verify_layer(&data, isas, count, VERIFY_ALL_SPLITS, verdicts, NULL), FFF_OK);
    for (size_t i = 0; i < count; i++) {
        const struct verdict *v = &verdicts[i];
        assert_int_equal(v->isa, isas[i]);
        assert_int_equal(v->differing_values, 0);
        assert_int_equal(v->dense.tokens, data.batch);
        assert_int_equal(v->dense.route_mismatches, 0);
        assert_int_equal(v->dense.ties, 0);
        assert_int_equal(v->dense.logit_errors, 0);
        assert_int_equal(v->dense.output_errors, 0);
        assert_int_equal(v->dense.unbounded, 0);
        assert_int_equal(v->expected.tokens, data.batch);
        assert_int_equal(v->expected_mismatches, 0);
        assert_true(agreement_holds(&v->expected));
        assert_true(verdict_holds(v));
        assert_true(v->dense.bound_used > 0 && v->dense.bound_used < 1);
    }
    layer_data_free(&data);
}

static void test_1x3_h32(void **unused) {
    (void)unused;
    check_file(FFF_TEST_DATA "/path_1x3_h32.safetensors");
}
static void test_1x7_h96(void **unused) {
    (void)unused;
    check_file(FFF_TEST_DATA "/path_1x7_h96.safetensors");
}
static void test_2x4_h17_relu(void **unused) {
    (void)unused;
    check_file(FFF_TEST_DATA "/path_2x4_h17_relu.safetensors");
}
static void test_3x5_h50(void **unused) {
    (void)unused;
    check_file(FFF_TEST_DATA "/path_3x5_h50.safetensors");
}
static void test_64x0_h40(void **unused) {
    (void)unused;
    check_file(FFF_TEST_DATA "/path_64x0_h40.safetensors");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_1x3_h32), cmocka_unit_test(test_1x7_h96),  cmocka_unit_test(test_2x4_h17_relu),
        cmocka_unit_test(test_3x5_h50), cmocka_unit_test(test_64x0_h40),
    };
    return cmocka_run_group_tests_name("golden", tests, NULL, NULL);
}
