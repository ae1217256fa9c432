/* Layers that borrow their weights: the same bits as of those that keep a copy, whatever the weights are by now; and
 * nothing read behind a matrix's last row. */
#include "layer/plan.h"
#include "tests/support.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_PARTS = 3, FEW = 40, MANY = 300, MOST_OWNED = 6 * MOST_PARTS + 1 };

static size_t random_width(uint64_t *state) {
    if (chance(state, 4)) {
        return 32 * (1 + random_below(state, 5)); /* which the ordinary kernels are for */
    }
    return chance(state, 8) ? 768 : 1 + random_below(state, is_short() ? 70 : 200);
}

/* A random layer of borrowed weights. */
struct subject {
    size_t parts, path, tokens;
    fff_layer_desc desc[MOST_PARTS];
    float factors[MOST_PARTS];
    float *thresholds[MOST_PARTS], *given_thresholds[MOST_PARTS];
    struct guarded owned[MOST_OWNED]; /* the weights, each with an unmapped page right behind it */
    size_t owned_count;
    struct guarded input;
};

static float *floats_of(struct subject *s, enum fill kind, size_t count, uint64_t *state) {
    struct guarded *memory = &s->owned[s->owned_count++];
    *memory = guarded_allocate(count * sizeof(float));
    fill_floats(kind, memory->data, count, state);
    return memory->data;
}

/* Rows `stride` floats apart, or, with stride 0, any number. */
static fff_weights matrix_of(struct subject *s, enum fill kind, size_t rows, size_t width, size_t stride,
                             uint64_t *state) {
    size_t apart = stride > 0 ? stride : width + random_below(state, 2) * random_below(state, 6);
    const float *data = floats_of(s, kind, rows > 0 ? (rows - 1) * apart + width : 0, state);
    return (fff_weights){data, rows > 1 ? apart : 3 * random_below(state, 2), 1};
}

static void add_leaves(struct subject *s, fff_layer_desc *desc, enum fill kind, uint64_t *state) {
    size_t leaves = desc->trees << desc->depth, neurons = leaves * desc->leaf_width, in = desc->input_width;
    desc->leaf_weights = matrix_of(s, kind, neurons, in, 0, state);
    desc->leaf_biases = chance(state, 2) ? floats_of(s, kind, neurons, state) : NULL;
    if (chance(state, 2)) {
        desc->leaf_output_biases = matrix_of(s, kind, leaves, desc->output_width, 0, state);
    }
    size_t node_stride = desc->leaf_weights.node_stride;
    if (desc->leaf_width == 1 && leaves > 1 && chance(state, 2)) { /* leaf by leaf, which are single rows */
        desc->leaf_stride = node_stride;
        desc->leaf_weights.node_stride = in + random_below(state, 9);
    } else if (chance(state, 2)) {
        desc->leaf_stride = desc->leaf_width * node_stride;
    }
}

static void make_part(struct subject *s, size_t index, size_t in, size_t out, enum fill kind, uint64_t *state) {
    fff_layer_desc *desc = &s->desc[index];
    size_t depth = random_below(state, 6), trees = 1 + random_below(state, 3);
    size_t width = chance(state, 3) ? 1 + random_below(state, chance(state, 4) ? 50 : 5) : 0;
    if (width == 0 && chance(state, 3)) { /* a dense layer */
        depth = 0;
        trees = 1 + random_below(state, 40);
    }
    size_t leaves = trees << depth, nodes = width > 0 ? leaves - trees : 2 * leaves - trees;
    *desc = (fff_layer_desc){
        .struct_size = sizeof *desc,
        .input_width = in,
        .output_width = out,
        .depth = depth,
        .trees = trees,
        .activation = (fff_activation)random_below(state, FFF_ACTIVATION_COUNT),
        .routing = (fff_routing)random_below(state, 2),
        .sleef = FFF_SLEEF_ANY,
        .input_weights = matrix_of(s, kind, nodes, in, 0, state),
        .output_weights = matrix_of(s, kind, width > 0 ? leaves * width : nodes, out, 0, state),
        .biases = chance(state, 2) ? floats_of(s, kind, nodes, state) : NULL,
        .output_weight_type = (fff_weight_choice)random_below(state, 2),
        .store_input = (fff_weight_choice)random_below(state, 2),
        .store_output = (fff_weight_choice)random_below(state, 2),
        .routes = (fff_routes)random_below(state, 2),
        .leaf_width = width,
    };
    s->path += trees * (width > 0 ? depth + width : depth + 1);
    if (width > 0) {
        add_leaves(s, desc, kind, state);
    }
    if (chance(state, 2)) {
        s->thresholds[index] = test_allocate(nodes + 1, sizeof(float));
        s->given_thresholds[index] = test_allocate(nodes + 1, sizeof(float));
        fill_floats(FILL_FEW_VALUES, s->thresholds[index], nodes, state);
        memcpy(s->given_thresholds[index], s->thresholds[index], nodes * sizeof(float));
        desc->thresholds = s->given_thresholds[index];
    }
}

/* One part, or several, which may be of either sort. */
static void make_subject(struct subject *s, enum fill kind, uint64_t *state) {
    size_t in = random_width(state), out = random_width(state);
    *s = (struct subject){.parts = chance(state, 2) ? 1 : 1 + random_below(state, MOST_PARTS),
                          .tokens = 1 + random_below(state, is_short() ? 20 : FEW)};
    if (chance(state, 4)) {
        s->tokens = MANY / 4 + random_below(state, is_short() ? MANY / 4 : MANY);
    }
    s->input = guarded_allocate(s->tokens * in * sizeof(float));
    fill_floats(kind, s->input.data, s->tokens * in, state);
    for (size_t i = 0; i < s->parts; i++) {
        make_part(s, i, in, out, kind, state);
        if (chance(state, 2)) {
            s->factors[i] = 1.5f;
            s->desc[i].factor = &s->factors[i];
        }
    }
    if (chance(state, 3)) {
        s->desc[0].output_bias = floats_of(s, kind, out, state);
    }
    for (size_t i = 0; i + 1 < s->parts; i++) {
        s->desc[i].next = &s->desc[i + 1];
    }
}

static void free_subject(struct subject *s) {
    for (size_t i = 0; i < s->owned_count; i++) {
        guarded_free(&s->owned[i]);
    }
    for (size_t i = 0; i < s->parts; i++) {
        free(s->thresholds[i]);
        free(s->given_thresholds[i]);
    }
    guarded_free(&s->input);
}

/* Spoils what a layer has copied, or puts it right again. */
static void spoil_copied(struct subject *s, bool spoil) {
    for (size_t i = 0; i < s->parts; i++) {
        s->factors[i] = spoil ? 77.0f : 1.5f;
        size_t nodes = s->desc[i].trees * (((size_t)(s->desc[i].leaf_width > 0 ? 1 : 2) << s->desc[i].depth) - 1);
        for (size_t row = 0; row < nodes && s->thresholds[i] != NULL; row++) {
            s->given_thresholds[i][row] = spoil ? 77.0f : s->thresholds[i][row];
        }
    }
}

static fff_layer *create(struct subject *s, fff_isa isa, size_t l2_bytes, unsigned borrowing) {
    for (size_t i = 0; i < s->parts; i++) {
        s->desc[i].borrow = (int)(borrowing >> i & 1);
    }
    fff_layer *layer = test_create_layer(&s->desc[0], isa);
    for (size_t i = 0; i < layer->part_count && l2_bytes > 0; i++) {
        layer->parts[i].l2_bytes = l2_bytes;
        fff_plan_part(&layer->parts[i]);
    }
    return layer;
}

/* ---- What layers compute ---------------------------------------------------------------------- */

struct results {
    uint32_t *nodes;
    float *logits, *output, *accumulated;
    uint16_t *typed;
};

static struct results run(const struct subject *s, const fff_layer *layer, size_t batch, const fff_runner *runner) {
    size_t in = s->desc[0].input_width, out = s->desc[0].output_width, path = s->path, tokens = s->tokens;
    size_t concurrency = runner != NULL ? runner->concurrency : 1, size, typed_size;
    struct results r = {
        .nodes = test_allocate(tokens * path, sizeof(uint32_t)),
        .logits = test_allocate(tokens * path, sizeof(float)),
        .output = test_allocate(tokens * out, sizeof(float)),
        .accumulated = test_allocate(tokens * out, sizeof(float)),
        .typed = test_allocate(tokens * out, sizeof(uint16_t)),
    };
    assert_int_equal(fff_workspace_size(layer, batch, concurrency, &size), FFF_OK);
    assert_int_equal(fff_workspace_size_typed(layer, batch, concurrency, FFF_WEIGHT_F32, FFF_WEIGHT_BF16, &typed_size),
                     FFF_OK);
    void *workspace = test_allocate(size > typed_size ? size : typed_size, 1);
    for (size_t t = 0; t < tokens; t += batch) {
        size_t count = tokens - t < batch ? tokens - t : batch;
        const float *input = (const float *)s->input.data + t * in;
        uint32_t *nodes = r.nodes + t * path;
        float *logits = r.logits + t * path;
        assert_int_equal(fff_route(layer, count, input, in, nodes, path, logits, path, workspace, size, runner),
                         FFF_OK);
        assert_int_equal(fff_forward(layer, count, input, in, r.output + t * out, out, workspace, size, runner),
                         FFF_OK);
        assert_int_equal(fff_accumulate(layer, count, nodes, path, logits, path, r.accumulated + t * out, out,
                                        workspace, size, runner),
                         FFF_OK);
        assert_int_equal(fff_forward_typed(layer, count, FFF_WEIGHT_F32, input, in, FFF_WEIGHT_BF16, r.typed + t * out,
                                           out, workspace, typed_size, runner),
                         FFF_OK);
    }
    free(workspace);
    return r;
}

static void free_results(struct results *r) {
    free(r->nodes);
    free(r->logits);
    free(r->output);
    free(r->accumulated);
    free(r->typed);
}

static bool is_nan(uint16_t bf16) {
    return (bf16 & 0x7fff) > 0x7f80;
}

static void compare(const struct subject *s, const struct results *actual, const struct results *expected) {
    size_t outputs = s->tokens * s->desc[0].output_width;
    assert_memory_equal(actual->nodes, expected->nodes, s->tokens * s->path * sizeof(uint32_t));
    assert_same_floats(actual->logits, expected->logits, s->tokens * s->path, "logits");
    assert_same_floats(actual->output, expected->output, outputs, "output");
    assert_same_floats(actual->accumulated, expected->accumulated, outputs, "accumulated output");
    for (size_t i = 0; i < outputs; i++) {
        assert_true(actual->typed[i] == expected->typed[i] || (is_nan(actual->typed[i]) && is_nan(expected->typed[i])));
    }
}

/* Rows that are listed, of a path sum. */
static void check_listed(const struct subject *s, const fff_layer *packed, const fff_layer *borrowed, uint64_t *state) {
    size_t in = s->desc[0].input_width, out = s->desc[0].output_width, size;
    size_t all = s->desc[0].trees * (((size_t)2 << s->desc[0].depth) - 1), count = 1 + random_below(state, 300);
    const fff_layer *layers[] = {packed, borrowed};
    uint32_t *rows = test_allocate(count, sizeof *rows);
    float *factors = test_allocate(count, sizeof *factors), *logits[2], *outputs[2];
    fill_floats(FILL_NORMAL, factors, count, state);
    for (size_t i = 0; i < count; i++) {
        rows[i] = (uint32_t)random_below(state, all);
    }
    rows[count / 2] = (uint32_t)all - 1;
    for (int i = 0; i < 2; i++) {
        logits[i] = test_allocate(count, sizeof(float));
        outputs[i] = test_allocate(out, sizeof(float));
        assert_int_equal(fff_workspace_size(layers[i], 1, 1, &size), FFF_OK);
        void *workspace = test_allocate(size, 1);
        assert_int_equal(
            fff_dot_rows(layers[i], 1, count, s->input.data, in, rows, count, logits[i], count, workspace, size),
            FFF_OK);
        assert_int_equal(fff_sum_rows(layers[i], 1, count, rows, count, factors, count, outputs[i], out), FFF_OK);
        free(workspace);
    }
    assert_same_floats(logits[1], logits[0], count, "listed logits");
    assert_same_floats(outputs[1], outputs[0], out, "listed sum");
    for (int i = 0; i < 2; i++) {
        free(logits[i]);
        free(outputs[i]);
    }
    free(rows);
    free(factors);
}

/* A layer that borrows, and a packed one of the weights as they are now, by all calls. */
static void check_now(struct subject *s, fff_isa isa, const fff_layer *borrowed, size_t l2_bytes, uint64_t *state) {
    const fff_runner runner = {test_run_on_threads, NULL, 1 + random_below(state, 4)};
    spoil_copied(s, false);
    fff_layer *packed = create(s, isa, l2_bytes, 0);
    spoil_copied(s, true);
    struct results expected = run(s, packed, s->tokens, NULL);
    const size_t batches[] = {1, 1 + random_below(state, s->tokens), s->tokens, s->tokens};
    for (int i = 0; i < 4; i++) {
        struct results actual = run(s, borrowed, batches[i], i == 3 ? &runner : NULL);
        compare(s, &actual, &expected);
        free_results(&actual);
    }
    if (s->parts == 1 && s->desc[0].leaf_width == 0 && s->desc[0].output_bias == NULL) {
        check_listed(s, packed, borrowed, state);
    }
    free_results(&expected);
    fff_layer_destroy(packed);
}

static void check_subject(enum fill kind, uint64_t *state) {
    const size_t sizes[] = {512, 4 << 10, 64 << 10, 0};
    static struct subject s;
    make_subject(&s, kind, state);
    for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
        if (fff_isa_usable((fff_isa)isa) != FFF_OK) {
            continue;
        }
        size_t l2_bytes = sizes[random_below(state, 4)];
        spoil_copied(&s, false);
        unsigned all = (1u << s.parts) - 1;
        unsigned borrowing = chance(state, 3) ? (unsigned)random_below(state, all + 1) : all;
        fff_layer *borrowed = create(&s, (fff_isa)isa, l2_bytes, borrowing);
        check_now(&s, (fff_isa)isa, borrowed, l2_bytes, state);
        for (size_t i = 0; i < s.owned_count && borrowing == all; i++) { /* a packed part would not notice */
            fill_floats(kind, s.owned[i].data, s.owned[i].size / sizeof(float), state);
        }
        check_now(&s, (fff_isa)isa, borrowed, l2_bytes, state);
        fff_layer_destroy(borrowed);
    }
    free_subject(&s);
}

static void test_same_bits(void **unused) {
    (void)unused;
    uint64_t state = test_random("same bits");
    for (size_t round = 0; round < (is_short() ? 2 : 20); round++) {
        for (int kind = 0; kind < FILL_KINDS; kind++) {
            check_subject((enum fill)kind, &state);
        }
    }
}

/* ---- Descriptions ----------------------------------------------------------------------------- */

enum { IN = 40, OUT = 30, TREES = 2, LEAVES = 4 * TREES, ROWS = 7 * TREES, LEAF = 3 };
static const float weights[LEAVES * LEAF * 2 * IN];

static fff_layer_desc path_sum(void) {
    return (fff_layer_desc){
        .struct_size = sizeof(fff_layer_desc),
        .input_width = IN,
        .output_width = OUT,
        .depth = 2,
        .trees = TREES,
        .input_weights = {weights, IN, 1},
        .output_weights = {weights, OUT, 1},
        .borrow = 1,
    };
}

static fff_layer_desc leaf_layer(void) {
    fff_layer_desc desc = path_sum();
    desc.leaf_width = LEAF;
    desc.leaf_weights = (fff_weights){weights, IN, 1};
    desc.leaf_output_biases = (fff_weights){weights, OUT, 1};
    return desc;
}

static void expect(fff_status status, const fff_layer_desc *desc) {
    fff_layer *layer = NULL;
    assert_int_equal(fff_layer_create(desc, &layer), status);
    assert_true((layer != NULL) == (status == FFF_OK));
    fff_layer_destroy(layer);
}
#define EXPECT(good, status, change)                                                                                   \
    do {                                                                                                               \
        fff_layer_desc desc = (good);                                                                                  \
        change;                                                                                                        \
        expect((status), &desc);                                                                                       \
    } while (0)

static void test_descriptions(void **unused) {
    (void)unused;
    EXPECT(path_sum(), FFF_OK, (void)desc);
    EXPECT(leaf_layer(), FFF_OK, (void)desc);
    EXPECT(path_sum(), FFF_ERROR_OPTION, desc.borrow = 2);
    EXPECT(path_sum(), FFF_ERROR_OPTION, desc.borrow = -1);
    EXPECT(path_sum(), FFF_ERROR_OPTION, desc.weight_type = FFF_WEIGHT_BF16);
    EXPECT(path_sum(), FFF_ERROR_OPTION, desc.output_weight_type = FFF_CHOOSE_F16);
    EXPECT(path_sum(), FFF_ERROR_OPTION, desc.store_input = FFF_CHOOSE_I8);
    EXPECT(path_sum(), FFF_ERROR_OPTION, desc.store_output = FFF_CHOOSE_BF16);
    EXPECT(path_sum(), FFF_ERROR_OPTION, desc.input_scales = weights);
    EXPECT(path_sum(), FFF_ERROR_OPTION, desc.output_scales = weights);
    EXPECT(leaf_layer(), FFF_ERROR_OPTION, desc.leaf_scales = weights);
    EXPECT(path_sum(), FFF_OK, desc.routes = FFF_ROUTES_EXACT);
    EXPECT(path_sum(), FFF_ERROR_STRIDE, desc.input_weights.node_stride = IN - 1);
    EXPECT(path_sum(), FFF_ERROR_STRIDE, (desc.input_weights.node_stride = 1, desc.input_weights.column_stride = ROWS));
    EXPECT(path_sum(), FFF_ERROR_STRIDE,
           (desc.output_weights.node_stride = 1, desc.output_weights.column_stride = ROWS));
    EXPECT(path_sum(), FFF_ERROR_STRIDE,
           (desc.input_weights.node_stride = 2 * IN, desc.input_weights.column_stride = 2));
    EXPECT(path_sum(), FFF_OK, (desc.input_width = 1, desc.input_weights = (fff_weights){weights, 1, 5}));
    EXPECT(path_sum(), FFF_ERROR_NULL_POINTER, desc.input_weights.data = NULL);
    EXPECT(path_sum(), FFF_ERROR_NULL_POINTER, desc.output_weights.data = NULL);
    EXPECT(path_sum(), FFF_ERROR_ALIGNMENT, desc.biases = (const float *)(const void *)((const char *)weights + 1));
    EXPECT(leaf_layer(), FFF_OK, desc.leaf_stride = LEAF * IN);
    EXPECT(leaf_layer(), FFF_ERROR_STRIDE, desc.leaf_stride = LEAF * IN + 1);
    EXPECT(leaf_layer(), FFF_OK, (desc.leaf_width = 1, desc.leaf_stride = IN + 1));
    EXPECT(leaf_layer(), FFF_OK, (desc.leaf_stride = LEAF * IN + 1, desc.trees = 1, desc.depth = 0));
    EXPECT(leaf_layer(), FFF_OK, (desc.depth = 0, desc.input_weights.column_stride = 9)); /* of no nodes */
    EXPECT(leaf_layer(), FFF_ERROR_STRIDE, desc.leaf_weights = ((fff_weights){weights, 1, LEAF});
           desc.leaf_stride = LEAF * IN);
    EXPECT(leaf_layer(), FFF_ERROR_STRIDE, desc.leaf_output_biases = ((fff_weights){weights, 2 * OUT, 2}));
    fff_layer_desc next = path_sum(); /* parts may differ */
    next.borrow = 0;
    EXPECT(path_sum(), FFF_OK, desc.next = &next);
    next.borrow = 2;
    EXPECT(path_sum(), FFF_ERROR_OPTION, desc.next = &next);
}

/* A program of 0.4 has a shorter descriptor, behind which there is anything. */
static void test_shorter(void **unused) {
    (void)unused;
    fff_layer_desc desc = path_sum();
    desc.struct_size = offsetof(fff_layer_desc, borrow);
    desc.borrow = 77;
    expect(FFF_OK, &desc);
}

/* Of its weights it holds nothing. */
static void test_memory(void **unused) {
    (void)unused;
    enum { WIDE = 768, DEPTH = 6, ALL = (2 << DEPTH) - 1 };
    float *rows = test_allocate((size_t)ALL * WIDE, sizeof *rows);
    fff_layer_desc desc = {
        .struct_size = sizeof desc,
        .input_width = WIDE,
        .output_width = WIDE,
        .depth = DEPTH,
        .trees = 1,
        .input_weights = {rows, WIDE, 1},
        .output_weights = {rows, WIDE, 1},
        .biases = rows,
        .borrow = 1,
    };
    fff_layer *layer = test_create_layer(&desc, FFF_ISA_GENERIC);
    assert_true(fff_layer_memory(layer) < 3 << 10);
    fff_layer_destroy(layer);
    desc.biases = NULL;
    layer = test_create_layer(&desc, FFF_ISA_GENERIC);
    assert_true(fff_layer_memory(layer) < (3 << 10) + ALL * sizeof(float));
    fff_layer_destroy(layer);
    free(rows);
}

int main(void) {
    test_start("borrow");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_descriptions),
        cmocka_unit_test(test_shorter),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests_name("borrow", tests, NULL, NULL);
}
