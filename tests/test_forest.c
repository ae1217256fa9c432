/* Leaf layers, layers of several parts, and lists of rows: against the definition, bit by bit. */
#include "kernels/half.h"
#include "layer/plan.h"
#include "tests/definition.h"
#include "tests/subject.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static size_t rounds(void) {
    return is_short() ? 2 : 60;
}
static size_t random_width(uint64_t *state) {
    return 1 + random_below(state, is_short() ? 40 : 80);
}

struct results {
    uint32_t *nodes;
    float *logits, *output;
};

static struct results make_results(const struct subject *s) {
    return (struct results){test_allocate(s->tokens * s->path, sizeof(uint32_t)),
                            test_allocate(s->tokens * s->path, sizeof(float)),
                            test_allocate(s->tokens * s->desc[0].output_width, sizeof(float))};
}

static void free_results(struct results *results) {
    free(results->nodes);
    free(results->logits);
    free(results->output);
}

static struct results define(const struct subject *s) {
    struct results r = make_results(s);
    for (size_t t = 0; t < s->tokens; t++) {
        define_token(&s->desc[0], s->input + t * s->desc[0].input_width, r.nodes + t * s->path, r.logits + t * s->path,
                     r.output + t * s->desc[0].output_width);
    }
    return r;
}

/* Planned for an L2 of some size or other, so that few tokens and neurons are many. */
static fff_layer *create(const struct subject *s, fff_isa isa, uint64_t *state) {
    fff_layer *layer = test_create_layer(&s->desc[0], isa);
    size_t sizes[] = {512, 4 << 10, 64 << 10, 0}, size = sizes[random_below(state, 4)];
    for (size_t i = 0; i < layer->part_count && size > 0; i++) {
        layer->parts[i].l2_bytes = size;
        fff_plan_part(&layer->parts[i]);
    }
    return layer;
}

static void *exact_workspace(const fff_layer *layer, size_t batch, size_t concurrency, size_t *size) {
    assert_int_equal(fff_workspace_size(layer, batch, concurrency, size), FFF_OK);
    unsigned char *workspace = test_allocate(*size, 1);
    memset(workspace, 0xff, *size);
    return workspace;
}

static void compare(const struct subject *s, const struct results *actual, const struct results *expected) {
    assert_memory_equal(actual->nodes, expected->nodes, s->tokens * s->path * sizeof(uint32_t));
    assert_same_floats(actual->logits, expected->logits, s->tokens * s->path, "logits");
    assert_same_floats(actual->output, expected->output, s->tokens * s->desc[0].output_width, "output");
}

/* What fff.h says of a layer of one part: 32 KB, and for each token 512 bytes and 32 for each entry of its path. */
static void check_bound(const struct subject *s, size_t size, size_t batch, size_t concurrency) {
    size_t a_token = 512 + 32 * s->path + 256 + s->desc[0].input_width + 128;
    if (s->parts == 1 && s->desc[0].output_bias == NULL && size > (32 << 10) + batch * a_token) {
        fail_msg("%zu bytes for %zu tokens of %zu on %zu tasks", size, batch, s->path, concurrency);
    }
}

/* All four functions, batch by batch; the workspaces have no byte too many. */
static void check_batches(const struct subject *s, const fff_layer *layer, size_t batch, const fff_runner *runner,
                          const struct results *expected) {
    size_t in = s->desc[0].input_width, out = s->desc[0].output_width, size,
           concurrency = runner ? runner->concurrency : 1;
    assert_int_equal(fff_layer_path_length(layer), s->path);
    struct results r = make_results(s), both = make_results(s);
    for (size_t t = 0; t < s->tokens; t += batch) {
        size_t count = s->tokens - t < batch ? s->tokens - t : batch;
        void *workspace = exact_workspace(layer, count, concurrency, &size);
        check_bound(s, size, count, concurrency);
        assert_int_equal(fff_route(layer, count, s->input + t * in, in, r.nodes + t * s->path, s->path,
                                   r.logits + t * s->path, s->path, workspace, size, runner),
                         FFF_OK);
        assert_int_equal(
            fff_forward(layer, count, s->input + t * in, in, r.output + t * out, out, workspace, size, runner), FFF_OK);
        assert_int_equal(fff_forward_paths(layer, count, s->input + t * in, in, both.output + t * out, out,
                                           both.nodes + t * s->path, s->path, both.logits + t * s->path, s->path,
                                           workspace, size, runner),
                         FFF_OK);
        free(workspace);
    }
    compare(s, &r, expected);
    compare(s, &both, expected);
    free_results(&both);
    memset(r.output, 0x77, s->tokens * out * sizeof(float));
    void *workspace = exact_workspace(layer, s->tokens, concurrency, &size);
    assert_int_equal(
        fff_accumulate(layer, s->tokens, r.nodes, s->path, r.logits, s->path, r.output, out, workspace, size, runner),
        FFF_OK);
    free(workspace);
    compare(s, &r, expected);
    free_results(&r);
}

/* A runner that remembers what it was given, and calls it all once more when the layer is done. */
struct late {
    void (*tasks[4096])(void *argument, size_t index);
    void *arguments[4096];
    size_t count;
};

static void run_and_remember(void *context, size_t count, void (*task)(void *argument, size_t index), void *argument) {
    struct late *late = context;
    assert_true(late->count < 4096);
    late->tasks[late->count] = task;
    late->arguments[late->count++] = argument;
    test_run_on_threads(NULL, count, task, argument);
}

static void check_late_calls(const struct subject *s, const fff_layer *layer, const struct results *expected) {
    struct late late = {.count = 0};
    const fff_runner runner = {run_and_remember, &late, 3};
    size_t in = s->desc[0].input_width, out = s->desc[0].output_width, size;
    struct results r = make_results(s);
    void *workspace = exact_workspace(layer, s->tokens, 3, &size);
    assert_int_equal(fff_forward(layer, s->tokens, s->input, in, r.output, out, workspace, size, &runner), FFF_OK);
    for (size_t i = 0; i < late.count; i++) {
        for (size_t index = 0; index < 4; index++) {
            late.tasks[i](late.arguments[i], index);
        }
    }
    assert_same_floats(r.output, expected->output, s->tokens * out, "output, after late calls");
    free(workspace);
    free_results(&r);
}

static void check_everywhere(const struct subject *s, const struct results *expected, uint64_t *state) {
    const fff_runner runner = {test_run_on_threads, NULL, 1 + random_below(state, 5)};
    for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
        if (fff_isa_usable((fff_isa)isa) == FFF_OK) {
            fff_layer *layer = create(s, (fff_isa)isa, state);
            check_batches(s, layer, 1, NULL, expected);
            check_batches(s, layer, 1 + random_below(state, s->tokens), NULL, expected);
            check_batches(s, layer, s->tokens, &runner, expected);
            check_late_calls(s, layer, expected);
            fff_layer_destroy(layer);
        }
    }
}

static void test_definition(void **unused) {
    (void)unused;
    uint64_t state = test_random("definition");
    for (size_t round = 0; round < rounds(); round++) {
        for (int kind = is_short() ? FILL_KINDS - 3 : 0; kind < FILL_KINDS; kind++) {
            struct subject s = make_subject((enum fill)kind, random_width(&state), random_width(&state), &state);
            link_parts(&s);
            struct results expected = define(&s);
            check_everywhere(&s, &expected, &state);
            free_results(&expected);
            free_subject(&s);
        }
    }
}

/* ---- Stored types ---------------------------------------------------------------------------- */

static void round_all(const void *weights, size_t count, fff_weight_type type) {
    float *values = (float *)(uintptr_t)weights; /* the subject's own */
    for (size_t i = 0; i < count; i++) {
        values[i] = type == FFF_WEIGHT_BF16 ? fff_widen_bf16(fff_round_bf16(values[i]))
                                            : fff_widen_f16(fff_round_f16(values[i]));
    }
}

/* A layer that stores 16 bits is the float32 layer of the same numbers. */
static void test_halves(void **unused) {
    (void)unused;
    uint64_t state = test_random("halves");
    for (size_t round = 0; round < rounds(); round++) {
        size_t in = random_width(&state), out = random_width(&state);
        struct subject s = make_subject(FILL_NORMAL, in, out, &state);
        link_parts(&s);
        for (size_t i = 0; i < s.parts; i++) {
            fff_weight_type type = chance(&state, 2) ? FFF_WEIGHT_BF16 : FFF_WEIGHT_F16;
            size_t nodes, neurons;
            count_rows(&s.desc[i], &nodes, &neurons);
            round_all(s.desc[i].input_weights.data, nodes * in, type);
            round_all(s.desc[i].leaf_weights.data, neurons * in, type);
            round_all(s.desc[i].output_weights.data, (neurons > 0 ? neurons : nodes) * out, type);
            s.desc[i].store_input = s.desc[i].store_output = (fff_weight_choice)(type + 1);
        }
        struct results expected = define(&s);
        check_everywhere(&s, &expected, &state);
        free_results(&expected);
        free_subject(&s);
    }
}

static struct results run_alone(const struct subject *s, fff_isa isa) {
    size_t in = s->desc[0].input_width, size;
    struct results r = make_results(s);
    fff_layer *layer = test_create_layer(&s->desc[0], isa);
    void *workspace = exact_workspace(layer, 1, 1, &size);
    for (size_t t = 0; t < s->tokens; t++) {
        assert_int_equal(fff_route(layer, 1, s->input + t * in, in, r.nodes + t * s->path, s->path,
                                   r.logits + t * s->path, s->path, workspace, size, NULL),
                         FFF_OK);
        assert_int_equal(fff_forward(layer, 1, s->input + t * in, in, r.output + t * s->desc[0].output_width,
                                     s->desc[0].output_width, workspace, size, NULL),
                         FFF_OK);
    }
    free(workspace);
    fff_layer_destroy(layer);
    return r;
}

/* Routes of narrow rows that are exact: those of the float32 layer, though the rows are others. Everything else is the
 * same on all instruction sets. */
static void test_exact_routes(void **unused) {
    (void)unused;
    uint64_t state = test_random("exact routes");
    const enum fill kinds[] = {FILL_NORMAL, FILL_FEW_VALUES, FILL_MIXED_SCALES};
    for (size_t round = 0; round < rounds(); round++) {
        size_t in = random_width(&state), out = random_width(&state);
        struct subject s = make_subject(kinds[random_below(&state, 3)], in, out, &state);
        link_parts(&s);
        struct results exact = define(&s);
        for (size_t i = 0; i < s.parts; i++) {
            bool eight = chance(&state, 2);
            s.desc[i].store_input = eight ? FFF_CHOOSE_I8 : FFF_CHOOSE_BF16;
            s.desc[i].store_output = chance(&state, 2) ? FFF_CHOOSE_I8 : FFF_CHOOSE_F32;
            s.desc[i].routes = FFF_ROUTES_EXACT;
        }
        struct results expected = run_alone(&s, FFF_ISA_GENERIC);
        assert_memory_equal(expected.nodes, exact.nodes, s.tokens * s.path * sizeof(uint32_t));
        check_everywhere(&s, &expected, &state);
        for (size_t i = 0; i < s.parts; i++) {
            s.desc[i].routes = FFF_ROUTES_STORED;
        }
        struct results stored = run_alone(&s, FFF_ISA_GENERIC);
        check_everywhere(&s, &stored, &state);
        free_results(&stored);
        free_results(&expected);
        free_results(&exact);
        free_subject(&s);
    }
}

/* ---- What is known without a definition ------------------------------------------------------- */

/* Leaves of one neuron below nodes whose logits are all 0: everybody is at the last leaf, or at the first. */
static void test_zero_nodes(void **unused) {
    (void)unused;
    enum { IN = 40, OUT = 33, DEPTH = 3, LEAVES = 1 << DEPTH, TOKENS = 9 };
    uint64_t state = test_random("zero nodes");
    static const float zeros[(LEAVES - 1) * IN];
    float neurons[LEAVES * IN], rows[LEAVES * OUT], input[TOKENS * IN], output[TOKENS * OUT], expected[TOKENS * OUT];
    fill_floats(FILL_NORMAL, neurons, LEAVES * IN, &state);
    fill_floats(FILL_NORMAL, rows, LEAVES * OUT, &state);
    fill_floats(FILL_NORMAL, input, TOKENS * IN, &state);
    for (int rule = 0; rule < 2; rule++) {
        size_t leaf = rule == FFF_ROUTING_GREATER ? 0 : LEAVES - 1;
        const fff_layer_desc leaves = {
            .struct_size = sizeof leaves,
            .input_width = IN,
            .output_width = OUT,
            .depth = DEPTH,
            .trees = 1,
            .routing = (fff_routing)rule,
            .input_weights = {zeros, IN, 1},
            .output_weights = {rows, OUT, 1},
            .leaf_width = 1,
            .leaf_weights = {neurons, IN, 1},
        };
        const fff_layer_desc alone = {
            .struct_size = sizeof alone,
            .input_width = IN,
            .output_width = OUT,
            .trees = 1,
            .input_weights = {neurons + leaf * IN, IN, 1},
            .output_weights = {rows + leaf * OUT, OUT, 1},
        };
        unsigned char workspace[1 << 16];
        fff_layer *layers[] = {test_create_layer(&leaves, FFF_ISA_GENERIC), test_create_layer(&alone, FFF_ISA_GENERIC)};
        float *outputs[] = {output, expected};
        for (int i = 0; i < 2; i++) {
            assert_int_equal(
                fff_forward(layers[i], TOKENS, input, IN, outputs[i], OUT, workspace, sizeof workspace, NULL), FFF_OK);
            fff_layer_destroy(layers[i]);
        }
        assert_same_floats(output, expected, TOKENS * OUT, "output");
    }
}

/* ---- Lists of rows ---------------------------------------------------------------------------- */

/* The layer of a single row of another's. */
static fff_layer_desc row_desc(const fff_layer_desc *desc, size_t row) {
    fff_layer_desc alone = *desc;
    alone.depth = 0;
    alone.trees = 1;
    alone.thresholds = NULL;
    alone.input_weights.data = (const float *)desc->input_weights.data + row * desc->input_width;
    alone.output_weights.data = (const float *)desc->output_weights.data + row * desc->output_width;
    alone.biases = desc->biases != NULL ? desc->biases + row : NULL;
    return alone;
}

/* A list for each token, and what is made of it. */
struct listed {
    size_t count, all; /* rows of a token; of all tokens */
    uint32_t *rows;
    float *logits, *factors, *output; /* expected, but for the factors */
};

static struct listed make_list(const struct subject *s, size_t count, size_t rows, uint64_t *state) {
    const fff_layer_desc *desc = &s->desc[0];
    size_t in = desc->input_width, out = desc->output_width, all = s->tokens * count;
    struct listed list = {
        .count = count,
        .all = all,
        .rows = test_allocate(all, sizeof(uint32_t)),
        .logits = test_allocate(all, sizeof(float)),
        .factors = test_allocate(all, sizeof(float)),
        .output = test_allocate(s->tokens * out, sizeof(float)),
    };
    float *ignored = test_allocate(out, sizeof *ignored);
    fill_floats(FILL_NORMAL, list.factors, all, state);
    for (size_t i = 0; i < all; i++) {
        uint32_t node;
        size_t token = i / count;
        list.rows[i] = (uint32_t)random_below(state, rows);
        const fff_layer_desc alone = row_desc(desc, list.rows[i]);
        define_token(&alone, s->input + token * in, &node, &list.logits[i], ignored);
        for (size_t column = 0; column < out; column++) {
            float *sum = &list.output[token * out + column];
            *sum = fmaf(list.factors[i], ((const float *)alone.output_weights.data)[column], *sum);
        }
    }
    free(ignored);
    return list;
}

static void free_list(struct listed *list) {
    free(list->rows);
    free(list->logits);
    free(list->factors);
    free(list->output);
}

#define DOT_ROWS(status, ...)                                                                                          \
    assert_int_equal(fff_dot_rows(layer, s->tokens, n, s->input, in, list->rows, n, __VA_ARGS__), status)
#define SUM_ROWS(status, factors)                                                                                      \
    assert_int_equal(fff_sum_rows(layer, s->tokens, n, list->rows, n, factors, n, output, out), status)

static void check_list(const struct subject *s, struct listed *list, size_t rows, const fff_layer *layer) {
    size_t in = s->desc[0].input_width, out = s->desc[0].output_width, n = list->count, size;
    float *logits = test_allocate(list->all, sizeof *logits), *output = test_allocate(s->tokens * out, sizeof *output);
    void *workspace = exact_workspace(layer, 1, 1, &size);
    DOT_ROWS(FFF_OK, logits, n, workspace, size);
    assert_same_floats(logits, list->logits, list->all, "logits");
    SUM_ROWS(FFF_OK, list->factors);
    assert_same_floats(output, list->output, s->tokens * out, "output");
    assert_int_equal(fff_sum_rows(layer, s->tokens, 0, NULL, 0, NULL, 0, output, out), FFF_OK);
    for (size_t i = 0; i < s->tokens * out; i++) {
        assert_true(output[i] == 0.0f);
    }
    SUM_ROWS(FFF_ERROR_OVERLAP, output);
    DOT_ROWS(size > 1 ? FFF_ERROR_OVERLAP : FFF_ERROR_WORKSPACE, logits, n, logits, size);
    DOT_ROWS(FFF_ERROR_WORKSPACE, logits, n, workspace, 0);
    uint32_t kept = list->rows[list->all - 1];
    list->rows[list->all - 1] = (uint32_t)rows;
    SUM_ROWS(FFF_ERROR_NODE, list->factors);
    DOT_ROWS(FFF_ERROR_NODE, logits, n, workspace, size);
    list->rows[list->all - 1] = kept;
    free(workspace);
    free(logits);
    free(output);
}

static void check_listed(const struct subject *s, size_t count, size_t rows, uint64_t *state) {
    struct listed list = make_list(s, count, rows, state);
    for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
        if (fff_isa_usable((fff_isa)isa) == FFF_OK) {
            fff_layer *layer = test_create_layer(&s->desc[0], (fff_isa)isa);
            check_list(s, &list, rows, layer);
            fff_layer_destroy(layer);
        }
    }
    free_list(&list);
}

/* int8 rows: all instruction sets agree, and with fff_route() and fff_accumulate() of a list that is a path. */
static void test_listed_integers(void **unused) {
    (void)unused;
    enum { IN = 70, OUT = 130, TREES = 40 };
    uint64_t state = test_random("listed integers");
    float in[TREES * IN], out[TREES * OUT], input[IN], logits[TREES], expected[TREES], sums[OUT], output[OUT];
    uint32_t rows[TREES], nodes[TREES];
    unsigned char workspace[1 << 16];
    fill_floats(FILL_NORMAL, in, TREES * IN, &state);
    fill_floats(FILL_NORMAL, out, TREES * OUT, &state);
    fill_floats(FILL_NORMAL, input, IN, &state);
    fff_layer_desc desc = {
        .struct_size = sizeof desc,
        .input_width = IN,
        .output_width = OUT,
        .trees = TREES,
        .activation = FFF_ACTIVATION_IDENTITY,
        .input_weights = {in, IN, 1},
        .output_weights = {out, OUT, 1},
        .store_input = FFF_CHOOSE_I8,
        .store_output = FFF_CHOOSE_I8,
    };
    for (uint32_t i = 0; i < TREES; i++) {
        rows[i] = i;
    }
    for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
        if (fff_isa_usable((fff_isa)isa) != FFF_OK) {
            continue;
        }
        fff_layer *layer = test_create_layer(&desc, (fff_isa)isa);
        assert_int_equal(
            fff_route(layer, 1, input, IN, nodes, TREES, expected, TREES, workspace, sizeof workspace, NULL), FFF_OK);
        assert_int_equal(fff_forward(layer, 1, input, IN, sums, OUT, workspace, sizeof workspace, NULL), FFF_OK);
        assert_int_equal(
            fff_dot_rows(layer, 1, TREES, input, IN, rows, TREES, logits, TREES, workspace, sizeof workspace), FFF_OK);
        assert_same_floats(logits, expected, TREES, "logits");
        assert_int_equal(fff_sum_rows(layer, 1, TREES, rows, TREES, logits, TREES, output, OUT), FFF_OK);
        assert_same_floats(output, sums, OUT, "output");
        assert_int_equal(fff_sum_rows(layer, 1, TREES, NULL, TREES, logits, TREES, output, OUT),
                         FFF_ERROR_NULL_POINTER);
        assert_int_equal(fff_sum_rows(layer, 1, TREES, rows, TREES, NULL, TREES, output, OUT), FFF_ERROR_NULL_POINTER);
        assert_int_equal(fff_sum_rows(layer, 2, TREES, rows, TREES - 1, logits, TREES, output, OUT), FFF_ERROR_STRIDE);
        assert_int_equal(fff_sum_rows(layer, 2, TREES, rows, TREES, logits, TREES - 1, output, OUT), FFF_ERROR_STRIDE);
        fff_layer_destroy(layer);
    }
    desc.trees = 2;
    desc.depth = 3;
    fff_layer *deep = test_create_layer(&desc, FFF_ISA_GENERIC);
    assert_int_equal(fff_sum_rows(deep, 1, 1, rows, 1, logits, 1, output, OUT), FFF_ERROR_OPTION);
    assert_int_equal(fff_dot_rows(deep, 1, 1, input, IN, rows, 1, logits, 1, workspace, sizeof workspace), FFF_OK);
    fff_layer_destroy(deep);
}

static void test_listed_rows(void **unused) {
    (void)unused;
    uint64_t state = test_random("listed rows");
    for (size_t round = 0; round < rounds() / 2; round++) {
        struct subject s = make_subject(FILL_NORMAL, random_width(&state), random_width(&state), &state);
        size_t nodes, neurons;
        count_rows(&s.desc[0], &nodes, &neurons);
        s.desc[0].output_bias = NULL;
        s.desc[0].factor = NULL;
        if (neurons == 0) {
            check_listed(&s, 1 + random_below(&state, 600), nodes, &state);
        } else {
            fff_layer *layer = test_create_layer(&s.desc[0], FFF_ISA_GENERIC);
            uint32_t row = 0;
            float logit, *output = test_allocate(s.desc[0].output_width, sizeof *output);
            unsigned char workspace[1 << 16];
            assert_int_equal(fff_dot_rows(layer, 1, 1, s.input, 100, &row, 1, &logit, 1, workspace, sizeof workspace),
                             FFF_ERROR_OPTION);
            assert_int_equal(fff_sum_rows(layer, 1, 1, &row, 1, &logit, 1, output, 100), FFF_ERROR_OPTION);
            free(output);
            fff_layer_destroy(layer);
        }
        free_subject(&s);
    }
}

int main(void) {
    test_start("forest");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_definition), cmocka_unit_test(test_halves),      cmocka_unit_test(test_exact_routes),
        cmocka_unit_test(test_zero_nodes), cmocka_unit_test(test_listed_rows), cmocka_unit_test(test_listed_integers),
    };
    return cmocka_run_group_tests_name("forest", tests, NULL, NULL);
}
