/* 16-bit inputs and outputs: what fff_forward() makes of the widened inputs, rounded. */
#include "kernels/half.h"
#include "layer/pack.h"
#include "tests/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { IN = 37, OUT = 21, DEPTH = 4, TREES = 2, ROWS = TREES * 31, TOKENS = 2600 };

static float in_weights[ROWS * IN], out_weights[ROWS * OUT], biases[ROWS];

static fff_layer *make_layer(fff_isa isa, fff_weight_choice store, uint64_t *state) {
    fill_floats(FILL_NORMAL, in_weights, ROWS * IN, state);
    fill_floats(FILL_NORMAL, out_weights, ROWS * OUT, state);
    fill_floats(FILL_NORMAL, biases, ROWS, state);
    const fff_layer_desc desc = {
        .struct_size = sizeof desc,
        .input_width = IN,
        .output_width = OUT,
        .depth = DEPTH,
        .trees = TREES,
        .input_weights = {in_weights, IN, 1},
        .biases = biases,
        .output_weights = {out_weights, OUT, 1},
        .store_input = store,
        .store_output = store,
    };
    return test_create_layer(&desc, isa);
}

static void put(fff_weight_type type, void *to, size_t i, float value) {
    if (type == FFF_WEIGHT_F32) {
        ((float *)to)[i] = value;
    } else {
        ((uint16_t *)to)[i] = type == FFF_WEIGHT_BF16 ? fff_round_bf16(value) : fff_round_f16(value);
    }
}

static float get(fff_weight_type type, const void *from, size_t i) {
    return type == FFF_WEIGHT_F32    ? ((const float *)from)[i]
           : type == FFF_WEIGHT_BF16 ? fff_widen_bf16(((const uint16_t *)from)[i])
                                     : fff_widen_f16(((const uint16_t *)from)[i]);
}

/* A batch with strides, guard pages, canaries and the very workspace asked for. */
static void check(const fff_layer *layer, fff_weight_type input_type, fff_weight_type output_type, size_t batch,
                  size_t threads, uint64_t *state) {
    size_t in_stride = IN + random_below(state, 4), out_stride = OUT + random_below(state, 4), size;
    size_t in_bytes = ((batch - 1) * in_stride + IN) * fff_element_bytes(input_type);
    size_t out_bytes = ((batch - 1) * out_stride + OUT) * fff_element_bytes(output_type);
    struct guarded input = guarded_allocate(in_bytes), output = guarded_allocate(out_bytes);
    float *widened = test_allocate(batch * IN, sizeof(float)), *expected = test_allocate(batch * OUT, sizeof(float));
    memset(input.data, 0xff, in_bytes);
    memset(output.data, 0x5a, out_bytes);
    for (size_t t = 0; t < batch; t++) {
        for (size_t column = 0; column < IN; column++) {
            float value;
            fill_floats(random_below(state, 500) == 0 ? FILL_ANY_BITS : FILL_NORMAL, &value, 1, state);
            put(input_type, input.data, t * in_stride + column, value);
            widened[t * IN + column] = get(input_type, input.data, t * in_stride + column);
        }
    }
    const fff_runner runner = {test_run_on_threads, NULL, threads};
    assert_int_equal(fff_workspace_size(layer, batch, 1, &size), FFF_OK);
    void *plain = test_allocate(size, 1);
    assert_int_equal(fff_forward(layer, batch, widened, IN, expected, OUT, plain, size, NULL), FFF_OK);
    assert_int_equal(fff_workspace_size_typed(layer, batch, threads, input_type, output_type, &size), FFF_OK);
    struct guarded workspace = guarded_allocate(size);
    assert_int_equal(fff_forward_typed(layer, batch, input_type, input.data, in_stride, output_type, output.data,
                                       out_stride, workspace.data, size, &runner),
                     FFF_OK);
    for (size_t t = 0; t < batch; t++) {
        for (size_t column = 0; column < OUT; column++) {
            float rounded[1], found = get(output_type, output.data, t * out_stride + column);
            put(output_type, rounded, 0, expected[t * OUT + column]);
            rounded[0] = get(output_type, rounded, 0);
            assert_same_floats(&found, rounded, 1, "output");
        }
        for (size_t column = OUT; column < out_stride && t + 1 < batch; column++) {
            const unsigned char *gap =
                (const unsigned char *)output.data + (t * out_stride + column) * fff_element_bytes(output_type);
            assert_true(gap[0] == 0x5a && gap[1] == 0x5a);
        }
    }
    free(plain), free(widened), free(expected);
    guarded_free(&input), guarded_free(&output), guarded_free(&workspace);
}

static void test_types(void **unused) {
    (void)unused;
    uint64_t state = test_random("types");
    for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
        if (fff_isa_usable((fff_isa)isa) != FFF_OK) {
            continue;
        }
        for (int store = FFF_CHOOSE_F32; store <= FFF_CHOOSE_I8; store++) {
            fff_layer *layer = make_layer((fff_isa)isa, (fff_weight_choice)store, &state);
            for (int types = 0; types < 9; types++) {
                fff_weight_type input_type = (fff_weight_type)(types / 3), output_type = (fff_weight_type)(types % 3);
                check(layer, input_type, output_type, 1, 1, &state);
                check(layer, input_type, output_type, 1 + random_below(&state, 60), 1, &state);
                check(layer, input_type, output_type, 1 + random_below(&state, 60), 1 + random_below(&state, 8),
                      &state);
            }
            if (store == FFF_CHOOSE_BF16 && getenv("FFF_TEST_SHORT") == NULL) { /* more than a block */
                check(layer, FFF_WEIGHT_BF16, FFF_WEIGHT_F16, TOKENS, 1 + random_below(&state, 3), &state);
                check(layer, FFF_WEIGHT_F16, FFF_WEIGHT_BF16, TOKENS, 1, &state);
            }
            fff_layer_destroy(layer);
        }
    }
}

/* A workspace for more tokens and tasks serves for fewer. */
static void test_workspace(void **unused) {
    (void)unused;
    uint64_t state = test_random("workspace");
    fff_layer *layer = make_layer(FFF_ISA_GENERIC, FFF_CHOOSE_I8, &state);
    for (int i = 0; i < 20000; i++) {
        size_t batch = 1 + random_below(&state, 3000), tasks = 1 + random_below(&state, 40), size, less;
        assert_int_equal(fff_workspace_size_typed(layer, batch, tasks, FFF_WEIGHT_BF16, FFF_WEIGHT_F16, &size), FFF_OK);
        assert_int_equal(fff_workspace_size_typed(layer, random_below(&state, batch + 1),
                                                  random_below(&state, tasks + 1), FFF_WEIGHT_BF16, FFF_WEIGHT_F16,
                                                  &less),
                         FFF_OK);
        assert_true(less <= size);
    }
    fff_layer_destroy(layer);
}

/* A runner that leaves out the last task. */
static void run_all_but_one(void *context, size_t count, void (*task)(void *argument, size_t index), void *argument) {
    (void)context;
    for (size_t i = 0; i + 1 < count; i++) {
        task(argument, i);
    }
}

static void test_errors(void **unused) {
    (void)unused;
    uint64_t state = test_random("errors");
    fff_layer *layer = make_layer(FFF_ISA_GENERIC, FFF_CHOOSE_F32, &state);
    static uint16_t input[4 * IN], output[4 * OUT + 1];
    const fff_weight_type H = FFF_WEIGHT_F16;
    const fff_runner lazy = {run_all_but_one, NULL, 3}, none = {NULL, NULL, 2};
    size_t size;
    assert_int_equal(fff_workspace_size_typed(layer, 4, 3, H, H, &size), FFF_OK);
    unsigned char *workspace = test_allocate(size, 1);
#define CALL(i, in, o, out, w, s, runner) fff_forward_typed(layer, 4, i, in, IN, o, out, OUT, w, s, runner)
    assert_int_equal(CALL(H, input, H, output, workspace, size, NULL), FFF_OK);
    assert_int_equal(CALL(FFF_WEIGHT_I8, input, H, output, workspace, size, NULL), FFF_ERROR_OPTION);
    assert_int_equal(CALL(H, input, (fff_weight_type)9, output, workspace, size, NULL), FFF_ERROR_OPTION);
    assert_int_equal(CALL(H, NULL, H, output, workspace, size, NULL), FFF_ERROR_NULL_POINTER);
    assert_int_equal(CALL(H, input, H, NULL, workspace, size, NULL), FFF_ERROR_NULL_POINTER);
    assert_int_equal(CALL(H, input, H, output, NULL, size, NULL), FFF_ERROR_NULL_POINTER);
    assert_int_equal(CALL(H, input, H, output, workspace, size, &none), FFF_ERROR_NULL_POINTER);
    assert_int_equal(CALL(H, input, H, output, workspace, 100, NULL), FFF_ERROR_WORKSPACE);
    assert_int_equal(CALL(H, (char *)input + 1, H, output, workspace, size, NULL), FFF_ERROR_ALIGNMENT);
    assert_int_equal(CALL(H, input, H, (char *)output + 1, workspace, size, NULL), FFF_ERROR_ALIGNMENT);
    assert_int_equal(CALL(H, input, H, input + 1, workspace, size, NULL), FFF_ERROR_OVERLAP);
    assert_int_equal(CALL(H, workspace + 64, H, output, workspace, size, NULL), FFF_ERROR_OVERLAP);
    assert_int_equal(CALL(H, input, H, output, workspace, size, &lazy), FFF_ERROR_RUNNER);
    assert_int_equal(fff_forward_typed(layer, 4, H, input, IN - 1, H, output, OUT, workspace, size, NULL),
                     FFF_ERROR_STRIDE);
    assert_int_equal(fff_forward_typed(NULL, 4, H, input, IN, H, output, OUT, workspace, size, NULL),
                     FFF_ERROR_NULL_POINTER);
    assert_int_equal(fff_forward_typed(layer, 0, H, NULL, 0, H, NULL, 0, NULL, 0, NULL), FFF_OK);
    assert_int_equal(fff_forward_typed(layer, SIZE_MAX, H, input, IN, H, output, OUT, workspace, size, NULL),
                     FFF_ERROR_OVERFLOW);
    assert_int_equal(fff_workspace_size_typed(NULL, 4, 1, H, H, &size), FFF_ERROR_NULL_POINTER);
    assert_int_equal(fff_workspace_size_typed(layer, 4, 1, FFF_WEIGHT_I8, H, &size), FFF_ERROR_OPTION);
    assert_int_equal(fff_workspace_size_typed(layer, SIZE_MAX, SIZE_MAX, H, H, &size), FFF_ERROR_OVERFLOW);
    free(workspace);
    fff_layer_destroy(layer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_workspace),
        cmocka_unit_test(test_errors),
    };
    test_start("test_typed");
    return cmocka_run_group_tests_name("typed", tests, NULL, NULL);
}
