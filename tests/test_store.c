/* The checker of layers with narrow rows: it accepts what is right, and finds what is wrong. */
#include "kernels/half.h"
#include "tests/support.h"
#include "tools/dense/stored_numbers.h"
#include "tools/machine/isas.h"
#include "tools/verify/layer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* For emulators: a part of the numbers, and of the combinations of types. */
static bool short_run(void) {
    return getenv("FFF_TEST_SHORT") != NULL;
}

/* The rounding that the proofs use is not the library's code, and does the same: at every exponent, near every middle.
 */
static void test_rounding(void **unused) {
    (void)unused;
    uint64_t state = test_random("rounding");
    const int numbers = short_run() ? 50000 : 1000000;
    for (int i = 0; i < numbers; i++) {
        uint32_t bits = (uint32_t)random_bits(&state);
        if (i % 2 == 0) { /* near the middle of two neighbours, of either type */
            uint32_t middle = i % 4 == 0 ? 0x8000 : 0x1000;
            bits = (bits & ~(2 * middle - 1)) + middle + (uint32_t)random_below(&state, 3) - 1;
        }
        float value = fff_float_of_bits(bits);
        float bf16 = round_to_type(FFF_WEIGHT_BF16, value), f16 = round_to_type(FFF_WEIGHT_F16, value);
        if (isnan(value)) {
            assert_true(isnan(bf16) && isnan(f16));
            continue;
        }
        float bf16_here = fff_widen_bf16(fff_round_bf16(value)), f16_here = fff_widen_f16(fff_round_f16(value));
        assert_same_floats(&bf16_here, &bf16, 1, "bfloat16");
        assert_same_floats(&f16_here, &f16, 1, "float16");
    }
}

/* ---- Whole layers ---------------------------------------------------------------------------- */

enum { IN = 40, OUT = 24, DEPTH = 4, TREES = 2, TOKENS = 100, ENTRIES = TOKENS * TREES * (DEPTH + 1) };

/* A layer of narrow rows, what it computes, and what is found of that. */
struct subject {
    struct layer_data data;
    uint32_t nodes[ENTRIES];
    float logits[ENTRIES], output[TOKENS * OUT];
};

static void make_subject(struct subject *s, struct store store) {
    size_t path = TREES * (DEPTH + 1), size = 0;
    assert_int_equal(layer_data_make(&s->data, IN, OUT, DEPTH, TREES, TOKENS, 5), 0);
    s->data.store = store;
    fff_layer_desc desc = layer_data_desc(&s->data, FFF_ISA_GENERIC);
    fff_layer *layer = test_create_layer(&desc, FFF_ISA_GENERIC);
    assert_int_equal(fff_workspace_size(layer, TOKENS, 1, &size), FFF_OK);
    void *workspace = test_allocate(size, 1);
    assert_int_equal(
        fff_route(layer, TOKENS, s->data.input, IN, s->nodes, path, s->logits, path, workspace, size, NULL), FFF_OK);
    assert_int_equal(fff_forward(layer, TOKENS, s->data.input, IN, s->output, OUT, workspace, size, NULL), FFF_OK);
    free(workspace);
    fff_layer_destroy(layer);
}

static struct store_verdict check_store(struct subject *s) {
    struct store_check check;
    struct store_verdict verdict;
    const struct layer_results results = {s->nodes, s->logits, s->output};
    assert_int_equal(store_check_open(&check, &s->data), FFF_OK);
    assert_int_equal(store_check_run(&check, &results, &verdict), FFF_OK);
    store_check_close(&check);
    return verdict;
}

static void test_accepts_what_is_right(void **unused) {
    (void)unused;
    for (int input = FFF_CHOOSE_F32; input <= FFF_CHOOSE_I8; input++) {
        for (int output = FFF_CHOOSE_F32; output <= FFF_CHOOSE_I8; output++) {
            for (int routes = FFF_ROUTES_STORED; routes <= FFF_ROUTES_EXACT; routes++) {
                static struct subject s;
                if (short_run() && (input + output + routes) % 2 != 0) {
                    continue;
                }
                make_subject(&s,
                             (struct store){(fff_weight_choice)input, (fff_weight_choice)output, (fff_routes)routes});
                fff_isa isas[FFF_ISA_COUNT];
                size_t count = usable_isas(isas);
                struct verdict verdicts[FFF_ISA_COUNT];
                struct store_verdict store;
                assert_int_equal(verify_layer(&s.data, isas, count, VERIFY_FEW_SPLITS, verdicts, &store), FFF_OK);
                assert_true(verdicts_hold(verdicts, count));
                assert_true(store_verdict_holds(&store));
                assert_int_equal(verdicts[0].dense.tokens, TOKENS);
                assert_true(verdicts[0].dense.bound_used > 0 && verdicts[0].dense.bound_used < 1);
                if (routes == FFF_ROUTES_EXACT && input != FFF_CHOOSE_F32) {
                    assert_uint_in_range(store.float32_rows, 1, store.deciding / 4);
                    assert_int_equal(store.deciding, TOKENS * TREES * DEPTH);
                }
                if (input == FFF_CHOOSE_I8 && routes == FFF_ROUTES_STORED) {
                    assert_true(store.tokens_apart > 0 && store.nodes_apart >= store.tokens_apart);
                }
                layer_data_free(&s.data);
            }
        }
    }
}

/* Leaves and several parts, and that what is stored of neurons is checked as that of nodes. */
static void test_forest(void **unused) {
    (void)unused;
    char error[512];
    struct layer_data data;
    fff_isa isas[FFF_ISA_COUNT];
    size_t count = usable_isas(isas);
    assert_int_equal(layer_data_load(FFF_TEST_DATA "/forest_3_parts.safetensors", &data, error, sizeof error), 0);
    for (int types = 0; types < 4 * 4 * 2; types += short_run() ? 3 : 1) {
        struct verdict verdicts[FFF_ISA_COUNT];
        struct store_verdict store;
        const struct store stored = {(fff_weight_choice)(1 + types % 4), (fff_weight_choice)(1 + types / 4 % 4),
                                     (fff_routes)(types / 16)};
        layer_data_demand(&data, stored, FFF_SLEEF_RECORDED, NULL);
        assert_int_equal(verify_layer(&data, isas, count, VERIFY_ALL_SPLITS, verdicts, &store), FFF_OK);
        assert_true(verdicts_hold(verdicts, count) && store_verdict_holds(&store));
        assert_int_equal(verdicts[0].dense.tokens, data.batch);
        if (stores_narrow(&store) && store.exact_routes) {
            assert_int_equal(store.deciding, data.batch * (2 * 2 + 2 * 3));
        }
        assert_int_equal(store.difference_worst > 0, stores_narrow(&store));
    }
    layer_data_free(&data);
}

/* A neuron's logit is never the float32 row's, and a node's must be one of the two. */
static void test_finds_wrong_logits_of_leaves(void **unused) {
    (void)unused;
    char error[512];
    struct layer_data data;
    assert_int_equal(layer_data_load(FFF_TEST_DATA "/leaf_d3_w8.safetensors", &data, error, sizeof error), 0);
    layer_data_demand(&data, (struct store){FFF_CHOOSE_I8, FFF_CHOOSE_I8, FFF_ROUTES_EXACT}, FFF_SLEEF_RECORDED, NULL);
    size_t path = layer_path_length(&data), size = 0, entries = data.batch * path;
    struct layer_results results = {test_allocate(entries, sizeof(uint32_t)), test_allocate(entries, sizeof(float)),
                                    test_allocate(data.batch * data.output_width, sizeof(float))};
    fff_layer *layer;
    assert_int_equal(layer_data_create(&data, FFF_ISA_GENERIC, layer_data_desc, &layer), FFF_OK);
    assert_int_equal(fff_workspace_size(layer, data.batch, 1, &size), FFF_OK);
    void *workspace = test_allocate(size, 1);
    assert_int_equal(fff_route(layer, data.batch, data.input, data.input_width, results.nodes, path, results.logits,
                               path, workspace, size, NULL),
                     FFF_OK);
    for (size_t entry = 0; entry <= path; entry++) { /* of the last token; at the end none */
        float *logit = &results.logits[entries - path + entry], kept = entry < path ? *logit : 0;
        if (entry < path) {
            *logit = nextafterf(kept, INFINITY);
        }
        struct store_check check;
        struct store_verdict found;
        assert_int_equal(store_check_open(&check, &data), FFF_OK);
        assert_int_equal(store_check_run(&check, &results, &found), FFF_OK);
        store_check_close(&check);
        assert_int_equal(found.other_logits, entry < path);
        if (entry < path) {
            *logit = kept;
        }
    }
    free(workspace);
    fff_layer_destroy(layer);
    free(results.nodes);
    free(results.logits);
    free(results.output);
    layer_data_free(&data);
}

/* Spoilt results are noticed, each by what it is. */
static void test_finds_what_is_wrong(void **unused) {
    (void)unused;
    static struct subject s;
    make_subject(&s, (struct store){FFF_CHOOSE_BF16, FFF_CHOOSE_F16, FFF_ROUTES_STORED});
    assert_true(store_verdict_holds(&(struct store_verdict){0}));
    struct store_verdict right = check_store(&s);
    assert_true(store_verdict_holds(&right));
    float logit = s.logits[17], output = s.output[30];
    s.logits[17] = nextafterf(logit, INFINITY);
    struct store_verdict found = check_store(&s);
    assert_int_equal(found.differing_routes, 1);
    assert_false(store_verdict_holds(&found));
    s.logits[17] = logit;
    s.output[30] = nextafterf(output, INFINITY);
    found = check_store(&s);
    assert_int_equal(found.differing_routes, 0);
    assert_int_equal(found.differing_outputs, 1);
    assert_false(store_verdict_holds(&found));
    layer_data_free(&s.data);
}

/* Outputs that are no numbers are no differences where both are, and infinite ones else. */
static void test_differences_of_no_numbers(void **unused) {
    (void)unused;
    static struct subject s;
    make_subject(&s, (struct store){FFF_CHOOSE_I8, FFF_CHOOSE_F16, FFF_ROUTES_STORED});
    struct store_verdict right = check_store(&s), found;
    float output = s.output[30];
    s.output[30] = NAN;
    found = check_store(&s);
    assert_true(isinf(found.difference_worst) && isinf(found.difference_squares));
    assert_true(found.output_squares == right.output_squares);
    s.output[30] = output;
    s.data.input[3] = NAN; /* of token 0, whose float32 outputs are none then */
    for (size_t i = 0; i < OUT; i++) {
        s.output[i] = NAN;
    }
    found = check_store(&s);
    assert_true(found.difference_worst > 0 && isfinite(found.difference_worst));
    assert_true(found.output_squares < right.output_squares);
    layer_data_free(&s.data);
}

static void test_finds_wrong_exact_routes(void **unused) {
    (void)unused;
    static struct subject s;
    make_subject(&s, (struct store){FFF_CHOOSE_I8, FFF_CHOOSE_I8, FFF_ROUTES_EXACT});
    struct store_verdict right = check_store(&s), found;
    assert_true(store_verdict_holds(&right));
    float logit = s.logits[0];
    s.logits[0] = nextafterf(logit, INFINITY);
    found = check_store(&s);
    assert_int_equal(found.other_logits, 1);
    assert_false(store_verdict_holds(&found));
    s.logits[0] = logit;
    uint32_t leaf = s.nodes[DEPTH];
    s.nodes[DEPTH] = leaf % 2 == 0 ? leaf - 1 : leaf + 1;
    found = check_store(&s);
    assert_int_equal(found.nodes_apart, 1);
    assert_int_equal(found.tokens_apart, 1);
    assert_false(store_verdict_holds(&found));
    layer_data_free(&s.data);
    /* A layer whose routes are not exact does not pass for one. */
    make_subject(&s, (struct store){FFF_CHOOSE_I8, FFF_CHOOSE_I8, FFF_ROUTES_STORED});
    s.data.store.routes = FFF_ROUTES_EXACT;
    found = check_store(&s);
    assert_true(found.nodes_apart > 0);
    assert_false(store_verdict_holds(&found));
    layer_data_free(&s.data);
}

/* The bounds are those of the stored numbers: results of others lie outside. */
static void test_bounds_are_of_stored_numbers(void **unused) {
    (void)unused;
    for (int type = FFF_CHOOSE_BF16; type <= FFF_CHOOSE_I8; type++) {
        static struct subject s;
        struct layer_data stored;
        make_subject(&s, (struct store){(fff_weight_choice)type, (fff_weight_choice)type, FFF_ROUTES_STORED});
        assert_int_equal(stored_numbers_make(&stored, &s.data), 0);
        const struct layer_data *definitions[] = {&stored, &s.data};
        for (int wrong = 0; wrong < 2; wrong++) {
            struct dense_f64 *dense = dense_f64_create(definitions[wrong]);
            struct agreement agreement = {0};
            for (size_t token = 0; token < TOKENS; token++) {
                size_t entry = token * TREES * (DEPTH + 1);
                dense_f64_evaluate(dense, token);
                dense_f64_check(dense, roundings_of_library(definitions[wrong]), s.nodes + entry, s.logits + entry,
                                s.output + token * OUT, &agreement);
            }
            assert_int_equal(agreement_holds(&agreement), !wrong);
            assert_int_equal(agreement.logit_errors > TOKENS, wrong);
            assert_int_equal(agreement.output_errors > TOKENS, wrong);
            dense_f64_destroy(dense);
        }
        stored_numbers_free(&stored);
        layer_data_free(&s.data);
    }
}

/* Tokens of int8 rows that have no integers, or only zeros. */
static void test_quantised_tokens(void **unused) {
    (void)unused;
    float integers[3];
    const float rows[][3] = {{-2.0f, 1.0f, 0.0f}, {0.0f, 0.0f, 0.0f}, {0x1p-101f, 0.0f, 0.0f}, {INFINITY, 0.0f, 0.0f}};
    assert_true(quantise_row(rows[0], 3, integers) == 2.0f / 127.0f);
    assert_true(integers[0] == -127.0f && integers[1] == 64.0f && integers[2] == 0.0f); /* 63.5, to even */
    for (int i = 1; i < 3; i++) {
        assert_true(quantise_row(rows[i], 3, integers) == 1.0f);
        assert_true(integers[0] == 0.0f);
    }
    assert_true(isnan(quantise_row(rows[3], 3, integers)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rounding),
        cmocka_unit_test(test_accepts_what_is_right),
        cmocka_unit_test(test_forest),
        cmocka_unit_test(test_finds_wrong_logits_of_leaves),
        cmocka_unit_test(test_finds_what_is_wrong),
        cmocka_unit_test(test_differences_of_no_numbers),
        cmocka_unit_test(test_finds_wrong_exact_routes),
        cmocka_unit_test(test_bounds_are_of_stored_numbers),
        cmocka_unit_test(test_quantised_tokens),
    };
    test_start("test_store");
    return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
