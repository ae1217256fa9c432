/* fff_differentiate(): exact where derivatives are, limits at infinities, differences of fff_activate(), and bad input.
 * Accuracy is for exhaustive_derivatives.c. */
#include "tests/support.h"

#include <fff/fff.h>
#include <math.h>
#include <string.h>

static float derivative(fff_isa isa, fff_activation activation, float z) {
    const float one = 1.0f;
    float result = 7.0f;
    assert_int_equal(fff_differentiate(isa, activation, FFF_SLEEF_RECORDED, 1, &z, &one, &result), FFF_OK);
    return result;
}

static void for_each_isa(void (*check)(fff_isa isa)) {
    for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
        if (fff_isa_usable((fff_isa)isa) == FFF_OK) {
            check((fff_isa)isa);
        }
    }
}

static void expect(fff_isa isa, fff_activation activation, float z, float expected) {
    float found = derivative(isa, activation, z);
    if (memcmp(&found, &expected, sizeof found) != 0 && !(isnan(found) && isnan(expected))) {
        fail_msg("%s, activation %d at %a: %a, expected %a", fff_isa_name(isa), activation, (double)z, (double)found,
                 (double)expected);
    }
}

static void check_exact(fff_isa isa) {
    static const fff_activation smooth[] = {FFF_ACTIVATION_GELU, FFF_ACTIVATION_GELU_TANH, FFF_ACTIVATION_SILU};
    for (int i = 0; i < 3; i++) {
        static const float large[] = {INFINITY, 0x1.fffffep127f, 1e30f, 1e10f, 200.0f, 129.0f, 128.0f};
        for (int j = 0; j < 7; j++) {
            expect(isa, smooth[i], large[j], 1.0f);
            expect(isa, smooth[i], -large[j], 0.0f);
        }
        expect(isa, smooth[i], NAN, NAN);
        expect(isa, smooth[i], 0.0f, 0.5f);
        expect(isa, smooth[i], -0.0f, 0.5f);
        expect(isa, smooth[i], 0x1p-149f, 0.5f);
    }
    static const struct {
        float z, relu, relu2;
    } table[] = {
        {0.0f, 0.0f, 0.0f},
        {-0.0f, 0.0f, 0.0f},
        {0x1p-149f, 1.0f, 0x1p-148f},
        {-0x1p-149f, 0.0f, 0.0f},
        {3.0f, 1.0f, 6.0f},
        {-3.0f, 0.0f, 0.0f},
        {NAN, NAN, NAN},
        {INFINITY, 1.0f, INFINITY},
        {-INFINITY, 0.0f, 0.0f},
        {0x1.fffffep127f, 1.0f, INFINITY},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        expect(isa, FFF_ACTIVATION_RELU, table[i].z, table[i].relu);
        expect(isa, FFF_ACTIVATION_RELU2, table[i].z, table[i].relu2);
        expect(isa, FFF_ACTIVATION_IDENTITY, table[i].z, 1.0f);
    }
}

static void test_exact(void **unused) {
    (void)unused;
    for_each_isa(check_exact);
}

/* The product is one IEEE multiplication. */
static void check_upstream(fff_isa isa) {
    const float upstream[] = {0.0f, -0.0f, 1.5f, -0x1p-149f, 0x1.fffffep127f, INFINITY, -INFINITY, NAN};
    enum { COUNT = sizeof upstream / sizeof *upstream };
    for (int a = 0; a < FFF_ACTIVATION_COUNT; a++) {
        for (float z = -4.0f; z <= 4.0f; z += 0.5f) {
            float logits[COUNT], expected[COUNT], found[COUNT];
            for (int i = 0; i < COUNT; i++) {
                logits[i] = z;
                expected[i] = upstream[i] * derivative(isa, (fff_activation)a, z);
            }
            assert_int_equal(fff_differentiate(isa, (fff_activation)a, FFF_SLEEF_ANY, COUNT, logits, upstream, found),
                             FFF_OK);
            assert_same_floats(found, expected, COUNT, "gradients");
        }
    }
}

static void test_upstream(void **unused) {
    (void)unused;
    for_each_isa(check_upstream);
}

/* (a(z + h) - a(z - h)) / 2h is off by h^2 a'''/6 and by the rounding of a, some 2^-23 |a| / h. */
static void check_differences(fff_isa isa) {
    const float h = 0x1p-7f;
    for (int a = 0; a < FFF_ACTIVATION_COUNT; a++) {
        for (float z = -9.0f; z < 9.0f; z += 0x1p-4f) {
            if (z == 0.0f && (a == FFF_ACTIVATION_RELU || a == FFF_ACTIVATION_RELU2)) {
                continue; /* there is a kink */
            }
            const float around[2] = {z - h, z + h}; /* exact */
            float values[2];
            assert_int_equal(fff_activate(isa, (fff_activation)a, FFF_SLEEF_ANY, 2, around, values), FFF_OK);
            float difference = (values[1] - values[0]) / (2 * h), found = derivative(isa, (fff_activation)a, z);
            float allowed = 3e-5f + 2.5e-5f * fmaxf(fabsf(values[0]), fabsf(values[1]));
            if (!(fabsf(difference - found) <= allowed)) {
                fail_msg("%s, activation %d at %a: %g, differences say %g", fff_isa_name(isa), a, (double)z,
                         (double)found, (double)difference);
            }
        }
    }
}

static void test_differences(void **unused) {
    (void)unused;
    for_each_isa(check_differences);
}

static void test_bad_input(void **unused) {
    (void)unused;
    enum { COUNT = 4 };
    float values[3 * COUNT] = {0};
    const float untouched[3 * COUNT] = {0};
    float *const z = values, *const up = values + COUNT, *const out = values + 2 * COUNT;
    float *const odd = (float *)(void *)((char *)values + 1);
#define DIFFERENTIATE(...) fff_differentiate(FFF_ISA_GENERIC, FFF_ACTIVATION_GELU, FFF_SLEEF_RECORDED, __VA_ARGS__)
    assert_int_equal(DIFFERENTIATE(0, NULL, NULL, NULL), FFF_OK);
    assert_int_equal(DIFFERENTIATE(COUNT, NULL, up, out), FFF_ERROR_NULL_POINTER);
    assert_int_equal(DIFFERENTIATE(COUNT, z, NULL, out), FFF_ERROR_NULL_POINTER);
    assert_int_equal(DIFFERENTIATE(COUNT, z, up, NULL), FFF_ERROR_NULL_POINTER);
    assert_int_equal(DIFFERENTIATE(1, odd, up, out), FFF_ERROR_ALIGNMENT);
    assert_int_equal(DIFFERENTIATE(1, z, odd, out), FFF_ERROR_ALIGNMENT);
    assert_int_equal(DIFFERENTIATE(1, z, up, odd), FFF_ERROR_ALIGNMENT);
    assert_int_equal(DIFFERENTIATE(SIZE_MAX, z, up, out), FFF_ERROR_OVERFLOW);
    assert_int_equal(DIFFERENTIATE(SIZE_MAX / 4, z, up, out), FFF_ERROR_OVERFLOW);
    assert_int_equal(DIFFERENTIATE(COUNT, z, up, z + 1), FFF_ERROR_OVERLAP);
    assert_int_equal(DIFFERENTIATE(COUNT, z + 1, up + 1, z), FFF_ERROR_OVERLAP);
    assert_int_equal(DIFFERENTIATE(COUNT, z, up, up + 3), FFF_ERROR_OVERLAP);
    assert_int_equal(DIFFERENTIATE(COUNT, out, up, up - 3), FFF_ERROR_OVERLAP);
    assert_int_equal(DIFFERENTIATE(COUNT, up - 1, up, up), FFF_ERROR_OVERLAP); /* in place of one, across the other */
    assert_int_equal(fff_differentiate(FFF_ISA_GENERIC, (fff_activation)99, FFF_SLEEF_RECORDED, COUNT, z, up, out),
                     FFF_ERROR_OPTION);
    assert_int_equal(fff_differentiate((fff_isa)99, FFF_ACTIVATION_GELU, FFF_SLEEF_RECORDED, COUNT, z, up, out),
                     FFF_ERROR_OPTION);
    assert_memory_equal(values, untouched, sizeof values);
    assert_int_equal(DIFFERENTIATE(COUNT, z, z + 1, out), FFF_OK); /* what is read may overlap */
    assert_int_equal(DIFFERENTIATE(COUNT, z, z, z), FFF_OK);
#undef DIFFERENTIATE
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exact),
        cmocka_unit_test(test_upstream),
        cmocka_unit_test(test_differences),
        cmocka_unit_test(test_bad_input),
    };
    return cmocka_run_group_tests_name("differentiate", tests, NULL, NULL);
}
