/* What `fff verify` is for: kernels that are wrong by a bit, on one instruction set or in one way of computing, are
 * told. The linker calls the functions named __wrap_ here in place of the library's. */
#include "tests/support.h"
#include "tools/machine/isas.h"
#include "tools/verify/layer.h"

#include <stdlib.h>
#include <string.h>

enum { BATCH = 501, INPUT = 12, OUTPUT = 9, DEPTH = 3, TREES = 2, PATH = TREES * (DEPTH + 1) };

/* ---- Kernels that are wrong ------------------------------------------------------------------------ */

enum way {
    NOWHERE,
    EVERYWHERE,  /* every output, however it is computed */
    WHOLE,       /* fff_forward() of the whole batch */
    PIECE,       /* of the first `piece` tokens */
    TASKS,       /* of tasks that a runner shares out */
    ACCUMULATE,  /* fff_accumulate() */
    ROUTE_NODE,  /* one node of fff_route() */
    ROUTE_LOGIT, /* one logit */
};
static struct {
    enum way way;
    fff_isa isa;
    size_t piece;
} fault;
static const float *first_token;

static void flip(float *value) {
    uint32_t bits;
    memcpy(&bits, value, sizeof bits);
    bits ^= 1;
    memcpy(value, &bits, sizeof bits);
}

static void spoil(bool here, const fff_layer *layer, size_t count, float *values) {
    for (size_t i = 0; i < count && here && fff_layer_isa(layer) == fault.isa; i++) {
        flip(values + i);
    }
}

fff_status __real_fff_forward(const fff_layer *layer, size_t batch, const float *input, size_t input_stride,
                              float *output, size_t output_stride, void *workspace, size_t workspace_size,
                              const fff_runner *runner);
fff_status __real_fff_route(const fff_layer *layer, size_t batch, const float *input, size_t input_stride,
                            uint32_t *nodes, size_t node_stride, float *logits, size_t logit_stride, void *workspace,
                            size_t workspace_size, const fff_runner *runner);
fff_status __real_fff_accumulate(const fff_layer *layer, size_t batch, const uint32_t *nodes, size_t node_stride,
                                 const float *logits, size_t logit_stride, float *output, size_t output_stride,
                                 void *workspace, size_t workspace_size, const fff_runner *runner);
fff_status __wrap_fff_forward(const fff_layer *layer, size_t batch, const float *input, size_t input_stride,
                              float *output, size_t output_stride, void *workspace, size_t workspace_size,
                              const fff_runner *runner);
fff_status __wrap_fff_route(const fff_layer *layer, size_t batch, const float *input, size_t input_stride,
                            uint32_t *nodes, size_t node_stride, float *logits, size_t logit_stride, void *workspace,
                            size_t workspace_size, const fff_runner *runner);
fff_status __wrap_fff_accumulate(const fff_layer *layer, size_t batch, const uint32_t *nodes, size_t node_stride,
                                 const float *logits, size_t logit_stride, float *output, size_t output_stride,
                                 void *workspace, size_t workspace_size, const fff_runner *runner);

fff_status __wrap_fff_forward(const fff_layer *layer, size_t batch, const float *input, size_t input_stride,
                              float *output, size_t output_stride, void *workspace, size_t workspace_size,
                              const fff_runner *runner) {
    fff_status status =
        __real_fff_forward(layer, batch, input, input_stride, output, output_stride, workspace, workspace_size, runner);
    assert_int_equal(output_stride, OUTPUT);
    spoil(fault.way == EVERYWHERE, layer, batch * OUTPUT, output);
    bool alone = input == first_token && runner == NULL;
    spoil(fault.way == WHOLE && alone && batch == BATCH, layer, 1, output);
    spoil(fault.way == PIECE && alone && batch == fault.piece, layer, 1, output);
    spoil(fault.way == TASKS && runner != NULL, layer, 1, output);
    return status;
}

fff_status __wrap_fff_route(const fff_layer *layer, size_t batch, const float *input, size_t input_stride,
                            uint32_t *nodes, size_t node_stride, float *logits, size_t logit_stride, void *workspace,
                            size_t workspace_size, const fff_runner *runner) {
    fff_status status = __real_fff_route(layer, batch, input, input_stride, nodes, node_stride, logits, logit_stride,
                                         workspace, workspace_size, runner);
    if (fault.way == ROUTE_NODE && fff_layer_isa(layer) == fault.isa) {
        nodes[DEPTH] = nodes[DEPTH] % 2 == 1 ? nodes[DEPTH] + 1 : nodes[DEPTH] - 1; /* its sibling */
    }
    spoil(fault.way == ROUTE_LOGIT, layer, 1, logits + DEPTH);
    return status;
}

fff_status __wrap_fff_accumulate(const fff_layer *layer, size_t batch, const uint32_t *nodes, size_t node_stride,
                                 const float *logits, size_t logit_stride, float *output, size_t output_stride,
                                 void *workspace, size_t workspace_size, const fff_runner *runner) {
    fff_status status = __real_fff_accumulate(layer, batch, nodes, node_stride, logits, logit_stride, output,
                                              output_stride, workspace, workspace_size, runner);
    assert_int_equal(output_stride, OUTPUT);
    spoil(fault.way == EVERYWHERE, layer, batch * OUTPUT, output);
    spoil(fault.way == ACCUMULATE, layer, 1, output);
    return status;
}

/* ---- What is found of them ------------------------------------------------------------------------- */

/* Verdicts on the instruction sets, with `way` wrong on one of them; the batch size of a piece. */
static void verify(const struct layer_data *data, const fff_isa *isas, size_t count, enum verify_splits splits,
                   enum way way, fff_isa isa, size_t piece, struct verdict *verdicts) {
    first_token = data->input;
    fault.way = way;
    fault.isa = isa;
    fault.piece = piece;
    fff_status status = verify_layer(data, isas, count, splits, verdicts, NULL);
    fault.way = NOWHERE;
    assert_int_equal(status, FFF_OK);
}

static void expect(const struct verdict *verdict, size_t differing) {
    assert_int_equal(verdict->differing_values, differing);
    assert_int_equal(verdict_holds(verdict), differing == 0 && agreement_holds(&verdict->dense));
}

static struct layer_data make_data(void) {
    struct layer_data data;
    assert_int_equal(layer_data_make(&data, INPUT, OUTPUT, DEPTH, TREES, BATCH, 1), 0);
    assert_int_equal(layer_path_length(&data), PATH);
    return data;
}

static void test_right(void **unused) {
    (void)unused;
    struct layer_data data = make_data();
    fff_isa isas[FFF_ISA_COUNT];
    struct verdict verdicts[FFF_ISA_COUNT];
    size_t count = usable_isas(isas);
    verify(&data, isas, count, VERIFY_ALL_SPLITS, NOWHERE, FFF_ISA_GENERIC, 0, verdicts);
    assert_true(verdicts_hold(verdicts, count));
    layer_data_free(&data);
}

/* One instruction set has bits of its own, in every way of computing: all within the bound, and not generic's. */
static void test_instruction_sets(void **unused) {
    (void)unused;
    struct layer_data data = make_data();
    fff_isa isas[FFF_ISA_COUNT];
    struct verdict verdicts[FFF_ISA_COUNT];
    size_t count = usable_isas(isas);
    for (size_t i = 0; i < count; i++) {
        verify(&data, isas, count, VERIFY_FEW_SPLITS, EVERYWHERE, isas[i], 0, verdicts);
        for (size_t j = 0; j < count; j++) {
            assert_true(agreement_holds(&verdicts[j].dense));
            bool apart = (i == j) != (i == 0); /* generic is the first, which all others are compared with */
            expect(&verdicts[j], j > 0 && apart ? BATCH * OUTPUT : 0);
        }
        assert_int_equal(verdicts_hold(verdicts, count), count == 1);
        if (i > 0) { /* without generic among them */
            verify(&data, &isas[i], 1, VERIFY_FEW_SPLITS, EVERYWHERE, isas[i], 0, verdicts);
            expect(&verdicts[0], BATCH * OUTPUT);
            verify(&data, &isas[i], 1, VERIFY_FEW_SPLITS, EVERYWHERE, FFF_ISA_GENERIC, 0, verdicts);
            expect(&verdicts[0], BATCH * OUTPUT);
        }
    }
    layer_data_free(&data);
}

/* One way of computing differs from the others, by one bit. */
static void test_ways(void **unused) {
    (void)unused;
    struct layer_data data = make_data();
    fff_isa isas[FFF_ISA_COUNT];
    size_t count = usable_isas(isas);
    const fff_isa isa = isas[count - 1];
    struct verdict verdict;
    static const size_t pieces[] = {1, 7, 2, 3, 4, 5, 8, 13, 16, 32, 61, 64, 128, 500};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        verify(&data, &isa, 1, VERIFY_ALL_SPLITS, PIECE, isa, pieces[i], &verdict);
        expect(&verdict, 1);
        verify(&data, &isa, 1, VERIFY_FEW_SPLITS, PIECE, isa, pieces[i], &verdict);
        expect(&verdict, i < 2 ? 1 : 0);
    }
    for (enum verify_splits splits = VERIFY_FEW_SPLITS; splits <= VERIFY_ALL_SPLITS; splits++) {
        verify(&data, &isa, 1, splits, TASKS, isa, 0, &verdict);
        expect(&verdict, 1);
        verify(&data, &isa, 1, splits, ACCUMULATE, isa, 0, &verdict);
        expect(&verdict, 1);
        verify(&data, &isa, 1, splits, WHOLE, isa, 0, &verdict);
        assert_true(verdict.differing_values > 0 && !verdict_holds(&verdict));
    }
    layer_data_free(&data);
}

/* A node and a logit that no output shows, since all output weights are 0. */
static void test_routes(void **unused) {
    (void)unused;
    struct layer_data data = make_data();
    fff_isa isas[FFF_ISA_COUNT];
    size_t count = usable_isas(isas);
    struct verdict verdicts[FFF_ISA_COUNT];
    memset(data.output_weights, 0, data.rows * OUTPUT * sizeof *data.output_weights);
    for (size_t i = 1; i < count; i++) {
        verify(&data, isas, count, VERIFY_FEW_SPLITS, ROUTE_LOGIT, isas[i], 0, verdicts);
        expect(&verdicts[0], 0);
        expect(&verdicts[i], 1);
        assert_true(agreement_holds(&verdicts[i].dense));
        verify(&data, isas, count, VERIFY_FEW_SPLITS, ROUTE_NODE, isas[i], 0, verdicts);
        expect(&verdicts[0], 0);
        expect(&verdicts[i], 1);
        assert_int_equal(verdicts[i].dense.route_mismatches, 1);
    }
    layer_data_free(&data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_right),
        cmocka_unit_test(test_instruction_sets),
        cmocka_unit_test(test_ways),
        cmocka_unit_test(test_routes),
    };
    return cmocka_run_group_tests_name("verify", tests, NULL, NULL);
}
