/* What is made of the SLEEF that is loaded: compiled as it is with the real one, and with FAKE_SLEEF for
 * tests/fake_sleef.c, which is off by one bit. */
#include "tests/support.h"

#include <fff/fff.h>
#include <string.h>

#ifdef FAKE_SLEEF
void fake_sleef(void);
static const fff_status FOUND = FFF_ERROR_SLEEF;
#else
static void fake_sleef(void) {
}
static const fff_status FOUND = FFF_OK;
#endif

static bool uses_sleef(int activation) {
    return activation == FFF_ACTIVATION_GELU_TANH || activation == FFF_ACTIVATION_SILU;
}

static void test_check(void **unused) {
    (void)unused;
    for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
        fff_status usable = fff_isa_usable((fff_isa)isa);
        assert_int_equal(fff_sleef_check((fff_isa)isa), usable == FFF_OK ? FOUND : usable);
    }
    assert_int_equal(fff_sleef_check(FFF_ISA_AUTO), FOUND);
    assert_int_equal(fff_sleef_check((fff_isa)FFF_ISA_COUNT), FFF_ERROR_OPTION);
}

static void test_which_activations(void **unused) {
    (void)unused;
    for (int a = -1; a <= FFF_ACTIVATION_COUNT; a++) {
        assert_int_equal(fff_activation_uses_sleef((fff_activation)a), uses_sleef(a));
    }
}

static void test_path(void **unused) {
    (void)unused;
    const char *path = fff_sleef_path();
    assert_non_null(path);
    assert_non_null(strstr(path, "sleef"));
    assert_int_equal(strstr(path, "fake_sleef") != NULL, FOUND != FFF_OK);
}

static void test_activate(void **unused) {
    (void)unused;
    const float logits[] = {-3.25f, -0.625f, 0.3f, 1.75f};
    enum { COUNT = sizeof logits / sizeof *logits };
    for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
        for (int a = 0; a < FFF_ACTIVATION_COUNT && fff_isa_usable((fff_isa)isa) == FFF_OK; a++) {
            float found[COUNT] = {7, 7, 7, 7};
            const float untouched[COUNT] = {7, 7, 7, 7};
            fff_status expected = uses_sleef(a) ? FOUND : FFF_OK;
            assert_int_equal(fff_activate((fff_isa)isa, (fff_activation)a, FFF_SLEEF_RECORDED, COUNT, logits, found),
                             expected);
            assert_int_equal(memcmp(found, untouched, sizeof found) == 0, expected != FFF_OK);
            assert_int_equal(fff_activate((fff_isa)isa, (fff_activation)a, FFF_SLEEF_ANY, COUNT, logits, found),
                             FFF_OK);
            assert_memory_not_equal(found, untouched, sizeof found);
            assert_int_equal(fff_activate((fff_isa)isa, (fff_activation)a, (fff_sleef)2, COUNT, logits, found),
                             FFF_ERROR_OPTION);
        }
    }
}

/* The derivatives use it, too, and GELU's although GELU does not. */
static void test_differentiate(void **unused) {
    (void)unused;
    const float logits[] = {-3.25f, -0.625f, 0.3f, 1.75f}, upstream[] = {1, -2, 3, 4};
    enum { COUNT = sizeof logits / sizeof *logits };
    for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
        for (int a = 0; a < FFF_ACTIVATION_COUNT && fff_isa_usable((fff_isa)isa) == FFF_OK; a++) {
            float found[COUNT] = {7, 7, 7, 7};
            const float untouched[COUNT] = {7, 7, 7, 7};
            fff_status expected = uses_sleef(a) || a == FFF_ACTIVATION_GELU ? FOUND : FFF_OK;
            assert_int_equal(
                fff_differentiate((fff_isa)isa, (fff_activation)a, FFF_SLEEF_RECORDED, COUNT, logits, upstream, found),
                expected);
            assert_int_equal(memcmp(found, untouched, sizeof found) == 0, expected != FFF_OK);
            assert_int_equal(
                fff_differentiate((fff_isa)isa, (fff_activation)a, FFF_SLEEF_ANY, COUNT, logits, upstream, found),
                FFF_OK);
            assert_memory_not_equal(found, untouched, sizeof found);
            assert_int_equal(
                fff_differentiate((fff_isa)isa, (fff_activation)a, (fff_sleef)2, COUNT, logits, upstream, found),
                FFF_ERROR_OPTION);
        }
    }
}

static void test_layer(void **unused) {
    (void)unused;
    const float weights[3] = {1, 2, 3};
    for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
        for (int a = 0; a < FFF_ACTIVATION_COUNT && fff_isa_usable((fff_isa)isa) == FFF_OK; a++) {
            fff_layer_desc desc = {
                .struct_size = sizeof desc,
                .input_width = 1,
                .output_width = 1,
                .depth = 1,
                .trees = 1,
                .activation = (fff_activation)a,
                .isa = (fff_isa)isa,
                .input_weights = {weights, 1, 1},
                .output_weights = {weights, 1, 1},
            };
            fff_layer *layer = NULL;
            assert_int_equal(fff_layer_create(&desc, &layer), uses_sleef(a) ? FOUND : FFF_OK);
            assert_int_equal(layer == NULL, uses_sleef(a) && FOUND != FFF_OK);
            fff_layer_destroy(layer);
            layer = NULL;
            desc.sleef = FFF_SLEEF_ANY;
            assert_int_equal(fff_layer_create(&desc, &layer), FFF_OK);
            fff_layer_destroy(layer);
            desc.sleef = (fff_sleef)2;
            assert_int_equal(fff_layer_create(&desc, &layer), FFF_ERROR_OPTION);
        }
    }
}

int main(void) {
    fake_sleef();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check),    cmocka_unit_test(test_which_activations), cmocka_unit_test(test_path),
        cmocka_unit_test(test_activate), cmocka_unit_test(test_differentiate),     cmocka_unit_test(test_layer),
    };
    return cmocka_run_group_tests_name("sleef", tests, NULL, NULL);
}
