/* Leaf layers, and layers of several parts: against the definition, bit by bit, and against the leaf layers that the
 * authors' own code has run. */
#include "bert/safetensors.h"
#include "tests/definition.h"

#include "tests/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_PARTS = 4, MOST_BATCH = 70 };

/* A random layer: everything that a description can ask for. */
struct subject {
    size_t parts, path;
    fff_layer_desc desc[MOST_PARTS];
    float factors[MOST_PARTS];
    void *owned[MOST_PARTS * 8 + 2];
    size_t owned_count;
    size_t tokens;
    float *input;
};

static float *random_floats(struct subject *s, enum fill kind, size_t count, uint64_t *state) {
    float *floats = test_allocate(count, sizeof *floats);
    fill_floats(kind, floats, count, state);
    s->owned[s->owned_count++] = floats;
    return floats;
}

static bool chance(uint64_t *state, unsigned of) {
    return random_below(state, of) == 0;
}

static float *finite_floats(struct subject *s, size_t count, uint64_t *state) {
    return random_floats(s, chance(state, 2) ? FILL_FEW_VALUES : FILL_NORMAL, count, state);
}

static void make_part(struct subject *s, size_t index, size_t in, size_t out, enum fill kind, uint64_t *state) {
    fff_layer_desc *desc = &s->desc[index];
    size_t depth = random_below(state, 5), trees = 1 + random_below(state, 3);
    size_t width = chance(state, 3) ? 0 : 1 + random_below(state, chance(state, 8) ? 80 : 9);
    if (width == 0 && chance(state, 3)) { /* always-on neurons */
        depth = 0;
        trees = 1 + random_below(state, 40);
    }
    size_t leaves = trees << depth, nodes = width > 0 ? leaves - trees : 2 * leaves - trees;
    size_t neurons = width > 0 ? leaves * width : nodes;
    *desc = (fff_layer_desc){
        .struct_size = sizeof *desc,
        .input_width = in,
        .output_width = out,
        .depth = depth,
        .trees = trees,
        .activation = (fff_activation)random_below(state, FFF_ACTIVATION_COUNT),
        .routing = (fff_routing)random_below(state, 2),
        .sleef = FFF_SLEEF_ANY,
        .input_weights = {random_floats(s, kind, nodes * in, state), in, 1},
        .output_weights = {random_floats(s, kind, neurons * out, state), out, 1},
        .biases = chance(state, 2) ? random_floats(s, kind, nodes, state) : NULL,
        .thresholds = chance(state, 2) ? finite_floats(s, nodes, state) : NULL,
        .leaf_width = width,
    };
    s->path += trees * (width > 0 ? depth + width : depth + 1);
    if (chance(state, 2)) {
        fill_floats(FILL_NORMAL, &s->factors[index], 1, state);
        desc->factor = &s->factors[index];
    }
    if (width == 0) {
        return;
    }
    desc->leaf_weights = (fff_weights){random_floats(s, kind, neurons * in, state), in, 1};
    if (chance(state, 2)) { /* as PyTorch modules of this layer have them: leaves, inputs, neurons */
        desc->leaf_weights.node_stride = 1;
        desc->leaf_weights.column_stride = width;
        desc->leaf_stride = in * width;
    }
    desc->leaf_biases = chance(state, 2) ? random_floats(s, kind, neurons, state) : NULL;
    if (chance(state, 2)) {
        desc->leaf_output_biases = (fff_weights){random_floats(s, kind, leaves * out, state), out, 1};
    }
}

static struct subject make_subject(enum fill kind, size_t in, size_t out, uint64_t *state) {
    struct subject s = {.parts = 1 + random_below(state, MOST_PARTS), .tokens = 1 + random_below(state, MOST_BATCH)};
    s.input = random_floats(&s, kind, s.tokens * in, state);
    for (size_t i = 0; i < s.parts; i++) {
        make_part(&s, i, in, out, kind, state);
    }
    if (chance(state, 2)) {
        s.desc[0].output_bias = random_floats(&s, kind, out, state);
    }
    return s;
}

/* The parts' list, once the subject is where it stays. */
static void link_parts(struct subject *s) {
    for (size_t i = 0; i + 1 < s->parts; i++) {
        s->desc[i].next = &s->desc[i + 1];
    }
    for (size_t i = 0; i < s->parts; i++) {
        if (s->desc[i].factor != NULL) {
            s->desc[i].factor = &s->factors[i];
        }
    }
}

static void free_subject(struct subject *s) {
    for (size_t i = 0; i < s->owned_count; i++) {
        free(s->owned[i]);
    }
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

/* Planned for an L2 of that size, so that few tokens are many; 0 for the machine's own. */
static fff_layer *create(const struct subject *s, fff_isa isa) {
    return test_create_layer(&s->desc[0], isa);
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

/* All three functions, batch by batch; the workspaces have no byte too many. */
static void check_batches(const struct subject *s, const fff_layer *layer, size_t batch, const fff_runner *runner,
                          const struct results *expected) {
    size_t in = s->desc[0].input_width, out = s->desc[0].output_width, size,
           concurrency = runner ? runner->concurrency : 1;
    assert_int_equal(fff_layer_path_length(layer), s->path);
    struct results r = make_results(s);
    for (size_t t = 0; t < s->tokens; t += batch) {
        size_t count = s->tokens - t < batch ? s->tokens - t : batch;
        void *workspace = exact_workspace(layer, count, concurrency, &size);
        assert_int_equal(fff_route(layer, count, s->input + t * in, in, r.nodes + t * s->path, s->path,
                                   r.logits + t * s->path, s->path, workspace, size, runner),
                         FFF_OK);
        assert_int_equal(
            fff_forward(layer, count, s->input + t * in, in, r.output + t * out, out, workspace, size, runner), FFF_OK);
        free(workspace);
    }
    compare(s, &r, expected);
    memset(r.output, 0x77, s->tokens * out * sizeof(float));
    void *workspace = exact_workspace(layer, s->tokens, concurrency, &size);
    assert_int_equal(
        fff_accumulate(layer, s->tokens, r.nodes, s->path, r.logits, s->path, r.output, out, workspace, size, runner),
        FFF_OK);
    free(workspace);
    compare(s, &r, expected);
    free_results(&r);
}

static void check_everywhere(const struct subject *s, const struct results *expected, uint64_t *state) {
    const fff_runner runner = {test_run_on_threads, NULL, 1 + random_below(state, 5)};
    for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
        if (fff_isa_usable((fff_isa)isa) == FFF_OK) {
            fff_layer *layer = create(s, (fff_isa)isa);
            check_batches(s, layer, 1, NULL, expected);
            check_batches(s, layer, 1 + random_below(state, s->tokens), NULL, expected);
            check_batches(s, layer, s->tokens, &runner, expected);
            fff_layer_destroy(layer);
        }
    }
}

static size_t rounds(void) {
    return getenv("FFF_TEST_SHORT") != NULL ? 4 : 60;
}

static void test_definition(void **unused) {
    (void)unused;
    uint64_t state = test_random("definition");
    for (size_t round = 0; round < rounds(); round++) {
        for (int kind = 0; kind < FILL_KINDS; kind++) {
            struct subject s =
                make_subject((enum fill)kind, 1 + random_below(&state, 80), 1 + random_below(&state, 80), &state);
            link_parts(&s);
            struct results expected = define(&s);
            check_everywhere(&s, &expected, &state);
            free_results(&expected);
            free_subject(&s);
        }
    }
}

int main(void) {
    test_start("forest");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_definition),
    };
    return cmocka_run_group_tests_name("forest", tests, NULL, NULL);
}
