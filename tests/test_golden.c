/* Layers run by the authors' own code (docs/design.md names it): the library must take the recorded
 * paths and agree with the recorded outputs within the proven bounds. */
#include "tests/support.h"
#include "tools/machine/isas.h"
#include "tools/verify/layer.h"

#include <stdlib.h>

static void load(const char *path, struct layer_data *data) {
    char error[512];
    if (layer_data_load(path, data, error, sizeof error) != 0) {
        fail_msg("%s", error);
    }
    assert_non_null(data->expected_output);
}

static void check_layer(const struct layer_data *data) {
    struct verdict verdicts[FFF_ISA_COUNT];
    fff_isa isas[FFF_ISA_COUNT];
    size_t count = usable_isas(isas);
    assert_int_equal(verify_layer(data, isas, count, VERIFY_ALL_SPLITS, verdicts, NULL), FFF_OK);
    for (size_t i = 0; i < count; i++) {
        const struct verdict *v = &verdicts[i];
        assert_int_equal(v->isa, isas[i]);
        assert_int_equal(v->differing_values, 0);
        assert_int_equal(v->dense.tokens, data->batch);
        assert_int_equal(v->dense.route_mismatches, 0);
        assert_int_equal(v->dense.ties, 0);
        assert_int_equal(v->dense.logit_errors, 0);
        assert_int_equal(v->dense.output_errors, 0);
        assert_int_equal(v->dense.unbounded, 0);
        assert_int_equal(v->expected.tokens, data->batch);
        assert_int_equal(v->expected_mismatches, 0);
        assert_true(agreement_holds(&v->expected));
        assert_true(verdict_holds(v));
        assert_true(v->dense.bound_used > 0 && v->dense.bound_used < 1);
    }
}

static void check_file(const char *path) {
    struct layer_data data;
    load(path, &data);
    assert_non_null(data.expected_path);
    check_layer(&data);
    layer_data_free(&data);
}

/* The results that this layer does not have are not accepted, of any token. */
static void refuse_output(const struct layer_data *data, const float *output) {
    struct layer_data wrong = *data;
    struct verdict verdict;
    const fff_isa isa = FFF_ISA_GENERIC;
    wrong.expected_output = (float *)output;
    assert_int_equal(verify_layer(&wrong, &isa, 1, VERIFY_FEW_SPLITS, &verdict, NULL), FFF_OK);
    assert_int_equal(verdict.file.tokens_wrong, data->batch);
    assert_true(agreement_holds(&verdict.dense));
}

/* With `output`, the published evaluation, which leaves b2s out, and with `output_with_b2`. */
static void check_leaf_file(const char *path) {
    struct layer_data data;
    load(path, &data);
    assert_non_null(data.expected_with_b2);
    assert_non_null(data.leaf_output_biases);
    struct layer_data with = data, without = data;
    with.expected_output = data.expected_with_b2;
    without.leaf_output_biases = NULL;
    check_layer(&with);
    check_layer(&without);
    refuse_output(&with, data.expected_output);
    refuse_output(&without, data.expected_with_b2);
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
static void test_leaf_d3_w8(void **unused) {
    (void)unused;
    check_leaf_file(FFF_TEST_DATA "/leaf_d3_w8.safetensors");
}
static void test_leaf_d5_w1_gelu(void **unused) {
    (void)unused;
    check_leaf_file(FFF_TEST_DATA "/leaf_d5_w1_gelu.safetensors");
}

/* Not the authors', but of tests/reference/forest.py: three parts, with all that a part can have. */
static void test_forest_3_parts(void **unused) {
    (void)unused;
    struct layer_data data;
    load(FFF_TEST_DATA "/forest_3_parts.safetensors", &data);
    assert_non_null(data.next->next->leaf_output_biases);
    assert_int_equal(layer_path_length(&data), 6 + 2 * 3 + 2 * (3 + 4));
    check_layer(&data);
    float *bias = data.output_bias, *factor = data.next->factor, *thresholds = data.next->next->thresholds;
    data.output_bias = NULL; /* each of them matters */
    refuse_output(&data, data.expected_output);
    data.output_bias = bias;
    data.next->factor = NULL;
    refuse_output(&data, data.expected_output);
    data.next->factor = factor;
    data.next->next->thresholds = NULL;
    struct verdict verdict;
    const fff_isa isa = FFF_ISA_GENERIC;
    assert_int_equal(verify_layer(&data, &isa, 1, VERIFY_FEW_SPLITS, &verdict, NULL), FFF_OK);
    assert_uint_in_range(verdict.file.tokens_wrong, 1, data.batch);
    data.next->next->thresholds = thresholds;
    layer_data_free(&data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_1x3_h32),         cmocka_unit_test(test_1x7_h96),
        cmocka_unit_test(test_2x4_h17_relu),    cmocka_unit_test(test_3x5_h50),
        cmocka_unit_test(test_64x0_h40),        cmocka_unit_test(test_leaf_d3_w8),
        cmocka_unit_test(test_leaf_d5_w1_gelu), cmocka_unit_test(test_forest_3_parts),
    };
    return cmocka_run_group_tests_name("golden", tests, NULL, NULL);
}
