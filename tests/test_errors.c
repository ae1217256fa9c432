/* Every status there is, produced by bad input; and nothing done by the calls that fail. */
#include "tests/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IN = 6, OUT = 4, DEPTH = 2, TREES = 3, NODES = 7, ROWS = TREES * NODES, PATH = TREES * (DEPTH + 1), BATCH = 5 };

static float input_weights[ROWS * IN], output_weights[ROWS * OUT], biases[ROWS];
static float input[BATCH * IN], output[BATCH * OUT], logits[BATCH * PATH];
static uint32_t nodes[BATCH * PATH];
static bool seen[FFF_ERROR_PARTS + 1];

/* What sizeof(fff_layer_desc) was in 0.1, 0.2, 0.3 and 0.4. */
enum {
    FIRST_DESC_SIZE = offsetof(fff_layer_desc, allocator) + sizeof(const fff_allocator *),
    SECOND_DESC_SIZE = FIRST_DESC_SIZE + sizeof(void *),
    THIRD_DESC_SIZE = offsetof(fff_layer_desc, leaf_width), /* whose last field ended where the next begins */
    FOURTH_DESC_SIZE = offsetof(fff_layer_desc, borrow),    /* likewise */
};

/* assert_int_equal that also notes which statuses have been seen. */
#define EXPECT(status, call)                                                                                           \
    do {                                                                                                               \
        fff_status expected_ = (status), actual_ = (call);                                                             \
        if (actual_ != expected_) {                                                                                    \
            fail_msg(#call ": '%s', should be '%s'", fff_status_text(actual_), fff_status_text(expected_));            \
        }                                                                                                              \
        seen[expected_] = true;                                                                                        \
    } while (0)

static fff_layer_desc good_desc(void) {
    return (fff_layer_desc){
        .struct_size = sizeof(fff_layer_desc),
        .input_width = IN,
        .output_width = OUT,
        .depth = DEPTH,
        .trees = TREES,
        .isa = FFF_ISA_GENERIC,
        .input_weights = {input_weights, IN, 1},
        .biases = biases,
        .output_weights = {output_weights, 1, ROWS},
    };
}

static fff_layer *good_layer(void) {
    fff_layer_desc desc = good_desc();
    fff_layer *layer = NULL;
    EXPECT(FFF_OK, fff_layer_create(&desc, &layer));
    return layer;
}

/* Creation must fail like this and leave the pointer alone. */
static void expect_refused(fff_status status, const fff_layer_desc *desc) {
    fff_layer *untouched = (fff_layer *)(void *)&seen;
    EXPECT(status, fff_layer_create(desc, &untouched));
    assert_ptr_equal(untouched, &seen);
}
#define REFUSED_OF(good, status, change)                                                                               \
    do {                                                                                                               \
        fff_layer_desc desc = (good);                                                                                  \
        change;                                                                                                        \
        expect_refused((status), &desc);                                                                               \
    } while (0)
#define REFUSED(status, change) REFUSED_OF(good_desc(), status, change)

static void *unaligned(void *pointer) {
    return (char *)pointer + 1;
}

static void test_description(void **unused) {
    (void)unused;
    fff_layer_desc good = good_desc();
    EXPECT(FFF_ERROR_NULL_POINTER, fff_layer_create(&good, NULL));
    expect_refused(FFF_ERROR_NULL_POINTER, NULL);
    REFUSED(FFF_ERROR_STRUCT_SIZE, desc.struct_size = 0);
    REFUSED(FFF_ERROR_STRUCT_SIZE, desc.struct_size = FIRST_DESC_SIZE - 1);
    for (size_t size = FIRST_DESC_SIZE + 1; size < sizeof good; size++) { /* a part of a field */
        if (size != SECOND_DESC_SIZE && size != THIRD_DESC_SIZE && size != FOURTH_DESC_SIZE) {
            REFUSED(FFF_ERROR_STRUCT_SIZE, desc.struct_size = size);
        }
    }
    REFUSED(FFF_ERROR_STRUCT_SIZE, desc.struct_size = SIZE_MAX);
    REFUSED(FFF_ERROR_SHAPE, desc.input_width = 0);
    REFUSED(FFF_ERROR_SHAPE, desc.output_width = 0);
    REFUSED(FFF_ERROR_SHAPE, desc.trees = 0);
    REFUSED(FFF_ERROR_SHAPE, desc.depth = FFF_MAX_DEPTH + 1);
    REFUSED(FFF_ERROR_SHAPE, desc.depth = SIZE_MAX);
    REFUSED(FFF_ERROR_OPTION, desc.activation = (fff_activation)FFF_ACTIVATION_COUNT);
    REFUSED(FFF_ERROR_OPTION, desc.activation = (fff_activation)-1);
    REFUSED(FFF_ERROR_OPTION, desc.routing = (fff_routing)2);
    REFUSED(FFF_ERROR_OPTION, desc.weight_type = (fff_weight_type)FFF_WEIGHT_TYPE_COUNT);
    REFUSED(FFF_ERROR_OPTION, desc.isa = (fff_isa)FFF_ISA_COUNT);
    REFUSED(FFF_ERROR_NULL_POINTER, desc.input_weights.data = NULL);
    REFUSED(FFF_ERROR_NULL_POINTER, desc.output_weights.data = NULL);
    REFUSED(FFF_ERROR_ALIGNMENT, desc.input_weights.data = unaligned(input_weights));
    REFUSED(FFF_ERROR_ALIGNMENT, desc.output_weights.data = unaligned(output_weights));
    REFUSED(FFF_ERROR_ALIGNMENT, desc.biases = unaligned(biases));
    REFUSED(FFF_ERROR_STRIDE, desc.input_weights.node_stride = IN - 1);
    REFUSED(FFF_ERROR_STRIDE, desc.input_weights.node_stride = 0);
    REFUSED(FFF_ERROR_STRIDE, desc.input_weights.column_stride = 0);
    REFUSED(FFF_ERROR_STRIDE, desc.output_weights.column_stride = ROWS - 1);
    REFUSED(FFF_ERROR_STRIDE, desc.output_weights.node_stride = 2);
}

/* Weights that the types cannot hold, and what is wrong with int8 weights that are given. */
static void test_narrow_weights(void **unused) {
    (void)unused;
    fff_bad_weight bad = {-1, 77, 77};
    REFUSED(FFF_ERROR_OPTION, desc.output_weight_type = (fff_weight_choice)(FFF_CHOOSE_I8 + 1));
    REFUSED(FFF_ERROR_OPTION, desc.store_input = (fff_weight_choice)(FFF_CHOOSE_I8 + 1));
    REFUSED(FFF_ERROR_OPTION, desc.store_output = (fff_weight_choice)-1);
    REFUSED(FFF_ERROR_OPTION, desc.routes = (fff_routes)2);
    REFUSED(FFF_ERROR_OPTION, desc.input_scales = biases); /* of weights that are not int8 */
    input_weights[3 * IN + 2] = 65520.0f;                  /* rounds to infinity */
    REFUSED(FFF_ERROR_WEIGHT, desc.store_input = FFF_CHOOSE_F16; desc.bad_weight = &bad);
    assert_true(bad.of_output == 0 && bad.row == 3 && bad.column == 2);
    REFUSED(FFF_ERROR_WEIGHT, desc.store_input = FFF_CHOOSE_F16);
    static const float not_finite[] = {INFINITY, -INFINITY, NAN};
    for (int i = 0; i < 3; i++) {
        input_weights[3 * IN + 2] = not_finite[i];
        REFUSED(FFF_ERROR_WEIGHT, desc.store_input = FFF_CHOOSE_I8; desc.bad_weight = &bad);
        assert_true(bad.of_output == 0 && bad.row == 3 && bad.column == 2);
        fff_layer_desc desc = good_desc();
        fff_layer *layer = NULL;
        desc.store_input = i == 0 ? FFF_CHOOSE_BF16 : FFF_CHOOSE_F16; /* IEEE has them */
        EXPECT(FFF_OK, fff_layer_create(&desc, &layer));
        fff_layer_destroy(layer);
    }
    input_weights[3 * IN + 2] = 0.0f;
    output_weights[5 + 2 * ROWS] = NAN;
    REFUSED(FFF_ERROR_WEIGHT, desc.store_output = FFF_CHOOSE_I8; desc.bad_weight = &bad);
    assert_true(bad.of_output == 1 && bad.row == 5 && bad.column == 2);
    output_weights[5 + 2 * ROWS] = 0.0f;

    static int8_t integers[ROWS * IN];
    static float scales[ROWS];
    for (size_t row = 0; row < ROWS; row++) {
        scales[row] = 0.5f;
    }
#define GIVEN_I8                                                                                                       \
    (desc.weight_type = FFF_WEIGHT_I8, desc.output_weight_type = FFF_CHOOSE_F32, desc.input_weights.data = integers,   \
     desc.input_scales = scales, desc.bad_weight = &bad)
    {
        fff_layer_desc desc = good_desc();
        fff_layer *layer = NULL;
        GIVEN_I8;
        EXPECT(FFF_OK, fff_layer_create(&desc, &layer));
        assert_int_equal(fff_layer_input_type(layer), FFF_WEIGHT_I8);
        assert_int_equal(fff_layer_output_type(layer), FFF_WEIGHT_F32);
        fff_layer_destroy(layer);
    }
    REFUSED(FFF_ERROR_SCALE, GIVEN_I8; desc.input_scales = NULL);
    REFUSED(FFF_ERROR_ALIGNMENT, GIVEN_I8; desc.input_scales = unaligned(scales));
    static const float bad_scales[] = {0.0f, -1.0f, INFINITY, NAN};
    for (int i = 0; i < 4; i++) {
        scales[7] = bad_scales[i];
        REFUSED(FFF_ERROR_SCALE, GIVEN_I8);
        assert_true(bad.of_output == 0 && bad.row == 7);
    }
    scales[7] = 1.0f;
    integers[4 * IN + 1] = -128;
    REFUSED(FFF_ERROR_WEIGHT, GIVEN_I8);
    assert_true(bad.of_output == 0 && bad.row == 4 && bad.column == 1);
    integers[4 * IN + 1] = 0;
#undef GIVEN_I8
    REFUSED(FFF_ERROR_ALIGNMENT, desc.weight_type = FFF_WEIGHT_BF16;
            desc.input_weights.data = unaligned(input_weights));
}

static void test_overflow(void **unused) {
    (void)unused;
    REFUSED(FFF_ERROR_OVERFLOW, desc.trees = SIZE_MAX / 2);
    REFUSED(FFF_ERROR_OVERFLOW, desc.trees = UINT32_MAX / NODES + 1);
    REFUSED(FFF_ERROR_OVERFLOW, (desc.depth = FFF_MAX_DEPTH, desc.trees = 3));
    REFUSED(FFF_ERROR_OVERFLOW, desc.input_weights.node_stride = SIZE_MAX / 2);
    REFUSED(FFF_ERROR_OVERFLOW, desc.input_weights.node_stride = SIZE_MAX / (4 * ROWS));
    REFUSED(FFF_ERROR_OVERFLOW, (desc.input_width = SIZE_MAX - 3, desc.input_weights.node_stride = SIZE_MAX));
    /* Addressable, but the packed copy is not: two halves of the address space side by side. */
    REFUSED(FFF_ERROR_OVERFLOW,
            (desc.depth = 0, desc.trees = 1, desc.input_width = SIZE_MAX / 16, desc.output_width = SIZE_MAX / 8,
             desc.output_weights.column_stride = 1, desc.output_weights.node_stride = 1));
}

/* Leaves and parts. */
static void test_forests(void **unused) {
    (void)unused;
    enum { WIDTH = 2 };
    static float neurons[4 * ROWS * WIDTH * IN];
    static const float nan = NAN, infinite = INFINITY;
    float thresholds[ROWS] = {0};
    fff_layer_desc leaves = good_desc();
    leaves.depth = 1;
    leaves.trees = 1;
    leaves.leaf_width = WIDTH;
    leaves.leaf_weights = (fff_weights){neurons, IN, 1};
    leaves.output_weights = (fff_weights){neurons, OUT, 1};
    fff_layer_desc good = leaves;
    fff_layer *layer = NULL;
    EXPECT(FFF_OK, fff_layer_create(&good, &layer));
    fff_layer_destroy(layer);
    REFUSED_OF(leaves, FFF_ERROR_NULL_POINTER, desc.leaf_weights.data = NULL);
    REFUSED_OF(leaves, FFF_ERROR_ALIGNMENT, desc.leaf_weights.data = unaligned(neurons));
    REFUSED_OF(leaves, FFF_ERROR_STRIDE, desc.leaf_weights.node_stride = 0);
    REFUSED_OF(leaves, FFF_ERROR_STRIDE, desc.leaf_stride = IN);
    REFUSED_OF(leaves, FFF_ERROR_OVERFLOW, desc.leaf_stride = SIZE_MAX / 2);
    REFUSED_OF(leaves, FFF_ERROR_OVERFLOW, desc.leaf_width = SIZE_MAX);
    REFUSED_OF(leaves, FFF_ERROR_OVERFLOW, desc.leaf_width = (size_t)1 << 31);
    REFUSED_OF(leaves, FFF_ERROR_SHAPE, desc.depth = FFF_MAX_DEPTH + 1);
    REFUSED_OF(leaves, FFF_ERROR_OPTION, desc.leaf_width = 0);
    REFUSED_OF(leaves, FFF_ERROR_ALIGNMENT, desc.leaf_biases = unaligned(neurons));
    REFUSED_OF(leaves, FFF_ERROR_ALIGNMENT, desc.thresholds = unaligned(neurons));
    REFUSED_OF(leaves, FFF_ERROR_ALIGNMENT, desc.leaf_output_biases = ((fff_weights){unaligned(neurons), 1, 1}));
    REFUSED_OF(leaves, FFF_ERROR_STRIDE, desc.leaf_output_biases = ((fff_weights){neurons, 0, 1}));
    REFUSED_OF(leaves, FFF_ERROR_OPTION, desc.leaf_scales = neurons);
    REFUSED_OF(leaves, FFF_ERROR_NUMBER, desc.factor = &nan);
    REFUSED_OF(leaves, FFF_ERROR_NUMBER, desc.factor = &infinite);
    thresholds[0] = NAN;
    REFUSED_OF(leaves, FFF_ERROR_NUMBER, desc.thresholds = thresholds);
    thresholds[0] = -INFINITY;
    REFUSED_OF(leaves, FFF_ERROR_NUMBER, desc.thresholds = thresholds);
    fff_layer_desc next = leaves;
    good.next = &next;
    EXPECT(FFF_OK, fff_layer_create(&good, &layer));
    fff_layer_destroy(layer);
    next.output_bias = neurons;
    expect_refused(FFF_ERROR_PARTS, &good);
    next = leaves;
    next.input_width--;
    expect_refused(FFF_ERROR_PARTS, &good);
    next = leaves;
    next.isa = FFF_ISA_GENERIC + (good.isa == FFF_ISA_GENERIC);
    expect_refused(FFF_ERROR_PARTS, &good);
    next = leaves;
    next.struct_size = 1;
    expect_refused(FFF_ERROR_STRUCT_SIZE, &good);
    next = leaves;
    next.next = &next; /* for ever */
    expect_refused(FFF_ERROR_PARTS, &good);
    next.next = NULL;
    next.trees = 0;
    expect_refused(FFF_ERROR_SHAPE, &good);
}

static void test_instruction_sets(void **unused) {
    (void)unused;
    fff_isa isa;
    EXPECT(FFF_ERROR_NULL_POINTER, fff_isa_by_name(NULL, &isa));
    EXPECT(FFF_ERROR_NULL_POINTER, fff_isa_by_name("generic", NULL));
    EXPECT(FFF_ERROR_NULL_POINTER, fff_isa_choose(FFF_ISA_GENERIC, NULL));
    EXPECT(FFF_ERROR_OPTION, fff_isa_usable(FFF_ISA_AUTO));
    EXPECT(FFF_ERROR_OPTION, fff_isa_usable((fff_isa)-1));
    EXPECT(FFF_ERROR_OPTION, fff_isa_choose((fff_isa)FFF_ISA_COUNT, &isa));
    test_set_environment("FFF_ISA", "mmx");
    REFUSED(FFF_ERROR_ISA_UNKNOWN, desc.isa = FFF_ISA_AUTO);
    test_set_environment("FFF_ISA", "");
    int not_usable = 0;
    for (int i = FFF_ISA_GENERIC; i < FFF_ISA_COUNT; i++) {
        fff_status status = fff_isa_usable((fff_isa)i);
        if (status != FFF_OK) {
            REFUSED(status, desc.isa = (fff_isa)i);
            not_usable++;
        }
    }
    assert_true(not_usable > 0); /* no machine has both x86 and Arm; older ones also lack what is built */
}

static void test_queries(void **unused) {
    (void)unused;
    fff_layer *layer = good_layer();
    assert_int_equal(fff_layer_path_length(layer), PATH);
    assert_int_equal(fff_layer_isa(layer), FFF_ISA_GENERIC);
    assert_true(fff_layer_memory(layer) >= ROWS * (IN + OUT + 1) * sizeof(float));
    assert_int_equal(fff_layer_path_length(NULL), 0);
    assert_int_equal(fff_layer_isa(NULL), FFF_ISA_AUTO);
    assert_int_equal(fff_layer_memory(NULL), 0);
    assert_int_equal(fff_nodes_per_tree(0), 1);
    assert_int_equal(fff_nodes_per_tree(11), 4095);
    assert_int_equal(fff_nodes_per_tree(FFF_MAX_DEPTH), ((size_t)2 << FFF_MAX_DEPTH) - 1);
    assert_int_equal(fff_nodes_per_tree(FFF_MAX_DEPTH + 1), 0);
    size_t size = 77;
    EXPECT(FFF_ERROR_NULL_POINTER, fff_workspace_size(NULL, 1, 1, &size));
    EXPECT(FFF_ERROR_NULL_POINTER, fff_workspace_size(layer, 1, 1, NULL));
    EXPECT(FFF_ERROR_OVERFLOW, fff_workspace_size(layer, SIZE_MAX, SIZE_MAX, &size));
    assert_int_equal(size, 77);
    EXPECT(FFF_OK, fff_workspace_size(layer, SIZE_MAX, 1, &size));
    assert_true(size < 1 << 20);
    EXPECT(FFF_OK, fff_workspace_size(layer, 0, 1, &size));
    assert_int_equal(size, 0);
    fff_layer_destroy(layer);
    fff_layer_destroy(NULL);
}

/* A description of the first version, whose last field was the allocator, and of a later one: fields that this one does
 * not know. */
static void test_other_versions(void **unused) {
    (void)unused;
    struct {
        fff_layer_desc known;
        size_t unknown;
    } later = {.known = good_desc()};
    later.known.struct_size = sizeof later;
    fff_layer *layer = NULL;
    EXPECT(FFF_OK, fff_layer_create(&later.known, &layer));
    fff_layer_destroy(layer);
    fff_layer_desc first = good_desc();
    first.struct_size = FIRST_DESC_SIZE;
    first.sleef = (fff_sleef)77; /* beyond it */
    EXPECT(FFF_OK, fff_layer_create(&first, &layer));
    fff_layer_destroy(layer);
    fff_layer_desc second = good_desc();
    second.struct_size = SECOND_DESC_SIZE;
    memset((char *)&second.sleef + sizeof second.sleef, 0x55, /* what fills up its last word, and beyond */
           sizeof second - offsetof(fff_layer_desc, sleef) - sizeof second.sleef);
    EXPECT(FFF_OK, fff_layer_create(&second, &layer));
    fff_layer_destroy(layer);
    later.unknown = 1;
    expect_refused(FFF_ERROR_STRUCT_SIZE, &later.known);
}

/* A runner without a function. */
static const fff_runner no_function = {NULL, NULL, 2};

/* A runner that does nothing. */
static void run_none(void *context, size_t count, void (*task)(void *argument, size_t index), void *argument) {
    (void)context;
    (void)count;
    (void)task;
    (void)argument;
}
static const fff_runner idle = {run_none, NULL, 2};

static void test_forward(void **unused) {
    (void)unused;
    fff_layer *layer = good_layer();
    static unsigned char workspace[1 << 16];
    size_t size = sizeof workspace, needed;
    EXPECT(FFF_OK, fff_workspace_size(layer, BATCH, 1, &needed));
    memset(output, 0x11, sizeof output);
#define FORWARD(b, i, is, o, os, w, ws) fff_forward(layer, b, i, is, o, os, w, ws, NULL)
    EXPECT(FFF_OK, FORWARD(0, NULL, 0, NULL, 0, NULL, 0));
    EXPECT(FFF_ERROR_NULL_POINTER, fff_forward(NULL, 0, input, IN, output, OUT, workspace, size, NULL));
    EXPECT(FFF_ERROR_NULL_POINTER, FORWARD(BATCH, NULL, IN, output, OUT, workspace, size));
    EXPECT(FFF_ERROR_NULL_POINTER, FORWARD(BATCH, input, IN, NULL, OUT, workspace, size));
    EXPECT(FFF_ERROR_NULL_POINTER, FORWARD(BATCH, input, IN, output, OUT, NULL, size));
    EXPECT(FFF_ERROR_NULL_POINTER, fff_forward(layer, BATCH, input, IN, output, OUT, workspace, size, &no_function));
    EXPECT(FFF_ERROR_WORKSPACE, FORWARD(BATCH, input, IN, output, OUT, workspace, needed - 1));
    EXPECT(FFF_ERROR_WORKSPACE, FORWARD(BATCH, input, IN, output, OUT, workspace, 0));
    EXPECT(FFF_ERROR_STRIDE, FORWARD(BATCH, input, IN - 1, output, OUT, workspace, size));
    EXPECT(FFF_ERROR_STRIDE, FORWARD(BATCH, input, IN, output, OUT - 1, workspace, size));
    EXPECT(FFF_ERROR_ALIGNMENT, FORWARD(BATCH, unaligned(input), IN, output, OUT, workspace, size));
    EXPECT(FFF_ERROR_ALIGNMENT, FORWARD(BATCH, input, IN, unaligned(output), OUT, workspace, size));
    EXPECT(FFF_ERROR_OVERFLOW, FORWARD(SIZE_MAX, input, IN, output, OUT, workspace, size));
    EXPECT(FFF_ERROR_OVERFLOW, FORWARD(BATCH, input, SIZE_MAX, output, OUT, workspace, size));
    EXPECT(FFF_ERROR_OVERFLOW, FORWARD(BATCH, input, IN, output, SIZE_MAX / 16, workspace, size));
    EXPECT(FFF_ERROR_OVERLAP, FORWARD(BATCH, input, IN, input, OUT, workspace, size));
    EXPECT(FFF_ERROR_OVERLAP, FORWARD(2, input, IN, input + 2 * IN - 1, OUT, workspace, size));
    EXPECT(FFF_ERROR_OVERLAP, FORWARD(2, input + 3, IN, input, OUT, workspace, size));
    EXPECT(FFF_ERROR_OVERLAP, FORWARD(2, input, 12, input + IN - 1, 12, workspace, size)); /* not quite interleaved */
    EXPECT(FFF_ERROR_OVERLAP, FORWARD(2, input, 9, input + IN, 9, workspace, size));       /* into the next row */
    EXPECT(FFF_ERROR_OVERLAP, FORWARD(BATCH, input, IN, (float *)(void *)workspace, OUT, workspace, size));
    EXPECT(FFF_ERROR_OVERLAP, FORWARD(BATCH, (float *)(void *)workspace, IN, output, OUT, workspace, size));
    EXPECT(FFF_ERROR_OVERLAP,
           FORWARD(BATCH, input, IN, output, OUT, output, size)); /* any size, however much is used */
    EXPECT(FFF_ERROR_OVERFLOW, FORWARD(BATCH, input, IN, output, OUT, workspace, SIZE_MAX));
    for (size_t i = 0; i < sizeof output; i++) {
        assert_int_equal(((unsigned char *)output)[i], 0x11);
    }
    EXPECT(FFF_OK, FORWARD(BATCH, input, IN, output, OUT, workspace, needed));
    EXPECT(FFF_OK, FORWARD(2, input, 12, input + IN, 12, workspace, size));
    EXPECT(FFF_OK, FORWARD(2, input, 2 * IN, input + IN, 3 * IN, workspace, size)); /* strides that differ */
    EXPECT(FFF_OK, FORWARD(1, input, SIZE_MAX, input + IN, SIZE_MAX, workspace, size));
    EXPECT(FFF_ERROR_RUNNER, fff_forward(layer, BATCH, input, IN, output, OUT, workspace, size, &idle));
    fff_layer_destroy(layer);
}

/* Of 16-bit tokens, whose workspace is planned otherwise. */
static void test_forward_typed(void **unused) {
    (void)unused;
    fff_layer *layer = good_layer();
    static unsigned char workspace[1 << 16];
    size_t needed;
    EXPECT(FFF_OK, fff_workspace_size_typed(layer, BATCH, 1, FFF_WEIGHT_F32, FFF_WEIGHT_BF16, &needed));
#define TYPED(w, ws)                                                                                                   \
    fff_forward_typed(layer, BATCH, FFF_WEIGHT_F32, input, IN, FFF_WEIGHT_BF16, output, OUT, w, ws, NULL)
    EXPECT(FFF_OK, TYPED(workspace, needed));
    EXPECT(FFF_ERROR_NULL_POINTER, TYPED(NULL, needed));
    EXPECT(FFF_ERROR_WORKSPACE, TYPED(workspace, needed - 1));
    EXPECT(FFF_ERROR_WORKSPACE, TYPED(output + 1, 0)); /* no bytes, in the middle of a matrix */
    EXPECT(FFF_ERROR_WORKSPACE, TYPED(input + 1, 0));
    EXPECT(FFF_ERROR_OVERLAP, TYPED(output + 1, needed));
    EXPECT(FFF_ERROR_OVERFLOW, TYPED(workspace, SIZE_MAX));
    fff_layer_destroy(layer);
}

static void test_route(void **unused) {
    (void)unused;
    fff_layer *layer = good_layer();
    static unsigned char workspace[1 << 16];
    size_t size = sizeof workspace;
#define ROUTE(i, n, ns, l, ls) fff_route(layer, BATCH, i, IN, n, ns, l, ls, workspace, size, NULL)
    EXPECT(FFF_OK, fff_route(layer, 0, NULL, 0, NULL, 0, NULL, 0, NULL, 0, NULL));
    EXPECT(FFF_ERROR_NULL_POINTER, fff_route(NULL, 0, NULL, 0, NULL, 0, NULL, 0, NULL, 0, NULL));
    EXPECT(FFF_ERROR_NULL_POINTER, ROUTE(NULL, nodes, PATH, logits, PATH));
    EXPECT(FFF_ERROR_NULL_POINTER, ROUTE(input, NULL, PATH, logits, PATH));
    EXPECT(FFF_ERROR_NULL_POINTER, ROUTE(input, nodes, PATH, NULL, PATH));
    EXPECT(FFF_ERROR_STRIDE, ROUTE(input, nodes, PATH - 1, logits, PATH));
    EXPECT(FFF_ERROR_STRIDE, ROUTE(input, nodes, PATH, logits, PATH - 1));
    EXPECT(FFF_ERROR_ALIGNMENT, ROUTE(input, unaligned(nodes), PATH, logits, PATH));
    EXPECT(FFF_ERROR_OVERLAP, ROUTE(input, (uint32_t *)(void *)logits, PATH, logits, PATH));
    EXPECT(FFF_ERROR_OVERLAP, ROUTE(logits, nodes, PATH, logits, PATH));
    EXPECT(FFF_ERROR_OVERLAP, ROUTE((float *)(void *)nodes, nodes, PATH, logits, PATH));
    EXPECT(FFF_ERROR_WORKSPACE, fff_route(layer, BATCH, input, IN, nodes, PATH, logits, PATH, workspace, 1, NULL));
    EXPECT(FFF_OK, ROUTE(input, nodes, PATH, logits, PATH));
    EXPECT(FFF_ERROR_RUNNER, fff_route(layer, BATCH, input, IN, nodes, PATH, logits, PATH, workspace, size, &idle));
    fff_layer_destroy(layer);
}

static void test_accumulate(void **unused) {
    (void)unused;
    fff_layer *layer = good_layer();
    static unsigned char workspace[1 << 16];
    size_t size = sizeof workspace;
    memset(nodes, 0, sizeof nodes);
#define ACCUMULATE(n, l, ls, o) fff_accumulate(layer, BATCH, n, PATH, l, ls, o, OUT, workspace, size, NULL)
    EXPECT(FFF_OK, fff_accumulate(layer, 0, NULL, 0, NULL, 0, NULL, 0, NULL, 0, NULL));
    EXPECT(FFF_ERROR_NULL_POINTER, fff_accumulate(NULL, 0, NULL, 0, NULL, 0, NULL, 0, NULL, 0, NULL));
    EXPECT(FFF_ERROR_NULL_POINTER, ACCUMULATE(NULL, logits, PATH, output));
    EXPECT(FFF_ERROR_NULL_POINTER, ACCUMULATE(nodes, NULL, PATH, output));
    EXPECT(FFF_ERROR_NULL_POINTER, ACCUMULATE(nodes, logits, PATH, NULL));
    EXPECT(FFF_ERROR_STRIDE, ACCUMULATE(nodes, logits, PATH - 1, output));
    EXPECT(FFF_ERROR_OVERLAP, ACCUMULATE(nodes, logits, PATH, logits));
    EXPECT(FFF_ERROR_OVERLAP, ACCUMULATE(nodes, logits, PATH, (float *)(void *)nodes));
    memset(output, 0x11, sizeof output);
    nodes[BATCH * PATH - 1] = NODES;
    EXPECT(FFF_ERROR_NODE, ACCUMULATE(nodes, logits, PATH, output));
    nodes[BATCH * PATH - 1] = UINT32_MAX;
    EXPECT(FFF_ERROR_NODE, ACCUMULATE(nodes, logits, PATH, output));
    for (size_t i = 0; i < sizeof output; i++) {
        assert_int_equal(((unsigned char *)output)[i], 0x11);
    }
    nodes[BATCH * PATH - 1] = NODES - 1;
    EXPECT(FFF_OK, ACCUMULATE(nodes, logits, PATH, output));
    EXPECT(FFF_ERROR_RUNNER,
           fff_accumulate(layer, BATCH, nodes, PATH, logits, PATH, output, OUT, workspace, size, &idle));
    fff_layer_destroy(layer);
}

static void test_activate(void **unused) {
    (void)unused;
    float values[8] = {0};
    EXPECT(FFF_OK, fff_activate(FFF_ISA_GENERIC, FFF_ACTIVATION_GELU, FFF_SLEEF_RECORDED, 0, NULL, NULL));
    EXPECT(FFF_OK, fff_activate(FFF_ISA_GENERIC, FFF_ACTIVATION_GELU, FFF_SLEEF_RECORDED, 4, values, values));
    EXPECT(FFF_OK, fff_activate(FFF_ISA_GENERIC, FFF_ACTIVATION_GELU, FFF_SLEEF_RECORDED, 4, values, values + 4));
    EXPECT(FFF_ERROR_OVERLAP,
           fff_activate(FFF_ISA_GENERIC, FFF_ACTIVATION_GELU, FFF_SLEEF_RECORDED, 4, values, values + 3));
    EXPECT(FFF_ERROR_OVERLAP,
           fff_activate(FFF_ISA_GENERIC, FFF_ACTIVATION_GELU, FFF_SLEEF_RECORDED, 4, values + 3, values));
    EXPECT(FFF_ERROR_NULL_POINTER,
           fff_activate(FFF_ISA_GENERIC, FFF_ACTIVATION_GELU, FFF_SLEEF_RECORDED, 1, NULL, values));
    EXPECT(FFF_ERROR_NULL_POINTER,
           fff_activate(FFF_ISA_GENERIC, FFF_ACTIVATION_GELU, FFF_SLEEF_RECORDED, 1, values, NULL));
    EXPECT(FFF_ERROR_ALIGNMENT,
           fff_activate(FFF_ISA_GENERIC, FFF_ACTIVATION_GELU, FFF_SLEEF_RECORDED, 1, unaligned(values), values));
    EXPECT(FFF_ERROR_OVERFLOW,
           fff_activate(FFF_ISA_GENERIC, FFF_ACTIVATION_GELU, FFF_SLEEF_RECORDED, SIZE_MAX, values, values));
    EXPECT(FFF_ERROR_OVERFLOW, fff_activate(FFF_ISA_GENERIC, FFF_ACTIVATION_GELU, FFF_SLEEF_RECORDED,
                                            PTRDIFF_MAX / sizeof *values + 1, values, values));
    EXPECT(FFF_ERROR_OPTION, fff_activate(FFF_ISA_GENERIC, (fff_activation)99, FFF_SLEEF_RECORDED, 1, values, values));
    EXPECT(FFF_ERROR_OPTION, fff_activate((fff_isa)99, FFF_ACTIVATION_GELU, FFF_SLEEF_RECORDED, 1, values, values));
}

/* An allocator that keeps count, and fails from a given call on. */
struct counting {
    size_t calls_left, bytes, blocks;
};

static void *count_allocate(void *context, size_t size, size_t alignment) {
    struct counting *counting = context;
    if (counting->calls_left == 0) {
        return NULL;
    }
    counting->calls_left--;
    counting->bytes += size;
    counting->blocks++;
    return test_allocate_aligned(alignment, size);
}

static void count_release(void *context, void *memory, size_t size) {
    struct counting *counting = context;
    counting->bytes -= size;
    counting->blocks--;
    test_free_aligned(memory);
}

static void test_out_of_memory(void **unused) {
    (void)unused;
    struct counting counting = {0};
    fff_allocator allocator = {count_allocate, count_release, &counting};
    size_t needed = 0;
    for (;; needed++) {
        counting.calls_left = needed;
        fff_layer_desc desc = good_desc();
        desc.allocator = &allocator;
        fff_layer *layer = NULL;
        fff_status status = fff_layer_create(&desc, &layer);
        if (status == FFF_OK) {
            assert_int_equal(counting.bytes, fff_layer_memory(layer));
            fff_layer_destroy(layer);
            break;
        }
        EXPECT(FFF_ERROR_OUT_OF_MEMORY, status);
        assert_null(layer);
        assert_int_equal(counting.blocks, 0);
    }
    assert_true(needed > 0);
    assert_int_equal(counting.blocks, 0);
    assert_int_equal(counting.bytes, 0);
    fff_allocator half = {count_allocate, NULL, &counting};
    REFUSED(FFF_ERROR_NULL_POINTER, desc.allocator = &half);
}

/* Runs last: every status was produced above, and each has a text of its own. Those about instruction
 * sets depend on the machine: on one with AVX-512 none that is built for it is lacking, so the run on
 * an emulated older CPU is the one that sees FFF_ERROR_ISA_NOT_SUPPORTED. FFF_ERROR_SLEEF takes another SLEEF. */
static void test_every_status_seen(void **unused) {
    (void)unused;
    bool lacking = false;
    for (int i = FFF_ISA_GENERIC; i < FFF_ISA_COUNT; i++) {
        lacking = lacking || fff_isa_usable((fff_isa)i) == FFF_ERROR_ISA_NOT_SUPPORTED;
    }
    for (int status = 0; status <= FFF_ERROR_SLEEF; status++) {
        if ((status != FFF_ERROR_ISA_NOT_SUPPORTED || lacking) && status != FFF_ERROR_SLEEF) {
            if (!seen[status]) {
                fail_msg("'%s' was never produced", fff_status_text((fff_status)status));
            }
        }
        for (int other = 0; other < status; other++) {
            assert_string_not_equal(fff_status_text((fff_status)status), fff_status_text((fff_status)other));
        }
    }
    assert_string_equal(fff_status_text((fff_status)-1), "unknown status");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_description),      cmocka_unit_test(test_narrow_weights),
        cmocka_unit_test(test_forests),          cmocka_unit_test(test_overflow),
        cmocka_unit_test(test_instruction_sets), cmocka_unit_test(test_queries),
        cmocka_unit_test(test_other_versions),   cmocka_unit_test(test_forward),
        cmocka_unit_test(test_forward_typed),    cmocka_unit_test(test_route),
        cmocka_unit_test(test_accumulate),       cmocka_unit_test(test_activate),
        cmocka_unit_test(test_out_of_memory),    cmocka_unit_test(test_every_status_seen),
    };
    return cmocka_run_group_tests_name("errors", tests, NULL, NULL);
}
