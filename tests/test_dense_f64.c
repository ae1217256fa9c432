/* The checker that everything else trusts: it accepts what is right, and finds what is wrong. */
#include "tests/support.h"
#include "tools/verify_layer.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A token's result, to be spoilt. */
struct result {
    struct layer_data data;
    struct dense_f64 *dense;
    uint32_t nodes[64];
    float logits[64], output[64];
};

static void make_result(struct result *r) {
    enum { WORKSPACE = 1 << 16 };
    assert_int_equal(layer_data_make(&r->data, 48, 48, 4, 3, 2, 7), 0);
    r->dense = dense_f64_create(&r->data);
    assert_non_null(r->dense);
    fff_layer_desc desc = layer_data_desc(&r->data, FFF_ISA_GENERIC);
    fff_layer *layer;
    void *workspace = malloc(WORKSPACE);
    assert_int_equal(fff_layer_create(&desc, &layer), FFF_OK);
    assert_int_equal(fff_route(layer, 1, r->data.input, 48, r->nodes, 15, r->logits, 15, workspace, WORKSPACE, NULL),
                     FFF_OK);
    assert_int_equal(fff_forward(layer, 1, r->data.input, 48, r->output, 48, workspace, WORKSPACE, NULL), FFF_OK);
    free(workspace);
    fff_layer_destroy(layer);
    dense_f64_evaluate(r->dense, 0);
}

static void free_result(struct result *r) {
    dense_f64_destroy(r->dense);
    layer_data_free(&r->data);
}

static struct agreement check(const struct result *r) {
    struct agreement agreement = {0};
    dense_f64_check(r->dense, roundings_of_library(&r->data), r->nodes, r->logits, r->output, &agreement);
    return agreement;
}

static void test_accepts_what_is_right(void **unused) {
    (void)unused;
    struct result r;
    make_result(&r);
    struct agreement agreement = check(&r);
    assert_true(agreement_holds(&agreement));
    assert_int_equal(agreement.tokens, 1);
    assert_int_equal(agreement.ties, 0);
    assert_true(agreement.bound_used > 0 && agreement.bound_used < 1);
    free_result(&r);
}

static void test_finds_what_is_wrong(void **unused) {
    (void)unused;
    struct result r, spoilt;
    make_result(&r);
    spoilt = r; /* an output off by a few units in the fifth digit */
    spoilt.output[47] += 1e-4f * (1 + fabsf(spoilt.output[47]));
    struct agreement agreement = check(&spoilt);
    assert_int_equal(agreement.output_errors, 1);
    assert_true(agreement.bound_used > 1);
    assert_false(agreement_holds(&agreement));
    spoilt = r;
    spoilt.output[0] = NAN;
    agreement = check(&spoilt);
    assert_int_equal(agreement.output_errors, 1);
    assert_true(isinf(agreement.bound_used) && isinf(agreement.max_abs_error));
    spoilt = r; /* two outputs exchanged */
    spoilt.output[3] = r.output[4];
    spoilt.output[4] = r.output[3];
    assert_int_equal(check(&spoilt).output_errors, 2);
    spoilt = r; /* a logit off */
    spoilt.logits[7] += 1e-3f;
    assert_int_equal(check(&spoilt).logit_errors, 1);
    for (size_t level = 1; level < 5; level++) { /* the wrong child at each level */
        spoilt = r;
        spoilt.nodes[level] = r.nodes[level] % 2 ? r.nodes[level] + 1 : r.nodes[level] - 1;
        agreement = check(&spoilt);
        assert_int_equal(agreement.route_mismatches, 1);
        assert_false(agreement_holds(&agreement));
    }
    spoilt = r; /* no path of the tree at all */
    spoilt.nodes[1] = 30;
    assert_int_equal(check(&spoilt).route_mismatches, 1);
    spoilt.nodes[1] = 31;
    assert_int_equal(check(&spoilt).route_mismatches, 1);
    spoilt = r;
    spoilt.nodes[0] = 1;
    assert_int_equal(check(&spoilt).route_mismatches, 1);
    free_result(&r);
}

/* At an exact zero the rule decides: the right way is no tie, the other one is. */
static void test_counts_ties(void **unused) {
    (void)unused;
    struct result r;
    make_result(&r);
    memset(r.data.input, 0, 48 * sizeof(float));
    memset(r.data.biases, 0, r.data.rows * sizeof(float));
    memset(r.output, 0, sizeof r.output);
    memset(r.logits, 0, sizeof r.logits);
    dense_f64_evaluate(r.dense, 0);
    const uint32_t left[5] = {0, 1, 3, 7, 15}, right[5] = {0, 2, 6, 14, 30};
    for (int rule = 0; rule < 2; rule++) {
        r.data.routing = (fff_routing)rule;
        for (int goes_right = 0; goes_right < 2; goes_right++) {
            for (size_t tree = 0; tree < 3; tree++) {
                memcpy(r.nodes + 5 * tree, goes_right ? right : left, sizeof left);
            }
            struct agreement agreement = check(&r);
            assert_true(agreement_holds(&agreement));
            assert_int_equal(agreement.ties, goes_right != rule);
        }
    }
    free_result(&r);
}

/* A logit that cancellation leaves smaller than its bound: either way is right, the wrong one is a tie of that size. */
static void test_size_of_ties(void **unused) {
    (void)unused;
    struct result r;
    make_result(&r);
    memset(r.data.input, 0, 48 * sizeof(float));
    r.data.input[0] = 1;
    r.data.input[1] = -1;
    for (size_t i = 0; i < r.data.rows * 48; i++) {
        r.data.input_weights[i] = 1;
    }
    for (size_t i = 0; i < r.data.rows; i++) {
        r.data.biases[i] = 0x1p-26f;
    }
    for (size_t i = 0; i < 15; i++) {
        r.logits[i] = 0x1p-26f;
    }
    memset(r.output, 0, sizeof r.output);
    dense_f64_evaluate(r.dense, 0);
    const uint32_t left[5] = {0, 1, 3, 7, 15}, right[5] = {0, 2, 6, 14, 30};
    for (int goes_right = 0; goes_right < 2; goes_right++) {
        for (size_t tree = 0; tree < 3; tree++) {
            memcpy(r.nodes + 5 * tree, goes_right ? right : left, sizeof left);
        }
        struct agreement agreement = check(&r);
        assert_true(agreement_holds(&agreement));
        assert_int_equal(agreement.ties, !goes_right);
        assert_true(agreement.largest_tie == (goes_right ? 0.0 : 0x1p-26));
    }
    free_result(&r);
}

static void test_says_what_it_cannot_prove(void **unused) {
    (void)unused;
    struct result r;
    float bad[] = {NAN, INFINITY, FLT_MAX};
    for (size_t i = 0; i < 3; i++) {
        make_result(&r);
        for (size_t j = 0; j < 48; j++) {
            r.data.input[j] = bad[i];
        }
        dense_f64_evaluate(r.dense, 0);
        struct agreement agreement = check(&r);
        assert_int_equal(agreement.unbounded, 1);
        assert_false(agreement_holds(&agreement));
        free_result(&r);
    }
}

/* The activations' error bounds, over the float32 range: with an exact logit, and with one that is off. */
static void test_activation_bounds(void **unused) {
    (void)unused;
    for (int a = 0; a < FFF_ACTIVATION_COUNT; a++) {
        fff_activation activation = (fff_activation)a;
        double worst = 0;
        for (uint32_t bits = 0; bits < 0x7f800000; bits += 4093) {
            for (int sign = 0; sign < 2; sign++) {
                uint32_t pattern = bits | (uint32_t)sign << 31;
                float z, activated;
                memcpy(&z, &pattern, sizeof z);
                if (activation == FFF_ACTIVATION_RELU2 && fabsf(z) > 1e19f) {
                    continue; /* overflows, and dense_f64_check() then claims nothing */
                }
                assert_int_equal(fff_activate(FFF_ISA_GENERIC, activation, FFF_SLEEF_ANY, 1, &z, &activated), FFF_OK);
                double bound = activation_error_bound(activation, (double)z, 0);
                double error = fabs((double)activated - activation_f64(activation, (double)z));
                if (!(error <= bound)) {
                    fail_msg("activation %d at %a: error %g, bound %g", a, (double)z, error, bound);
                }
                worst = bound > 0 && error / bound > worst ? error / bound : worst;
            }
        }
        print_message("activation %d: worst error %.0f%% of its bound\n", a, 100 * worst);
        /* |activation(z + d) - activation(z)| within the bound for an error d of the logit */
        for (double z = -12; z < 12; z += 0.0037) {
            for (double d = 1e-7; d < 2; d *= 10) {
                double bound = activation_error_bound(activation, z, d) + 1e-13; /* z + d rounds, too */
                assert_true(fabs(activation_f64(activation, z + d) - activation_f64(activation, z)) <= bound);
                assert_true(fabs(activation_f64(activation, z - d) - activation_f64(activation, z)) <= bound);
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepts_what_is_right),
        cmocka_unit_test(test_finds_what_is_wrong),
        cmocka_unit_test(test_counts_ties),
        cmocka_unit_test(test_size_of_ties),
        cmocka_unit_test(test_says_what_it_cannot_prove),
        cmocka_unit_test(test_activation_bounds),
    };
    return cmocka_run_group_tests_name("dense_f64", tests, NULL, NULL);
}
