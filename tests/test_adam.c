/* fff_adam_rows(): the same bits on every instruction set and in every environment, AdamW in float64, rows that are not
 * listed, and bad input. */
#include "tests/support.h"

#include <fenv.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

enum { ROWS = 7, MOST_WIDTH = 133, MATRICES = 3 };

static const fff_adam SETTINGS = {sizeof(fff_adam), 1e-3f, 0.9f, 0.999f, 1e-8f, 0.01f, 1};

/* Weights and moments, each ending at a page that nobody may touch. */
struct matrices {
    size_t width, stride[MATRICES];
    struct guarded memory[MATRICES];
};

static float *row_of(const struct matrices *m, int matrix, size_t row) {
    return (float *)m->memory[matrix].data + row * m->stride[matrix];
}

static struct matrices make_matrices(size_t width, uint64_t *state) {
    struct matrices m = {.width = width};
    for (int i = 0; i < MATRICES; i++) {
        m.stride[i] = width + random_below(state, 6);
        m.memory[i] = guarded_allocate(((ROWS - 1) * m.stride[i] + width) * sizeof(float));
        fill_floats(FILL_NORMAL, m.memory[i].data, m.memory[i].size / sizeof(float), state);
    }
    for (size_t row = 0; row < ROWS; row++) {
        for (size_t j = 0; j < width; j++) {
            float *v = row_of(&m, 2, row) + j;
            *v = *v * *v;
        }
    }
    return m;
}

static struct matrices copy_matrices(const struct matrices *from) {
    struct matrices copy = *from;
    for (int i = 0; i < MATRICES; i++) {
        copy.memory[i] = guarded_allocate(from->memory[i].size);
        memcpy(copy.memory[i].data, from->memory[i].data, from->memory[i].size);
    }
    return copy;
}

static void free_matrices(struct matrices *m) {
    for (int i = 0; i < MATRICES; i++) {
        guarded_free(&m->memory[i]);
    }
}

static void same_matrices(const struct matrices *a, const struct matrices *b) {
    for (int i = 0; i < MATRICES; i++) {
        assert_memory_equal(a->memory[i].data, b->memory[i].data, a->memory[i].size);
    }
}

static fff_status step(fff_isa isa, const fff_adam *settings, size_t count, const uint32_t *rows,
                       const float *gradients, size_t stride, const struct matrices *m) {
    return fff_adam_rows(isa, settings, count, rows, ROWS, m->width, gradients, stride, row_of(m, 0, 0), m->stride[0],
                         row_of(m, 1, 0), m->stride[1], row_of(m, 2, 0), m->stride[2]);
}

/* Some rows in order: at least one. */
static size_t choose_rows(uint32_t rows[ROWS], uint64_t *state) {
    size_t count = 0;
    for (uint32_t row = 0; row < ROWS; row++) {
        if (random_below(state, 2) == 0 || (row == ROWS - 1 && count == 0)) {
            rows[count++] = row;
        }
    }
    return count;
}

/* All widths; what lies between rows, and rows that are not listed, are compared, too. */
static void test_same_bits(void **unused) {
    (void)unused;
    uint64_t state = test_random("same_bits");
    for (size_t width = 1; width <= MOST_WIDTH; width++) {
        struct matrices before = make_matrices(width, &state), expected = copy_matrices(&before);
        uint32_t rows[ROWS];
        size_t count = choose_rows(rows, &state), stride = width + random_below(&state, 5);
        const uint32_t *listed = width % 4 == 0 ? NULL : rows;
        struct guarded gradients = guarded_allocate(((count - 1) * stride + width) * sizeof(float));
        fill_floats(FILL_MIXED_SCALES, gradients.data, gradients.size / sizeof(float), &state);
        fff_adam settings = SETTINGS;
        settings.step = 1 + random_below(&state, 3) * width;
        assert_int_equal(step(FFF_ISA_GENERIC, &settings, count, listed, gradients.data, stride, &expected), FFF_OK);
        for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
            for (int upward = 0; upward < 2 && fff_isa_usable((fff_isa)isa) == FFF_OK; upward++) {
                struct matrices found = copy_matrices(&before);
                fesetround(upward ? FE_UPWARD : FE_TONEAREST);
                fff_status status = step((fff_isa)isa, &settings, count, listed, gradients.data, stride, &found);
                assert_int_equal(fegetround(), upward ? FE_UPWARD : FE_TONEAREST);
                fesetround(FE_TONEAREST);
                assert_int_equal(status, FFF_OK);
                same_matrices(&found, &expected);
                free_matrices(&found);
            }
        }
        guarded_free(&gradients);
        free_matrices(&expected);
        free_matrices(&before);
    }
}

static void close_to(const char *what, float found, double expected, double scale, double roundings) {
    if (!(fabs((double)found - expected) <= roundings * 0x1p-24 * scale)) {
        fail_msg("%s is %.9g, expected %.9g", what, (double)found, expected);
    }
}

/* Each step from the same float32 state, so that errors do not add up. The definition is torch.optim.AdamW's. */
static void test_against_float64(void **unused) {
    (void)unused;
    enum { WIDTH = 37 };
    uint64_t state = test_random("against_float64");
    for (uint64_t t = 1; t < 3000000000; t = t < 20 ? t + 1 : t * 3) {
        const fff_adam settings = {sizeof settings, 2e-3f, 0.9f, 0.98f, 1e-6f, t % 2 == 0 ? 0.1f : 0.0f, t};
        struct matrices m = make_matrices(WIDTH, &state), before = copy_matrices(&m);
        float gradients[ROWS * WIDTH];
        fill_floats(FILL_NORMAL, gradients, ROWS * WIDTH, &state);
        assert_int_equal(step(FFF_ISA_AUTO, &settings, ROWS, NULL, gradients, WIDTH, &m), FFF_OK);
        double rate = (double)settings.learning_rate, beta1 = (double)settings.beta1, beta2 = (double)settings.beta2;
        double correction1 = 1 - pow(beta1, (double)t), correction2 = 1 - pow(beta2, (double)t);
        for (size_t row = 0; row < ROWS; row++) {
            for (size_t j = 0; j < WIDTH; j++) {
                double g = (double)gradients[row * WIDTH + j], w = (double)row_of(&before, 0, row)[j];
                double m0 = (double)row_of(&before, 1, row)[j], v0 = (double)row_of(&before, 2, row)[j];
                double m1 = beta1 * m0 + (1 - beta1) * g, v1 = beta2 * v0 + (1 - beta2) * g * g;
                double change = rate * (m1 / correction1) / (sqrt(v1 / correction2) + (double)settings.epsilon);
                double decayed = w - rate * (double)settings.weight_decay * w;
                double m_scale = fabs(beta1 * m0) + fabs((1 - beta1) * g);
                close_to("first moment", row_of(&m, 1, row)[j], m1, m_scale, 4);
                close_to("second moment", row_of(&m, 2, row)[j], v1, v1, 6);
                double change_scale = fabs(change) * (m1 == 0 ? 1 : 12 + 4 * m_scale / fabs(m1));
                close_to("weight", row_of(&m, 0, row)[j], decayed - change, change_scale + 4 * fabs(w), 1);
            }
        }
        free_matrices(&before);
        free_matrices(&m);
    }
}

/* A row that is left out for a step is as if the step had not been; the others do not notice. */
static void test_lazy(void **unused) {
    (void)unused;
    enum { WIDTH = 9 };
    uint64_t state = test_random("lazy");
    struct matrices some = make_matrices(WIDTH, &state), all = copy_matrices(&some), before = copy_matrices(&some);
    const uint32_t rows[] = {1, 2, 5};
    float gradients[ROWS * WIDTH], listed[3 * WIDTH];
    fill_floats(FILL_NORMAL, gradients, ROWS * WIDTH, &state);
    for (size_t i = 0; i < 3; i++) {
        memcpy(listed + i * WIDTH, gradients + rows[i] * WIDTH, WIDTH * sizeof(float));
    }
    assert_int_equal(step(FFF_ISA_AUTO, &SETTINGS, 3, rows, listed, WIDTH, &some), FFF_OK);
    assert_int_equal(step(FFF_ISA_AUTO, &SETTINGS, ROWS, NULL, gradients, WIDTH, &all), FFF_OK);
    for (uint32_t row = 0; row < ROWS; row++) {
        bool is_listed = row == 1 || row == 2 || row == 5;
        for (int i = 0; i < MATRICES; i++) {
            const struct matrices *expected = is_listed ? &all : &before;
            assert_memory_equal(row_of(&some, i, row), row_of(expected, i, row), WIDTH * sizeof(float));
            assert_memory_not_equal(row_of(&all, i, row), row_of(&before, i, row), WIDTH * sizeof(float));
        }
    }
    free_matrices(&before);
    free_matrices(&all);
    free_matrices(&some);
}

/* Whatever the gradient's size, the first step from zeros is the learning rate long; one without a gradient is none. */
static void test_first_step(void **unused) {
    (void)unused;
    const float gradients[] = {1e-3f, -1.0f, 1e9f, 0.0f};
    float weights[4] = {1, 1, 1, 1}, first[4] = {0}, second[4] = {0};
    fff_adam settings = SETTINGS;
    settings.weight_decay = 0;
    settings.learning_rate = 0.125f;
    assert_int_equal(
        fff_adam_rows(FFF_ISA_AUTO, &settings, 1, NULL, 1, 4, gradients, 4, weights, 4, first, 4, second, 4), FFF_OK);
    const float expected[] = {0.875f, 1.125f, 0.875f, 1.0f};
    for (int j = 0; j < 4; j++) {
        assert_true(fabsf(weights[j] - expected[j]) < 1e-5f);
    }
}

/* On x86-64 any exception, such as the comparison of a NaN, ends the program from here on. */
static unsigned trap_all(void) {
#if defined(__x86_64__)
    unsigned usual = _mm_getcsr();
    _mm_setcsr(0);
    return usual;
#else
    return 0;
#endif
}

static void set_control(unsigned usual) {
#if defined(__x86_64__)
    _mm_setcsr(usual);
#else
    (void)usual;
#endif
}

static void test_settings(void **unused) {
    (void)unused;
    float g[1] = {1}, w[1] = {1}, m[1] = {0}, v[1] = {0};
#define STEP(settings) fff_adam_rows(FFF_ISA_AUTO, settings, 1, NULL, 1, 1, g, 1, w, 1, m, 1, v, 1)
    static const struct {
        fff_adam settings;
        fff_status expected;
    } table[] = {
        {{sizeof(fff_adam), NAN, 0.9f, 0.9f, 1e-8f, 0, 1}, FFF_ERROR_NUMBER},
        {{sizeof(fff_adam), INFINITY, 0.9f, 0.9f, 1e-8f, 0, 1}, FFF_ERROR_NUMBER},
        {{sizeof(fff_adam), -1e-3f, 0.9f, 0.9f, 1e-8f, 0, 1}, FFF_ERROR_NUMBER},
        {{sizeof(fff_adam), 3e38f, 0.9f, 0.9f, 1e-8f, 0, 1}, FFF_ERROR_NUMBER},
        {{sizeof(fff_adam), 3e38f, 0.0f, 0.9f, 1e-8f, 3e38f, 1}, FFF_ERROR_NUMBER},
        {{sizeof(fff_adam), 1e-3f, 1.0f, 0.9f, 1e-8f, 0, 1}, FFF_ERROR_NUMBER},
        {{sizeof(fff_adam), 1e-3f, -0.1f, 0.9f, 1e-8f, 0, 1}, FFF_ERROR_NUMBER},
        {{sizeof(fff_adam), 1e-3f, NAN, 0.9f, 1e-8f, 0, 1}, FFF_ERROR_NUMBER},
        {{sizeof(fff_adam), 1e-3f, 0.9f, 1.0f, 1e-8f, 0, 1}, FFF_ERROR_NUMBER},
        {{sizeof(fff_adam), 1e-3f, 0.9f, -0.1f, 1e-8f, 0, 1}, FFF_ERROR_NUMBER},
        {{sizeof(fff_adam), 1e-3f, 0.9f, NAN, 1e-8f, 0, 1}, FFF_ERROR_NUMBER},
        {{sizeof(fff_adam), 1e-3f, 0.9f, 0.9f, -1e-8f, 0, 1}, FFF_ERROR_NUMBER},
        {{sizeof(fff_adam), 1e-3f, 0.9f, 0.9f, NAN, 0, 1}, FFF_ERROR_NUMBER},
        {{sizeof(fff_adam), 1e-3f, 0.9f, 0.9f, INFINITY, 0, 1}, FFF_ERROR_NUMBER},
        {{sizeof(fff_adam), 1e-3f, 0.9f, 0.9f, 1e-8f, -0.1f, 1}, FFF_ERROR_NUMBER},
        {{sizeof(fff_adam), 1e-3f, 0.9f, 0.9f, 1e-8f, NAN, 1}, FFF_ERROR_NUMBER},
        {{sizeof(fff_adam), 1e-3f, 0.9f, 0.9f, 1e-8f, INFINITY, 1}, FFF_ERROR_NUMBER},
        {{sizeof(fff_adam), 1e-3f, 0.9f, 0.9f, 1e-8f, 0, 0}, FFF_ERROR_NUMBER},
        {{sizeof(fff_adam) - 1, 1e-3f, 0.9f, 0.9f, 1e-8f, 0, 1}, FFF_ERROR_STRUCT_SIZE},
        {{0, 1e-3f, 0.9f, 0.9f, 1e-8f, 0, 1}, FFF_ERROR_STRUCT_SIZE},
        {{SIZE_MAX, 1e-3f, 0.9f, 0.9f, 1e-8f, 0, 1}, FFF_ERROR_STRUCT_SIZE},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        assert_int_equal(STEP(&table[i].settings), table[i].expected);
        unsigned usual = trap_all();
        fff_status status = STEP(&table[i].settings);
        set_control(usual);
        assert_int_equal(status, table[i].expected);
    }
    assert_int_equal(STEP(NULL), FFF_ERROR_NULL_POINTER);
    struct {
        fff_adam known;
        unsigned char later[8];
    } longer = {SETTINGS, {0}};
    longer.known.struct_size = sizeof longer;
    longer.later[7] = 1;
    assert_int_equal(STEP(&longer.known), FFF_ERROR_STRUCT_SIZE);
    assert_true(g[0] == 1 && w[0] == 1 && m[0] == 0 && v[0] == 0);
    longer.later[7] = 0;
    assert_int_equal(STEP(&longer.known), FFF_OK);
    assert_true(w[0] < 1 && m[0] > 0 && v[0] > 0);
    static union { /* as long as settings may be, and a byte longer */
        fff_adam known;
        unsigned char bytes[4097];
    } longest;
    longest.known = SETTINGS;
    longest.known.struct_size = sizeof longest.bytes;
    assert_int_equal(STEP(&longest.known), FFF_ERROR_STRUCT_SIZE);
    longest.known.struct_size = sizeof longest.bytes - 1;
    assert_int_equal(STEP(&longest.known), FFF_OK);
    /* The ends of what is allowed: no moments, no step, the last step. */
    static const fff_adam extreme[] = {
        {sizeof(fff_adam), 0, 0, 0, 0, 0, 1},
        {sizeof(fff_adam), 1e-3f, 0x1.fffffep-1f, 0x1.fffffep-1f, 1e-8f, 0, 1},
        {sizeof(fff_adam), 1e-3f, 0x1.fffffep-1f, 0x1.fffffep-1f, 1e-8f, 1.0f, UINT64_MAX},
    };
    for (size_t i = 0; i < sizeof extreme / sizeof *extreme; i++) {
        assert_int_equal(STEP(&extreme[i]), FFF_OK);
        assert_true(isfinite(w[0]) && isfinite(m[0]) && isfinite(v[0]));
    }
#undef STEP
}

static void test_bad_input(void **unused) {
    (void)unused;
    enum { LIMIT = 4, WIDTH = 3, STRIDE = 4, SIZE = LIMIT * STRIDE };
    float memory[4 * SIZE] = {0}, untouched[4 * SIZE] = {0};
    float *const g = memory, *const w = memory + SIZE, *const m = memory + 2 * SIZE, *const v = memory + 3 * SIZE;
    float *const odd = (float *)(void *)((char *)memory + 1);
    const uint32_t rows[] = {0, 3}, twice[] = {2, 2}, down[] = {2, 1}, outside[] = {1, LIMIT}, far[] = {0, UINT32_MAX};
    const uint32_t *const odd_rows = (const uint32_t *)(const void *)((const char *)rows + 1);
#define STEP(count, rows, limit, width, ...)                                                                           \
    fff_adam_rows(FFF_ISA_AUTO, &SETTINGS, count, rows, limit, width, __VA_ARGS__)
    assert_int_equal(STEP(0, NULL, 0, 0, NULL, 0, NULL, 0, NULL, 0, NULL, 0), FFF_OK);
    assert_int_equal(
        fff_adam_rows((fff_isa)99, &SETTINGS, 2, rows, LIMIT, WIDTH, g, STRIDE, w, STRIDE, m, STRIDE, v, STRIDE),
        FFF_ERROR_OPTION);
    assert_int_equal(STEP(2, rows, LIMIT, 0, g, STRIDE, w, STRIDE, m, STRIDE, v, STRIDE), FFF_ERROR_SHAPE);
    assert_int_equal(STEP(2, rows, LIMIT, WIDTH, NULL, STRIDE, w, STRIDE, m, STRIDE, v, STRIDE),
                     FFF_ERROR_NULL_POINTER);
    assert_int_equal(STEP(2, rows, LIMIT, WIDTH, g, STRIDE, NULL, STRIDE, m, STRIDE, v, STRIDE),
                     FFF_ERROR_NULL_POINTER);
    assert_int_equal(STEP(2, rows, LIMIT, WIDTH, g, STRIDE, w, STRIDE, NULL, STRIDE, v, STRIDE),
                     FFF_ERROR_NULL_POINTER);
    assert_int_equal(STEP(2, rows, LIMIT, WIDTH, g, STRIDE, w, STRIDE, m, STRIDE, NULL, STRIDE),
                     FFF_ERROR_NULL_POINTER);
    assert_int_equal(STEP(2, rows, LIMIT, WIDTH, odd, STRIDE, w, STRIDE, m, STRIDE, v, STRIDE), FFF_ERROR_ALIGNMENT);
    assert_int_equal(STEP(2, rows, LIMIT, WIDTH, g, STRIDE, odd, STRIDE, m, STRIDE, v, STRIDE), FFF_ERROR_ALIGNMENT);
    assert_int_equal(STEP(2, rows, LIMIT, WIDTH, g, STRIDE, w, STRIDE, odd, STRIDE, v, STRIDE), FFF_ERROR_ALIGNMENT);
    assert_int_equal(STEP(2, rows, LIMIT, WIDTH, g, STRIDE, w, STRIDE, m, STRIDE, odd, STRIDE), FFF_ERROR_ALIGNMENT);
    assert_int_equal(STEP(1, odd_rows, LIMIT, WIDTH, g, STRIDE, w, STRIDE, m, STRIDE, v, STRIDE), FFF_ERROR_ALIGNMENT);
    assert_int_equal(STEP(2, rows, LIMIT, WIDTH, g, 2, w, STRIDE, m, STRIDE, v, STRIDE), FFF_ERROR_STRIDE);
    assert_int_equal(STEP(2, rows, LIMIT, WIDTH, g, STRIDE, w, 2, m, STRIDE, v, STRIDE), FFF_ERROR_STRIDE);
    assert_int_equal(STEP(2, rows, LIMIT, WIDTH, g, STRIDE, w, STRIDE, m, 2, v, STRIDE), FFF_ERROR_STRIDE);
    assert_int_equal(STEP(2, rows, LIMIT, WIDTH, g, STRIDE, w, STRIDE, m, STRIDE, v, 2), FFF_ERROR_STRIDE);
    assert_int_equal(STEP(2, rows, LIMIT, WIDTH, g, SIZE_MAX, w, STRIDE, m, STRIDE, v, STRIDE), FFF_ERROR_OVERFLOW);
    assert_int_equal(STEP(2, rows, LIMIT, WIDTH, g, STRIDE, w, SIZE_MAX / 8, m, STRIDE, v, STRIDE), FFF_ERROR_OVERFLOW);
    assert_int_equal(STEP(2, rows, LIMIT, WIDTH, g, STRIDE, w, STRIDE, m, SIZE_MAX / 8, v, STRIDE), FFF_ERROR_OVERFLOW);
    assert_int_equal(STEP(2, rows, LIMIT, WIDTH, g, STRIDE, w, STRIDE, m, STRIDE, v, SIZE_MAX / 8), FFF_ERROR_OVERFLOW);
    assert_int_equal(STEP(2, rows, SIZE_MAX, WIDTH, g, STRIDE, w, STRIDE, m, STRIDE, v, STRIDE), FFF_ERROR_OVERFLOW);
    assert_int_equal(STEP(SIZE_MAX, rows, SIZE_MAX, 1, g, 1, w, 1, m, 1, v, 1), FFF_ERROR_OVERFLOW);
    assert_int_equal(STEP(2, rows, LIMIT, WIDTH, w + 2, STRIDE, w, STRIDE, m, STRIDE, v, STRIDE), FFF_ERROR_OVERLAP);
    assert_int_equal(STEP(2, rows, LIMIT, WIDTH, g, STRIDE, w, STRIDE, w, STRIDE, v, STRIDE), FFF_ERROR_OVERLAP);
    assert_int_equal(STEP(2, rows, LIMIT, WIDTH, g, STRIDE, w, STRIDE, m, STRIDE, m + 1, STRIDE), FFF_ERROR_OVERLAP);
    assert_int_equal(STEP(2, rows, LIMIT, WIDTH, v - 1, STRIDE, w, STRIDE, m, STRIDE, v - 2, STRIDE),
                     FFF_ERROR_OVERLAP);
    assert_int_equal(
        STEP(2, (const uint32_t *)(const void *)w, LIMIT, WIDTH, g, STRIDE, w, STRIDE, m, STRIDE, v, STRIDE),
        FFF_ERROR_OVERLAP);
    assert_int_equal(STEP(2, twice, LIMIT, WIDTH, g, STRIDE, w, STRIDE, m, STRIDE, v, STRIDE), FFF_ERROR_NODE);
    assert_int_equal(STEP(2, down, LIMIT, WIDTH, g, STRIDE, w, STRIDE, m, STRIDE, v, STRIDE), FFF_ERROR_NODE);
    assert_int_equal(STEP(2, outside, LIMIT, WIDTH, g, STRIDE, w, STRIDE, m, STRIDE, v, STRIDE), FFF_ERROR_NODE);
    assert_int_equal(STEP(2, far, LIMIT, WIDTH, g, STRIDE, w, STRIDE, m, STRIDE, v, STRIDE), FFF_ERROR_NODE);
    assert_int_equal(STEP(LIMIT + 1, NULL, LIMIT, WIDTH, g, STRIDE, w, STRIDE, m, STRIDE, v, STRIDE), FFF_ERROR_NODE);
    assert_int_equal(STEP(1, NULL, 0, WIDTH, g, STRIDE, w, STRIDE, m, STRIDE, v, STRIDE), FFF_ERROR_NODE);
    assert_memory_equal(memory, untouched, sizeof memory);
    /* Rows side by side. */
    assert_int_equal(STEP(4, NULL, LIMIT, WIDTH, g, 4 * STRIDE, g + STRIDE, 4 * STRIDE, g + 2 * STRIDE, 4 * STRIDE,
                          g + 3 * STRIDE, 4 * STRIDE),
                     FFF_OK);
    assert_int_equal(STEP(2, rows, LIMIT, WIDTH, g, STRIDE, w, STRIDE, m, STRIDE, v, STRIDE), FFF_OK);
#undef STEP
}

int main(void) {
    test_start("test_adam");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits),  cmocka_unit_test(test_against_float64), cmocka_unit_test(test_lazy),
        cmocka_unit_test(test_first_step), cmocka_unit_test(test_settings),        cmocka_unit_test(test_bad_input),
    };
    return cmocka_run_group_tests_name("adam", tests, NULL, NULL);
}
