/* Which matrices may lie where: against a count of every byte, at random and at the edges. A call whose arguments share
 * no byte succeeds, and touches nothing but its results and its workspace; any other is refused, and touches nothing.
 */
#include "tests/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ARENA = 40 << 10, MOST_WIDTH = 6, MOST_BATCH = 7 };

/* Rows of 4-byte elements in the arena, or with one row of bytes the workspace. In bytes. */
struct matrix {
    size_t offset, count, size, stride;
    bool written;
};

enum function { FORWARD, ROUTE, ACCUMULATE, FUNCTIONS };

/* The workspace, then two or three matrices, in the order in which they are arguments. */
struct call {
    fff_layer *layer;
    enum function function;
    size_t batch, count;
    struct matrix matrices[4];
};

static size_t end_of(const struct matrix *m) {
    return m->offset + (m->count - 1) * m->stride + m->size;
}

static fff_status make_call(const struct call *call, unsigned char *arena) {
    const struct matrix *m = call->matrices;
    void *at[4];
    size_t stride[4];
    for (size_t i = 0; i < call->count; i++) {
        at[i] = arena + m[i].offset;
        stride[i] = m[i].stride / sizeof(float);
    }
    switch (call->function) {
    case FORWARD:
        return fff_forward(call->layer, call->batch, at[1], stride[1], at[2], stride[2], at[0], m[0].size, NULL);
    case ROUTE:
        return fff_route(call->layer, call->batch, at[1], stride[1], at[2], stride[2], at[3], stride[3], at[0],
                         m[0].size, NULL);
    case ACCUMULATE:
        return fff_accumulate(call->layer, call->batch, at[1], stride[1], at[2], stride[2], at[3], stride[3], at[0],
                              m[0].size, NULL);
    case FUNCTIONS: break;
    }
    return FFF_ERROR_OPTION;
}

/* Byte by byte: whether anything that is written is in another matrix, too. Tells who owns each byte. */
static bool shares_a_byte(const struct call *call, signed char owner[ARENA]) {
    bool shared = false;
    memset(owner, -1, ARENA);
    for (size_t i = 0; i < call->count; i++) {
        const struct matrix *m = &call->matrices[i];
        for (size_t row = 0; row < m->count; row++) {
            for (size_t byte = 0; byte < m->size; byte++) {
                signed char *o = &owner[m->offset + row * m->stride + byte];
                shared = shared || (*o >= 0 && (m->written || call->matrices[*o].written));
                *o = (signed char)i;
            }
        }
    }
    return shared;
}

/* The same call with each matrix in memory of its own; its results copied to their places in `arena`. */
static void make_call_apart(const struct call *call, unsigned char *arena) {
    struct call apart = *call;
    size_t end = 0;
    for (size_t i = 0; i < call->count; i++) {
        struct matrix *m = &apart.matrices[i];
        m->offset = end;
        m->stride = m->size;
        end = (end_of(m) + 63) / 64 * 64;
    }
    unsigned char *memory = test_allocate(end, 1);
    for (int back = 0; back < 2; back++) {
        for (size_t i = 1; i < call->count; i++) {
            const struct matrix *there = &call->matrices[i], *here = &apart.matrices[i];
            for (size_t row = 0; row < here->count; row++) {
                unsigned char *a = arena + there->offset + row * there->stride,
                              *b = memory + here->offset + row * here->stride;
                if (back == 0) {
                    memcpy(b, a, here->size);
                } else if (there->written) {
                    memcpy(a, b, here->size);
                }
            }
        }
        if (back == 0) {
            assert_int_equal(make_call(&apart, memory), FFF_OK);
        }
    }
    free(memory);
}

/* Returns whether the call was allowed. */
static bool check_call(const struct call *call, uint64_t *state) {
    static _Alignas(64) unsigned char arena[ARENA], expected[ARENA];
    static signed char owner[ARENA];
    static float numbers[ARENA / sizeof(float)];
    if (numbers[0] == 0) {
        fill_floats(FILL_NORMAL, numbers, ARENA / sizeof(float), state);
    }
    memcpy(arena, numbers, ARENA);
    bool refused = shares_a_byte(call, owner);
    const struct matrix *nodes = &call->matrices[1];
    for (size_t row = 0; row < nodes->count && call->function == ACCUMULATE; row++) {
        memset(arena + nodes->offset + row * nodes->stride, 0, nodes->size);
    }
    memcpy(expected, arena, ARENA);
    if (!refused) {
        make_call_apart(call, expected);
    }
    fff_status status = make_call(call, arena);
    size_t same = 0;
    while (same < ARENA && (arena[same] == expected[same] || (!refused && owner[same] == 0))) {
        same++;
    }
    if (status != (refused ? FFF_ERROR_OVERLAP : FFF_OK) || same < ARENA) {
        for (size_t i = 0; i < call->count; i++) {
            const struct matrix *m = &call->matrices[i];
            printf("%zu: %zu rows of %zu bytes, %zu apart, from %zu\n", i, m->count, m->size, m->stride, m->offset);
        }
        fail_msg("function %d: '%s'; as it should be before byte %zu, of matrix %d", call->function,
                 fff_status_text(status), same, same < ARENA ? owner[same] : -1);
    }
    return !refused;
}

/* A layer of random widths, and the sizes of a call's matrices, with rows on end and every offset 0. */
static struct call random_call(enum function function, uint64_t *state) {
    enum { MOST_ROWS = 3 * 7 };
    static float weights[MOST_ROWS * MOST_WIDTH];
    size_t in = 1 + random_below(state, MOST_WIDTH), out = 1 + random_below(state, MOST_WIDTH);
    fill_floats(FILL_NORMAL, weights, MOST_ROWS * MOST_WIDTH, state);
    fff_layer_desc desc = {
        .struct_size = sizeof desc,
        .input_width = in,
        .output_width = out,
        .depth = random_below(state, 3),
        .trees = 1 + random_below(state, 3),
        .input_weights = {weights, in, 1},
        .output_weights = {weights, out, 1},
    };
    struct call call = {
        .layer = test_create_layer(&desc, FFF_ISA_GENERIC),
        .function = function,
        .batch = 1 + random_below(state, MOST_BATCH),
        .count = function == FORWARD ? 3 : 4,
    };
    size_t path = fff_layer_path_length(call.layer), size = 0;
    assert_int_equal(fff_workspace_size(call.layer, call.batch, 1, &size), FFF_OK);
    const size_t widths[FUNCTIONS][3] = {{in, out}, {in, path, path}, {path, path, out}};
    const bool written[FUNCTIONS][3] = {{false, true}, {false, true, true}, {false, false, true}};
    call.matrices[0] = (struct matrix){0, 1, size, size, true};
    for (size_t i = 1; i < call.count; i++) {
        size_t bytes = widths[function][i - 1] * sizeof(float);
        call.matrices[i] = (struct matrix){0, call.batch, bytes, bytes, written[function][i - 1]};
    }
    return call;
}

/* Everything within a few rows' distance. Strides that differ, mostly; the workspace out of the way, as often as not,
 * or so small against the strides that it may lie between rows. */
static void scatter(struct call *call, uint64_t *state) {
    size_t scale = random_below(state, 3) == 0 ? (call->matrices[0].size + 64) / 4 * 4 : 0,
           equal = random_below(state, 4);
    size_t gap = random_below(state, 12) * sizeof(float), window = 1 + random_below(state, 60);
    for (size_t i = 1; i < call->count; i++) {
        struct matrix *m = &call->matrices[i];
        size_t own_gap = random_below(state, 3) == 0 ? 0 : random_below(state, 24) * sizeof(float);
        m->stride += (equal == 0 ? gap : own_gap) + (random_below(state, 4) != 0 ? scale : 0);
        m->offset = random_below(state, window) * sizeof(float);
        if (equal == 0) {
            m->stride = call->matrices[1].size + 60 * sizeof(float) + scale; /* more than any row */
        }
    }
    bool away = random_below(state, 2) == 0;
    call->matrices[0].size += random_below(state, 9);
    call->matrices[0].offset = away ? ARENA - call->matrices[0].size : random_below(state, 2 * scale + 256);
    for (size_t i = 1; i < call->count; i++) {
        assert_true(end_of(&call->matrices[i]) <= ARENA);
    }
}

static void test_random_places(void **unused) {
    (void)unused;
    uint64_t state = test_random("random places");
    size_t calls = getenv("FFF_TEST_SHORT") != NULL ? 1000 : 20000;
    for (int function = 0; function < FUNCTIONS; function++) {
        size_t allowed = 0;
        for (size_t i = 0; i < calls; i++) {
            struct call call = random_call((enum function)function, &state);
            scatter(&call, &state);
            allowed += check_call(&call, &state);
            fff_layer_destroy(call.layer);
        }
        printf("function %d: %zu of %zu calls allowed\n", function, allowed, calls);
        assert_true(allowed > calls / 20 && allowed < calls - calls / 20);
    }
}

/* Each matrix at every byte or element around both ends of the workspace. */
static void test_ends_of_workspace(void **unused) {
    (void)unused;
    uint64_t state = test_random("ends of workspace");
    for (int function = 0; function < FUNCTIONS; function++) {
        for (size_t misaligned = 0; misaligned < 8; misaligned++) {
            struct call call = random_call((enum function)function, &state);
            for (size_t i = 1; i < call.count; i++) { /* the others out of the way */
                call.matrices[i].offset = i * 1024;
            }
            call.matrices[0].offset = 8 * 1024 + misaligned;
            for (size_t i = 1; i < call.count; i++) {
                struct matrix *m = &call.matrices[i];
                size_t allowed = 0, before = m->offset, length = end_of(m) - m->offset;
                const size_t ends[] = {call.matrices[0].offset / 4 * 4 - length, end_of(&call.matrices[0]) / 4 * 4};
                for (int end = 0; end < 2; end++) {
                    for (int elements = -2; elements <= 2; elements++) {
                        m->offset = ends[end] + (size_t)(4 * elements);
                        allowed += check_call(&call, &state);
                    }
                }
                assert_true(allowed > 0 && allowed < 10);
                m->offset = before;
            }
            fff_layer_destroy(call.layer);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_places),
        cmocka_unit_test(test_ends_of_workspace),
    };
    test_start("test_overlap");
    return cmocka_run_group_tests_name("overlap", tests, NULL, NULL);
}
