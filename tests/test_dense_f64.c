/* The checker that everything else trusts: it accepts what is right, and finds what is wrong. */
#include "tests/support.h"
#include "tools/verify/layer.h"

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

/* ---- Leaf layers, and several parts ---------------------------------------------------------- */

/* The file's layer: 6 roots, 2 trees of 3 levels, and 2 of 3 levels and a leaf of 4 neurons. */
enum { FIRST_TREE = 6, FIRST_LEAF_TREE = FIRST_TREE + 2 * 3, LEAF = 7, LEAF_NEURONS = 4 };

static void make_forest(struct result *r) {
    char error[512];
    size_t size = 0;
    assert_int_equal(layer_data_load(FFF_TEST_DATA "/forest_3_parts.safetensors", &r->data, error, sizeof error), 0);
    r->dense = dense_f64_create(&r->data);
    fff_layer *layer;
    assert_int_equal(layer_data_create(&r->data, FFF_ISA_GENERIC, layer_data_desc, &layer), FFF_OK);
    assert_int_equal(fff_workspace_size(layer, 1, 1, &size), FFF_OK);
    void *workspace = test_allocate(size, 1);
    const float *input = r->data.input;
    size_t path = layer_path_length(&r->data), in = r->data.input_width;
    assert_int_equal(fff_route(layer, 1, input, in, r->nodes, path, r->logits, path, workspace, size, NULL), FFF_OK);
    assert_int_equal(fff_forward(layer, 1, input, in, r->output, 9, workspace, size, NULL), FFF_OK);
    free(workspace);
    fff_layer_destroy(layer);
    dense_f64_evaluate(r->dense, 0);
}

static void expect_wrong_way(const struct result *right, size_t entry, uint32_t node) {
    struct result spoilt = *right;
    spoilt.nodes[entry] = node;
    struct agreement agreement = check(&spoilt);
    assert_int_equal(agreement.route_mismatches, 1);
    assert_false(agreement_holds(&agreement));
}

static void test_forest(void **unused) {
    (void)unused;
    struct result r, spoilt;
    make_forest(&r);
    struct agreement agreement = check(&r);
    assert_true(agreement_holds(&agreement) && agreement.bound_used > 0 && agreement.bound_used < 1);
    size_t path = layer_path_length(&r.data);
    for (size_t entry = 0; entry < path; entry++) { /* every logit of every part is checked, */
        spoilt = r;
        spoilt.logits[entry] += 1e-4f;
        assert_int_equal(check(&spoilt).logit_errors, 1);
    }
    for (size_t level = 1; level < 3; level++) { /* and every turn; the last one leads to a leaf, */
        for (size_t entry = FIRST_TREE + level; entry <= FIRST_LEAF_TREE + level; entry += 6) {
            expect_wrong_way(&r, entry, r.nodes[entry] % 2 ? r.nodes[entry] + 1 : r.nodes[entry] - 1);
        }
    }
    for (size_t tree = 0; tree < 2; tree++) {
        size_t first = FIRST_LEAF_TREE + tree * LEAF + 3, leaf = (r.nodes[first] - 7) / LEAF_NEURONS;
        spoilt = r; /* whose neighbour is a leaf, but not the token's, */
        for (size_t j = 0; j < LEAF_NEURONS; j++) {
            spoilt.nodes[first + j] = (uint32_t)(7 + (leaf ^ 1) * LEAF_NEURONS + j);
        }
        assert_int_equal(check(&spoilt).route_mismatches, 1);
        expect_wrong_way(&r, first, r.nodes[first] + 1); /* and whose neurons stand in order. */
        expect_wrong_way(&r, first + 2, r.nodes[first]);
        expect_wrong_way(&r, first, 6);
        expect_wrong_way(&r, first, 7 + 8 * LEAF_NEURONS);
        expect_wrong_way(&r, first, UINT32_MAX);
    }
    free_result(&r);
}

/* What else a sum has: all of it matters. */
static void test_terms_of_a_forest(void **unused) {
    (void)unused;
    for (int which = 0; which < 4; which++) {
        struct result r;
        make_forest(&r);
        struct layer_data *leaves = r.data.next->next;
        float *const changed[] = {r.data.output_bias, r.data.factor, leaves->factor, leaves->leaf_output_biases};
        size_t count = which == 3 ? 2 * 8 * 9 : 1; /* of which the token has two rows */
        for (size_t i = 0; i < count; i++) {
            changed[which][i] += 1e-3f;
        }
        struct agreement agreement = check(&r);
        assert_true(agreement.output_errors > 0);
        assert_int_equal(agreement.logit_errors + agreement.route_mismatches, 0);
        *leaves->factor = FLT_MAX; /* times an activation it is more than a float32 can be */
        assert_int_equal(check(&r).unbounded, 1);
        free_result(&r);
    }
}

/* A threshold that is the computed logit: either turn is right, and the wrong one a tie. A little farther, it is not.
 */
static void test_thresholds(void **unused) {
    (void)unused;
    struct result r;
    make_forest(&r);
    struct layer_data *leaves = r.data.next->next;
    uint32_t *path = r.nodes + FIRST_LEAF_TREE, node = path[2];
    float logit = r.logits[FIRST_LEAF_TREE + 2];
    for (int step = -1; step <= 1; step++) {
        size_t ties = 0, mismatches = 0;
        leaves->thresholds[node] = logit + (float)step * 1e-3f;
        for (uint32_t child = 0; child < 2; child++) {
            for (uint32_t j = 0; j < LEAF_NEURONS; j++) {
                path[3 + j] = 7 + (2 * node + 1 + child - 7) * LEAF_NEURONS + j;
            }
            struct agreement agreement = {0};
            dense_f64_check(r.dense, roundings_of_library(&r.data), r.nodes, NULL, NULL, &agreement);
            ties += agreement.ties;
            mismatches += agreement.route_mismatches;
            if (step != 0) {
                assert_int_equal(agreement.route_mismatches, child == (step > 0));
            }
        }
        assert_int_equal(ties, step == 0);
        assert_int_equal(mismatches, step != 0);
    }
    free_result(&r);
}

/* ---- Random layers --------------------------------------------------------------------------- */

static float *random_floats(enum fill kind, size_t count, uint64_t *state) {
    float *values = test_allocate(count + 1, sizeof *values);
    fill_floats(kind, values, count, state);
    return values;
}

static void fill_part(struct layer_data *part, enum fill kind, uint64_t *state) {
    part->input_width = 41;
    part->output_width = 5;
    part->depth = random_below(state, 4);
    part->trees = 1 + random_below(state, 3);
    part->leaf_width = random_below(state, 2) * (1 + random_below(state, 5));
    size_t leaves = part->trees << part->depth, nodes = part->trees * nodes_of_tree(part);
    part->rows = nodes + leaves * part->leaf_width;
    part->activation = (fff_activation)random_below(state, FFF_ACTIVATION_COUNT);
    part->routing = (fff_routing)random_below(state, 2);
    part->input_weights = random_floats(kind, part->rows * part->input_width, state);
    part->biases = random_below(state, 2) ? random_floats(kind, part->rows, state) : NULL;
    part->output_weights = random_floats(kind, output_rows(part) * part->output_width, state);
    part->thresholds = random_below(state, 2) ? random_floats(FILL_FEW_VALUES, nodes, state) : NULL;
    part->factor = random_below(state, 2) ? random_floats(kind, 1, state) : NULL;
    if (part->leaf_width > 0 && random_below(state, 2)) {
        part->leaf_output_biases = random_floats(kind, leaves * part->output_width, state);
    }
}

static struct layer_data make_random_layer(enum fill kind, uint64_t *state) {
    struct layer_data data = {.batch = 6};
    fill_part(&data, kind, state);
    if (random_below(state, 2)) {
        data.next = test_allocate(1, sizeof *data.next);
        fill_part(data.next, kind, state);
    }
    data.output_bias = random_below(state, 2) ? random_floats(kind, data.output_width, state) : NULL;
    data.input = random_floats(kind, data.batch * data.input_width, state);
    const struct store stored = {(fff_weight_choice)random_below(state, 5), (fff_weight_choice)random_below(state, 5),
                                 (fff_routes)random_below(state, 2)};
    layer_data_demand(&data, stored, FFF_SLEEF_ANY, NULL);
    return data;
}

/* Whatever the numbers are, tiny, huge or both: what the library computes lies within the bounds, where any is
 * claimed. */
static void test_bounds_of_random_layers(void **unused) {
    (void)unused;
    uint64_t state = test_random("bounds");
    struct agreement all = {0};
    size_t rounds = getenv("FFF_TEST_SHORT") != NULL ? 100 : 3000;
    for (size_t round = 0; round < rounds; round++) {
        enum fill kind = (enum fill)(round % FILL_KINDS);
        if (kind == FILL_ANY_BITS) { /* NaNs and infinities have a test of their own */
            continue;
        }
        struct layer_data data = make_random_layer(kind, &state);
        struct verdict verdict;
        struct store_verdict store;
        const fff_isa isa = FFF_ISA_GENERIC;
        fff_status status = verify_layer(&data, &isa, 1, VERIFY_FEW_SPLITS, &verdict, &store);
        if (status != FFF_ERROR_WEIGHT) { /* what float16 cannot hold */
            const struct agreement *found = &verdict.dense;
            assert_int_equal(status, FFF_OK);
            if (found->logit_errors + found->output_errors + found->route_mismatches > 0) {
                fail_msg("round %zu, %s: %zu logits, %zu outputs, %zu routes", round, fill_name(kind),
                         found->logit_errors, found->output_errors, found->route_mismatches);
            }
            assert_true(store_verdict_holds(&store) && verdict.differing_values == 0);
            agreement_add(&all, found);
        }
        layer_data_free(&data);
    }
    print_message("%zu tokens, %zu not to be proven, %zu ties; worst error %.1f%% of its bound\n", all.tokens,
                  all.unbounded, all.ties, 100 * all.bound_used);
    assert_true(all.unbounded < all.tokens / 2 && all.bound_used > 0.1);
}

/* Another program may add an int8 row's products as float32 numbers, in any order. */
static void test_integers_of_other_programs(void **unused) {
    (void)unused;
    enum { WIDTH = 1400, HALF = WIDTH / 2 };
    static float input[WIDTH], weights[WIDTH], output_weights[1] = {1}, scales[1] = {1};
    struct layer_data data = {.input_width = WIDTH, .output_width = 1, .trees = 1, .rows = 1, .batch = 1};
    data.input = input;
    data.input_weights = weights;
    data.output_weights = output_weights;
    data.integer_input_scales = scales;
    float sum = 0;
    for (size_t i = 0; i < WIDTH; i++) { /* beyond 2^24 a float32 sum loses the last places of odd numbers */
        input[i] = 127;
        weights[i] = i < HALF ? 127 : -126;
        sum += input[i] * weights[i];
    }
    struct dense_f64 *dense = dense_f64_create(&data);
    assert_non_null(dense);
    dense_f64_evaluate(dense, 0);
    struct roundings library = roundings_of_library(&data), other = roundings_of_any_order(&data);
    double bound_of_library, bound_of_other;
    double exact = dense_f64_logit(dense, &data, 0, library, &bound_of_library);
    assert_true(exact == 127.0 * HALF);
    assert_true(dense_f64_logit(dense, &data, 0, other, &bound_of_other) == exact);
    assert_true(bound_of_library < 4 * 0x1p-24 * exact);
    assert_true(bound_of_other >= (WIDTH + 2) * 0x1p-24 * 127 * HALF * (127 + 126));
    assert_true(fabs((double)sum - exact) <= bound_of_other);
    dense_f64_destroy(dense);
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
    test_start("test_dense_f64");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepts_what_is_right),
        cmocka_unit_test(test_finds_what_is_wrong),
        cmocka_unit_test(test_counts_ties),
        cmocka_unit_test(test_size_of_ties),
        cmocka_unit_test(test_forest),
        cmocka_unit_test(test_terms_of_a_forest),
        cmocka_unit_test(test_thresholds),
        cmocka_unit_test(test_bounds_of_random_layers),
        cmocka_unit_test(test_integers_of_other_programs),
        cmocka_unit_test(test_says_what_it_cannot_prove),
        cmocka_unit_test(test_activation_bounds),
    };
    return cmocka_run_group_tests_name("dense_f64", tests, NULL, NULL);
}
