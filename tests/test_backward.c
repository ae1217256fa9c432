/* The backward pass: against its definition bit by bit, against float64, and by finite differences. */
#include "layer/plan.h"
#include "tests/definition.h"
#include "tests/subject.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- What a call is given, and what it makes -------------------------------------------------- */

/* All gradients of a layer, dense: a row for each neuron. */
struct all_gradients {
    struct defined_gradients parts[MOST_PARTS];
    float *input, *output_bias;
};

/* A subject with its paths and a gradient of its outputs. */
struct pass {
    struct subject s;
    size_t in, out;
    uint32_t *nodes;
    float *logits, *output_gradient;
};

static fff_isa best_isa(void) {
    fff_isa isa = FFF_ISA_GENERIC;
    assert_int_equal(fff_isa_choose(FFF_ISA_AUTO, &isa), FFF_OK);
    return isa;
}

static size_t neurons_of(const fff_layer_desc *desc) {
    size_t nodes, neurons;
    count_rows(desc, &nodes, &neurons);
    return desc->leaf_width > 0 ? neurons : nodes;
}

static size_t leaves_of(const fff_layer_desc *desc) {
    return desc->leaf_width > 0 ? desc->trees << desc->depth : 0;
}

/* Of which gradients begin from random numbers, or from zeros. */
static struct all_gradients make_gradients(const struct pass *p, enum fill kind, uint64_t state, bool zeros) {
    struct all_gradients g = {.input = test_allocate(p->s.tokens * p->in, sizeof(float)),
                              .output_bias = test_allocate(p->out, sizeof(float))};
    for (size_t i = 0; i < p->s.parts; i++) {
        size_t neurons = neurons_of(&p->s.desc[i]), leaves = leaves_of(&p->s.desc[i]);
        struct defined_gradients *part = &g.parts[i];
        *part = (struct defined_gradients){test_allocate(neurons * p->in, 4), test_allocate(neurons, 4),
                                           test_allocate(neurons * p->out, 4), test_allocate(leaves * p->out, 4)};
        if (!zeros) {
            fill_floats(kind, part->input_weights, neurons * p->in, &state);
            fill_floats(kind, part->biases, neurons, &state);
            fill_floats(kind, part->output_weights, neurons * p->out, &state);
            fill_floats(kind, part->leaf_output_biases, leaves * p->out, &state);
        }
    }
    return g;
}

static void free_gradients(struct all_gradients *g, size_t parts) {
    for (size_t i = 0; i < parts; i++) {
        free(g->parts[i].input_weights);
        free(g->parts[i].biases);
        free(g->parts[i].output_weights);
        free(g->parts[i].leaf_output_biases);
    }
    free(g->input);
    free(g->output_bias);
}

static void compare_gradients(const struct pass *p, const struct all_gradients *actual,
                              const struct all_gradients *expected) {
    assert_same_floats(actual->input, expected->input, p->s.tokens * p->in, "input gradient");
    assert_same_floats(actual->output_bias, expected->output_bias, p->out, "gradient of the output bias");
    for (size_t i = 0; i < p->s.parts; i++) {
        const struct defined_gradients *a = &actual->parts[i], *e = &expected->parts[i];
        size_t neurons = neurons_of(&p->s.desc[i]), leaves = leaves_of(&p->s.desc[i]);
        assert_same_floats(a->input_weights, e->input_weights, neurons * p->in, "gradient of input weights");
        assert_same_floats(a->biases, e->biases, neurons, "gradient of biases");
        assert_same_floats(a->output_weights, e->output_weights, neurons * p->out, "gradient of output weights");
        assert_same_floats(a->leaf_output_biases, e->leaf_output_biases, leaves * p->out, "gradient of leaf biases");
    }
}

/* The random layer with its paths, some of which are no paths. */
static void make_pass(struct pass *p, enum fill kind, uint64_t *state) {
    size_t most = is_short() ? 40 : 80;
    p->in = chance(state, 3) ? 32 * (1 + random_below(state, 6)) : 1 + random_below(state, most);
    p->out = chance(state, 3) ? p->in : 1 + random_below(state, most);
    p->s = make_subject(kind, p->in, p->out, state);
    link_parts(&p->s);
    p->nodes = test_allocate(p->s.tokens * p->s.path, sizeof(uint32_t));
    p->logits = test_allocate(p->s.tokens * p->s.path, sizeof(float));
    p->output_gradient = random_floats(&p->s, kind, p->s.tokens * p->out, state);
    float *output = test_allocate(p->out, sizeof(float));
    for (size_t t = 0; t < p->s.tokens; t++) {
        define_token(&p->s.desc[0], p->s.input + t * p->in, p->nodes + t * p->s.path, p->logits + t * p->s.path,
                     output);
    }
    free(output);
    const fff_layer_desc *first = &p->s.desc[0];
    for (size_t i = 0; i < p->s.tokens && first->leaf_width == 0 && chance(state, 3); i++) {
        size_t node = random_below(state, fff_nodes_per_tree(first->depth));
        p->nodes[i * p->s.path + random_below(state, first->trees * (first->depth + 1))] = (uint32_t)node;
    }
}

static void free_pass(struct pass *p) {
    free(p->nodes);
    free(p->logits);
    free_subject(&p->s);
}

static void *exact_workspace(const fff_layer *layer, size_t batch, size_t concurrency, size_t *size) {
    assert_int_equal(fff_backward_workspace_size(layer, batch, concurrency, size), FFF_OK);
    unsigned char *workspace = test_allocate(*size, 1);
    memset(workspace, 0xff, *size);
    return workspace;
}

/* Tokens `first` to `first + count`. */
static fff_status run(const struct pass *p, const fff_layer *layer, size_t first, size_t count, float *input_gradient,
                      const fff_gradients *gradients, const fff_runner *runner) {
    size_t size, path = p->s.path;
    void *workspace = exact_workspace(layer, count, runner != NULL ? runner->concurrency : 1, &size);
    fff_status status = fff_backward(layer, count, p->s.input + first * p->in, p->in, p->nodes + first * path, path,
                                     p->logits + first * path, path, p->output_gradient + first * p->out, p->out,
                                     input_gradient == NULL ? NULL : input_gradient + first * p->in, p->in, gradients,
                                     workspace, size, runner);
    free(workspace);
    return status;
}

/* ---- Against the definition ------------------------------------------------------------------- */

/* Gradients of all parts, into these; of all neurons, as long as no rows are listed. */
static void link_gradients(const struct pass *p, const struct all_gradients *g, float *output_bias,
                           fff_gradients links[MOST_PARTS]) {
    for (size_t i = 0; i < p->s.parts; i++) {
        const struct defined_gradients *part = &g->parts[i];
        links[i] = (fff_gradients){
            .struct_size = sizeof links[i],
            .input_weights = {part->input_weights, p->in},
            .biases = part->biases,
            .output_weights = {part->output_weights, p->out},
            .output_bias = i == 0 ? output_bias : NULL,
            .next = i + 1 < p->s.parts ? &links[i + 1] : NULL,
        };
        if (p->s.desc[i].leaf_width > 0) {
            links[i].leaf_output_biases = (fff_gradient_rows){part->leaf_output_biases, p->out};
        }
    }
}

static void check_dense(const struct pass *p, const fff_layer *layer, size_t batch, const fff_runner *runner,
                        enum fill kind, uint64_t state, const struct all_gradients *expected) {
    struct all_gradients g = make_gradients(p, kind, state, false);
    fff_gradients links[MOST_PARTS];
    link_gradients(p, &g, g.output_bias, links);
    memset(g.input, 0x77, p->s.tokens * p->in * sizeof(float));
    for (size_t t = 0; t < p->s.tokens; t += batch) {
        size_t count = p->s.tokens - t < batch ? p->s.tokens - t : batch;
        assert_int_equal(run(p, layer, t, count, g.input, links, runner), FFF_OK);
    }
    compare_gradients(p, &g, expected);
    free_gradients(&g, p->s.parts);
}

/* The rows of one part that were met, and one more if there is one to spare; *met is without it. */
static uint32_t *list_rows(const struct pass *p, const fff_layer *layer, size_t part, bool one_more, size_t *count) {
    const fff_layer_desc *desc = &p->s.desc[part];
    size_t neurons = neurons_of(desc), size, width = desc->leaf_width > 0 ? desc->leaf_width : 1;
    uint32_t *rows = test_allocate(neurons, sizeof *rows);
    void *workspace = exact_workspace(layer, p->s.tokens, 1, &size);
    assert_int_equal(
        fff_visited_rows(layer, part, p->s.tokens, p->nodes, p->s.path, rows, neurons, count, workspace, size), FFF_OK);
    free(workspace);
    for (size_t i = 1; i < *count; i++) {
        assert_true(rows[i] > rows[i - 1] && rows[i] < neurons);
    }
    if (one_more && *count < neurons) {
        size_t at = 0; /* the first that is missing */
        while (at < *count && rows[at] == at) {
            at += width;
        }
        memmove(rows + at + width, rows + at, (*count - at) * sizeof *rows);
        for (size_t j = 0; j < width; j++) {
            rows[at + j] = (uint32_t)(at + j);
        }
        *count += width;
    }
    return rows;
}

/* Rows in a list, which begin from nothing; all others must be zeros. */
static void check_listed(const struct pass *p, const fff_layer *layer, const fff_runner *runner, bool one_more,
                         const struct all_gradients *expected) {
    struct all_gradients g = make_gradients(p, FILL_ANY_BITS, 1, false),
                         dense = make_gradients(p, FILL_NORMAL, 1, true);
    fff_gradients links[MOST_PARTS];
    link_gradients(p, &g, dense.output_bias, links);
    for (size_t i = 0; i < p->s.parts; i++) {
        links[i].rows = list_rows(p, layer, i, one_more, &links[i].row_count);
    }
    assert_int_equal(run(p, layer, 0, p->s.tokens, dense.input, links, runner), FFF_OK);
    for (size_t i = 0; i < p->s.parts; i++) {
        struct defined_gradients *to = &dense.parts[i], *from = &g.parts[i];
        size_t width = p->s.desc[i].leaf_width;
        for (size_t row = 0; row < links[i].row_count; row++) {
            size_t neuron = links[i].rows[row];
            memcpy(to->input_weights + neuron * p->in, from->input_weights + row * p->in, p->in * sizeof(float));
            memcpy(to->output_weights + neuron * p->out, from->output_weights + row * p->out, p->out * sizeof(float));
            to->biases[neuron] = from->biases[row];
            if (width > 0) {
                memcpy(to->leaf_output_biases + neuron / width * p->out,
                       from->leaf_output_biases + row / width * p->out, p->out * sizeof(float));
            }
        }
        free((void *)(uintptr_t)links[i].rows);
    }
    compare_gradients(p, &dense, expected);
    free_gradients(&g, p->s.parts);
    free_gradients(&dense, p->s.parts);
}

/* For a second-level cache of this size, which decides in what order rows and tokens are taken; 0: the machine's. */
static fff_layer *create(const struct pass *p, fff_isa isa, bool borrow, size_t l2_bytes) {
    fff_layer_desc parts[MOST_PARTS];
    for (size_t i = 0; i < p->s.parts; i++) {
        parts[i] = p->s.desc[i];
        parts[i].borrow = borrow;
        parts[i].next = i + 1 < p->s.parts ? &parts[i + 1] : NULL;
    }
    fff_layer *layer = test_create_layer(&parts[0], isa);
    for (size_t i = 0; i < layer->part_count && l2_bytes > 0; i++) {
        layer->parts[i].l2_bytes = l2_bytes;
    }
    return layer;
}

/* Whether a layer can borrow all of it: rows of neighbouring columns. */
static bool can_borrow(const struct pass *p) {
    for (size_t i = 0; i < p->s.parts; i++) {
        if (p->s.desc[i].leaf_width > 0 && p->s.desc[i].leaf_weights.column_stride != 1) {
            return false;
        }
    }
    return true;
}

static void test_definition(void **unused) {
    (void)unused;
    static const size_t caches[] = {0, 256, 4096, 65536};
    uint64_t state = test_random("definition");
    for (size_t round = 0; round < (is_short() ? 2 : 40); round++) {
        for (int kind = is_short() ? FILL_KINDS - 3 : 0; kind < FILL_KINDS; kind++) {
            struct pass p;
            make_pass(&p, (enum fill)kind, &state);
            uint64_t begin = state;
            struct all_gradients expected = make_gradients(&p, (enum fill)kind, begin, false);
            struct all_gradients from_zero = make_gradients(&p, (enum fill)kind, begin, true);
            define_backward(&p.s.desc[0], p.s.tokens, p.s.input, p.nodes, p.logits, p.output_gradient, expected.input,
                            expected.parts, expected.output_bias);
            define_backward(&p.s.desc[0], p.s.tokens, p.s.input, p.nodes, p.logits, p.output_gradient, from_zero.input,
                            from_zero.parts, from_zero.output_bias);
            for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
                const fff_runner runner = {test_run_on_threads, NULL, 1 + random_below(&state, 7)};
                if (fff_isa_usable((fff_isa)isa) != FFF_OK) {
                    continue;
                }
                fff_layer *layer = create(&p, (fff_isa)isa, can_borrow(&p) && chance(&state, 2),
                                          caches[random_below(&state, sizeof caches / sizeof *caches)]);
                check_dense(&p, layer, 1 + random_below(&state, p.s.tokens), NULL, (enum fill)kind, begin, &expected);
                check_dense(&p, layer, p.s.tokens, &runner, (enum fill)kind, begin, &expected);
                check_listed(&p, layer, &runner, chance(&state, 2), &from_zero);
                fff_layer_destroy(layer);
            }
            free_gradients(&expected, p.s.parts);
            free_gradients(&from_zero, p.s.parts);
            free_pass(&p);
        }
    }
}

/* A layer of path sums, with inputs and all else at random but the nodes, which are the roots. */
static struct pass random_path_sums(size_t trees, size_t depth, size_t tokens, size_t in, size_t out, uint64_t *state) {
    size_t rows = trees * fff_nodes_per_tree(depth), entries = tokens * trees * (depth + 1);
    struct pass p = {.in = in, .out = out};
    p.s = (struct subject){.parts = 1, .path = trees * (depth + 1), .tokens = tokens};
    p.s.input = random_floats(&p.s, FILL_NORMAL, tokens * in, state);
    p.s.desc[0] = (fff_layer_desc){
        .struct_size = sizeof p.s.desc[0],
        .input_width = in,
        .output_width = out,
        .depth = depth,
        .trees = trees,
        .activation = FFF_ACTIVATION_RELU,
        .input_weights = {random_floats(&p.s, FILL_NORMAL, rows * in, state), in, 1},
        .output_weights = {random_floats(&p.s, FILL_NORMAL, rows * out, state), out, 1},
    };
    p.nodes = test_allocate(entries, sizeof(uint32_t));
    p.logits = random_floats(&p.s, FILL_NORMAL, entries, state);
    p.output_gradient = random_floats(&p.s, FILL_NORMAL, tokens * out, state);
    return p;
}

/* More tokens than go at once: a wide layer of depth 0, a token of which has many entries. */
static void test_chunks(void **unused) {
    (void)unused;
    enum { TREES = 3000, TOKENS = 150, IN = 33, OUT = 7 };
    uint64_t state = test_random("chunks");
    struct pass p = random_path_sums(TREES, 0, TOKENS, IN, OUT, &state);
    struct all_gradients expected = make_gradients(&p, FILL_NORMAL, 0, true);
    define_backward(&p.s.desc[0], TOKENS, p.s.input, p.nodes, p.logits, p.output_gradient, expected.input,
                    expected.parts, expected.output_bias);
    fff_layer *layer = create(&p, best_isa(), true, 0);
    const fff_runner runner = {test_run_on_threads, NULL, 3};
    check_listed(&p, layer, &runner, false, &expected);
    check_listed(&p, layer, NULL, false, &expected);
    fff_layer_destroy(layer);
    free_gradients(&expected, 1);
    free(p.nodes);
    free_subject(&p.s);
}

/* More tokens than half of L2 takes, whose rows' gradients come subtree by subtree, or a block of tokens at a time; on
 * even routes, and on routes where half of the tokens take the first way. */
static void test_subtrees(void **unused) {
    (void)unused;
    enum { IN = 37, OUT = 33, DEPTH = 6, TOKENS = 400, MOST_TREES = 3 };
    uint64_t state = test_random("subtrees");
    for (size_t round = 0; round < 2 * MOST_TREES; round++) {
        size_t trees = 1 + round / 2;
        bool skewed = round % 2 == 1;
        struct pass p = random_path_sums(trees, DEPTH, TOKENS, IN, OUT, &state);
        for (size_t i = 0; i < TOKENS * trees; i++) {
            size_t node = 0;
            bool first = skewed && chance(&state, 2);
            for (size_t level = 0; level <= DEPTH; level++) {
                p.nodes[i * (DEPTH + 1) + level] = (uint32_t)node;
                node = 2 * node + 1 + (first ? 0 : random_below(&state, 2));
            }
        }
        uint64_t begin = state;
        struct all_gradients expected = make_gradients(&p, FILL_NORMAL, begin, false);
        define_backward(&p.s.desc[0], TOKENS, p.s.input, p.nodes, p.logits, p.output_gradient, expected.input,
                        expected.parts, expected.output_bias);
        /* blocks of 16 tokens, the fewest, and of 59 */
        for (size_t l2_bytes = 4096; l2_bytes <= 32768; l2_bytes *= 8) {
            const fff_runner runner = {test_run_on_threads, NULL, 3};
            fff_layer *layer = create(&p, best_isa(), chance(&state, 2), l2_bytes);
            check_dense(&p, layer, TOKENS, NULL, FILL_NORMAL, begin, &expected);
            check_dense(&p, layer, TOKENS, &runner, FILL_NORMAL, begin, &expected);
            fff_layer_destroy(layer);
        }
        free_gradients(&expected, 1);
        free(p.nodes);
        free_subject(&p.s);
    }
}

/* ---- Against mathematics ---------------------------------------------------------------------- */

/* Loss = sum of weights * outputs, by the layer itself, along the paths that are given. */
static double loss_of(const fff_layer_desc *desc, size_t tokens, const float *input, const float *weights) {
    size_t size;
    fff_layer *layer = test_create_layer(desc, best_isa());
    float *output = test_allocate(tokens * desc->output_width, sizeof(float));
    assert_int_equal(fff_workspace_size(layer, tokens, 1, &size), FFF_OK);
    void *workspace = test_allocate(size, 1);
    assert_int_equal(
        fff_forward(layer, tokens, input, desc->input_width, output, desc->output_width, workspace, size, NULL),
        FFF_OK);
    double loss = 0;
    for (size_t i = 0; i < tokens * desc->output_width; i++) {
        loss += (double)output[i] * weights[i];
    }
    free(workspace);
    free(output);
    fff_layer_destroy(layer);
    return loss;
}

/* One number, moved both ways: its derivative, unless a route changes on the way or the function bends there. */
static void check_difference(const fff_layer_desc *desc, size_t tokens, const float *input, const float *weights,
                             float *number, double derivative, size_t *agree, size_t *all) {
    const float before = *number, step = 0x1p-7f;
    double at = loss_of(desc, tokens, input, weights);
    *number = before + step;
    double above = loss_of(desc, tokens, input, weights);
    *number = before - step;
    double below = loss_of(desc, tokens, input, weights);
    *number = before;
    double difference = (above - below) / (2.0 * step), bend = fabs(above - 2 * at + below) / step;
    *all += 1;
    *agree += fabs(difference - derivative) <= 0.02 * (fabs(derivative) + 1) + bend;
}

static void test_finite_differences(void **unused) {
    (void)unused;
    uint64_t state = test_random("finite differences");
    for (int activation = 0; activation < FFF_ACTIVATION_COUNT; activation++) {
        struct pass p;
        make_pass(&p, FILL_NORMAL, &state);
        const fff_layer_desc *desc = &p.s.desc[0];
        for (size_t i = 0; i < p.s.parts; i++) {
            p.s.desc[i].activation = (fff_activation)activation;
        }
        size_t tokens = p.s.tokens < 5 ? p.s.tokens : 5, agree = 0, all = 0;
        float *output = test_allocate(p.out, sizeof(float));
        for (size_t t = 0; t < tokens; t++) { /* those that make_pass() has bent, too */
            define_token(desc, p.s.input + t * p.in, p.nodes + t * p.s.path, p.logits + t * p.s.path, output);
        }
        free(output);
        struct all_gradients g = make_gradients(&p, FILL_NORMAL, 0, true);
        define_backward(desc, tokens, p.s.input, p.nodes, p.logits, p.output_gradient, g.input, g.parts, g.output_bias);
        for (size_t i = 0; i < 40; i++) {
            size_t at = random_below(&state, tokens * p.in), part = random_below(&state, p.s.parts);
            check_difference(desc, tokens, p.s.input, p.output_gradient, &p.s.input[at], g.input[at], &agree, &all);
            at = random_below(&state, neurons_of(&p.s.desc[part]) * p.out);
            float *weights = (float *)(uintptr_t)p.s.desc[part].output_weights.data;
            check_difference(desc, tokens, p.s.input, p.output_gradient, &weights[at], g.parts[part].output_weights[at],
                             &agree, &all);
        }
        if (agree * 100 < all * 95) { /* a few inputs cross a threshold on the way */
            fail_msg("activation %d: %zu of %zu derivatives agree", activation, agree, all);
        }
        free_gradients(&g, p.s.parts);
        free_pass(&p);
    }
}

/* ---- Bad input -------------------------------------------------------------------------------- */

enum { BAD_IN = 8, BAD_OUT = 5, BAD_DEPTH = 2, BAD_NODES = 7, BAD_PATH = 3, BAD_TOKENS = 4 };

/* A small path sum and a call that is right, for tests to spoil. */
struct call {
    float input_weights[BAD_NODES * BAD_IN], output_weights[BAD_NODES * BAD_OUT], biases[BAD_NODES];
    float input[BAD_TOKENS * BAD_IN], output_gradient[BAD_TOKENS * BAD_OUT], logits[BAD_TOKENS * BAD_PATH];
    float input_gradient[BAD_TOKENS * BAD_IN], into[BAD_NODES * BAD_IN], out[BAD_NODES * BAD_OUT], bias[BAD_NODES];
    uint32_t nodes[BAD_TOKENS * BAD_PATH], rows[BAD_NODES];
    fff_layer *layer;
    fff_gradients gradients;
    unsigned char *workspace;
    size_t batch, size;
};

static struct call *make_call(bool borrow) {
    struct call *c = test_allocate(1, sizeof *c);
    uint64_t state = test_random("bad input");
    fill_floats(FILL_NORMAL, c->input_weights, BAD_NODES * BAD_IN, &state);
    fill_floats(FILL_NORMAL, c->output_weights, BAD_NODES * BAD_OUT, &state);
    fill_floats(FILL_NORMAL, c->input, BAD_TOKENS * BAD_IN, &state);
    fill_floats(FILL_NORMAL, c->output_gradient, BAD_TOKENS * BAD_OUT, &state);
    const fff_layer_desc desc = {
        .struct_size = sizeof desc,
        .input_width = BAD_IN,
        .output_width = BAD_OUT,
        .depth = BAD_DEPTH,
        .trees = 1,
        .input_weights = {c->input_weights, BAD_IN, 1},
        .output_weights = {c->output_weights, BAD_OUT, 1},
        .biases = c->biases,
        .borrow = borrow,
    };
    c->layer = test_create_layer(&desc, best_isa());
    c->batch = BAD_TOKENS;
    assert_int_equal(fff_backward_workspace_size(c->layer, BAD_TOKENS, 1, &c->size), FFF_OK);
    c->workspace = test_allocate(c->size, 1);
    assert_int_equal(fff_route(c->layer, BAD_TOKENS, c->input, BAD_IN, c->nodes, BAD_PATH, c->logits, BAD_PATH,
                               c->workspace, c->size, NULL),
                     FFF_OK);
    for (uint32_t i = 0; i < BAD_NODES; i++) {
        c->rows[i] = i;
    }
    c->gradients = (fff_gradients){
        .struct_size = sizeof c->gradients,
        .input_weights = {c->into, BAD_IN},
        .biases = c->bias,
        .output_weights = {c->out, BAD_OUT},
    };
    return c;
}

static fff_status run_for(const struct call *c, const fff_gradients *gradients) {
    return fff_backward(c->layer, c->batch, c->input, BAD_IN, c->nodes, BAD_PATH, c->logits, BAD_PATH,
                        c->output_gradient, BAD_OUT, (float *)(uintptr_t)c->input_gradient, BAD_IN, gradients,
                        c->workspace, c->size, NULL);
}
static fff_status run_call(const struct call *c) {
    return run_for(c, &c->gradients);
}

static void free_call(struct call *c) {
    fff_layer_destroy(c->layer);
    free(c->workspace);
    free(c);
}

/* The call fails so, and nothing that it was given has changed. */
static void expect(struct call *c, fff_status expected) {
    struct call *before = test_allocate(1, sizeof *before);
    *before = *c;
    assert_int_equal(run_call(c), expected);
    assert_memory_equal(before, c, sizeof *c);
    free(before);
}

static void test_bad_gradients(void **unused) {
    (void)unused;
    struct call *c = make_call(true);
    assert_int_equal(run_call(c), FFF_OK);
    const fff_gradients right = c->gradients;
    c->gradients.struct_size--;
    expect(c, FFF_ERROR_STRUCT_SIZE);
    c->gradients.struct_size = SIZE_MAX;
    expect(c, FFF_ERROR_STRUCT_SIZE);
    c->gradients = right;
    c->gradients.input_weights.stride = BAD_IN - 1;
    expect(c, FFF_ERROR_STRIDE);
    c->gradients.input_weights.stride = SIZE_MAX / 4;
    expect(c, FFF_ERROR_OVERFLOW);
    c->gradients = right;
    c->gradients.output_weights.data = (float *)(void *)((char *)c->out + 1);
    expect(c, FFF_ERROR_ALIGNMENT);
    float *const aliases[] = {c->input,
                              c->output_gradient,
                              c->logits,
                              c->input_gradient,
                              c->into,
                              c->input_weights,
                              c->output_weights,
                              c->biases,
                              c->input + BAD_TOKENS * BAD_IN - 1};
    for (size_t i = 0; i < sizeof aliases / sizeof aliases[0]; i++) {
        c->gradients = right;
        c->gradients.output_weights.data = aliases[i];
        expect(c, FFF_ERROR_OVERLAP);
        c->gradients = right;
        c->gradients.biases = aliases[i];
        expect(c, FFF_ERROR_OVERLAP);
    }
    c->gradients = right;
    c->gradients.biases = (float *)(void *)(c->workspace + c->size / 4 * 4 - 4);
    expect(c, FFF_ERROR_OVERLAP);
    c->gradients = right;
    c->gradients.leaf_output_biases = (fff_gradient_rows){c->out, BAD_OUT};
    expect(c, FFF_ERROR_OPTION); /* a path sum has none */
    c->gradients = right;
    const fff_gradients another = right;
    c->gradients.next = &another;
    expect(c, FFF_ERROR_PARTS);
    c->gradients = right;
    c->gradients.row_count = 2;
    expect(c, FFF_ERROR_NULL_POINTER);
    free_call(c);
}

/* A program of a later version may have a longer structure, whose new fields it does not set. */
static void test_later_gradients(void **unused) {
    (void)unused;
    struct call *c = make_call(true);
    union {
        fff_gradients known;
        unsigned char bytes[4097];
    } later = {c->gradients};
    for (size_t size = sizeof later.known; size <= 4097; size += size == 4096 || size == 4090 ? 1 : 10) {
        later.known.struct_size = size;
        fff_status expected = size <= 4096 ? FFF_OK : FFF_ERROR_STRUCT_SIZE;
        assert_int_equal(run_for(c, &later.known), expected);
        for (size_t at = sizeof later.known; at < size; at += 1 + size / 8) {
            later.bytes[at] = 1;
            assert_int_equal(run_for(c, &later.known), FFF_ERROR_STRUCT_SIZE);
            later.bytes[at] = 0;
        }
    }
    free_call(c);
}

static void test_bad_lists(void **unused) {
    (void)unused;
    struct call *c = make_call(false);
    c->gradients.rows = c->rows;
    c->gradients.row_count = BAD_NODES;
    assert_int_equal(run_call(c), FFF_OK);
    c->rows[3] = 2;
    expect(c, FFF_ERROR_NODE); /* twice */
    c->rows[3] = 3;
    c->rows[BAD_NODES - 1] = BAD_NODES;
    expect(c, FFF_ERROR_NODE);
    c->rows[BAD_NODES - 1] = BAD_NODES - 1;
    c->gradients.rows = c->rows + 1; /* lacks the root */
    c->gradients.row_count = BAD_NODES - 1;
    expect(c, FFF_ERROR_NODE);
    c->bias[0] = 0.0f; /* which is the root, and the list */
    c->gradients.rows = (const uint32_t *)(const void *)c->bias;
    c->gradients.row_count = 1;
    expect(c, FFF_ERROR_OVERLAP);
    free_call(c);
}

static void test_bad_calls(void **unused) {
    (void)unused;
    struct call *c = make_call(false);
    c->nodes[1] = BAD_NODES;
    expect(c, FFF_ERROR_NODE);
    c->nodes[1] = 1;
    c->size--;
    expect(c, FFF_ERROR_WORKSPACE);
    c->size++;
    unsigned char *workspace = c->workspace;
    c->workspace = NULL;
    expect(c, FFF_ERROR_NULL_POINTER);
    c->workspace = (unsigned char *)c->input;
    expect(c, FFF_ERROR_OVERLAP);
    c->workspace = workspace;
    size_t count = 77;
    assert_int_equal(fff_visited_rows(c->layer, 0, BAD_TOKENS, c->nodes, BAD_PATH, c->rows, BAD_NODES - 1, &count,
                                      c->workspace, c->size),
                     FFF_ERROR_WORKSPACE);
    assert_int_equal(fff_visited_rows(c->layer, 1, BAD_TOKENS, c->nodes, BAD_PATH, c->rows, BAD_NODES, &count,
                                      c->workspace, c->size),
                     FFF_ERROR_PARTS);
    assert_int_equal(count, 77);
    assert_int_equal(fff_backward(NULL, 1, c->input, BAD_IN, c->nodes, BAD_PATH, c->logits, BAD_PATH,
                                  c->output_gradient, BAD_OUT, NULL, 0, NULL, c->workspace, c->size, NULL),
                     FFF_ERROR_NULL_POINTER);
    free_call(c);
}

/* Nothing that a layer borrows is written to: not as a gradient, and not as workspace, by a call that is refused. */
static void test_borrowed(void **unused) {
    (void)unused;
    enum { IN = 3, OUT = 2, LEAF = 2, NEURONS = 2 * LEAF, PATH = 1 + LEAF, LISTS = 7, LENGTH = NEURONS * IN };
    float lists[LISTS][LENGTH] = {{0}}, input[IN] = {1, 2, 3}, logits[PATH] = {0}, output_gradient[OUT] = {1, 2};
    const uint32_t nodes[PATH] = {0, 1, 2};
    for (size_t covered = 0; covered < LISTS; covered++) {
        const float *at[LISTS];
        unsigned char *memory = test_allocate(1 << 16, 1), *before = test_allocate(1 << 16, 1);
        for (size_t i = 0; i < LISTS; i++) {
            at[i] = i == covered ? (const float *)(const void *)(memory + 1024) : lists[i];
        }
        const fff_layer_desc desc = {
            .struct_size = sizeof desc,
            .input_width = IN,
            .output_width = OUT,
            .depth = 1,
            .trees = 1,
            .leaf_width = LEAF,
            .input_weights = {at[0], IN, 1},
            .biases = at[1],
            .leaf_weights = {at[2], IN, 1},
            .leaf_biases = at[3],
            .output_weights = {at[4], OUT, 1},
            .leaf_output_biases = {at[5], OUT, 1},
            .output_bias = at[6],
            .borrow = 1,
        };
        fff_layer *layer = test_create_layer(&desc, best_isa());
        size_t size;
        assert_int_equal(fff_backward_workspace_size(layer, 1, 1, &size), FFF_OK);
        assert_in_range(size, 2048, 1 << 16);
        fff_gradients gradients = {.struct_size = sizeof gradients};
        unsigned char *workspace = memory;
        for (int attempt = 0; attempt < 3; attempt++) {
            memcpy(before, memory, 1 << 16);
            assert_int_equal(fff_backward(layer, 1, input, IN, nodes, PATH, logits, PATH, output_gradient, OUT, NULL, 0,
                                          attempt == 1 ? NULL : &gradients, workspace, size, NULL),
                             FFF_ERROR_OVERLAP);
            assert_memory_equal(memory, before, 1 << 16);
            if (attempt == 1) {
                workspace = test_allocate(size, 1);
                gradients.output_bias = (float *)(void *)(memory + 1024);
            }
        }
        free(workspace);
        free(memory);
        free(before);
        fff_layer_destroy(layer);
    }
}

/* Of no tokens, listed rows are zeros, and all else is left as it is. */
static void test_no_tokens(void **unused) {
    (void)unused;
    struct call *c = make_call(false);
    c->batch = 0;
    c->out[0] = c->out[BAD_OUT] = c->bias[0] = 7.0f;
    assert_int_equal(run_call(c), FFF_OK);
    assert_true(c->out[0] == 7.0f && c->bias[0] == 7.0f);
    c->gradients.rows = c->rows;
    c->gradients.row_count = 1;
    assert_int_equal(run_call(c), FFF_OK);
    assert_true(c->out[0] == 0.0f && c->bias[0] == 0.0f && c->out[BAD_OUT] == 7.0f);
    c->gradients.biases = c->out;
    expect(c, FFF_ERROR_OVERLAP);
    c->gradients.biases = (float *)(void *)c->rows;
    expect(c, FFF_ERROR_OVERLAP);
    free_call(c);
}

/* Only float32 rows have gradients. */
static void test_narrow(void **unused) {
    (void)unused;
    struct call *c = make_call(false);
    fff_layer *layer = c->layer;
    const fff_layer_desc desc = {
        .struct_size = sizeof desc,
        .input_width = BAD_IN,
        .output_width = BAD_OUT,
        .depth = BAD_DEPTH,
        .trees = 1,
        .input_weights = {c->input_weights, BAD_IN, 1},
        .output_weights = {c->output_weights, BAD_OUT, 1},
        .store_output = FFF_CHOOSE_BF16,
    };
    c->layer = test_create_layer(&desc, best_isa());
    expect(c, FFF_ERROR_OPTION);
    fff_layer_destroy(layer);
    free_call(c);
}

/* A runner that leaves out a task. */
static void leave_one_out(void *context, size_t count, void (*task)(void *argument, size_t index), void *argument) {
    (void)context;
    for (size_t i = 1; i < count; i++) {
        task(argument, i);
    }
}

static void test_bad_runner(void **unused) {
    (void)unused;
    uint64_t state = test_random("bad runner");
    enum { TOKENS = 128 }; /* enough for two tasks, of a single neuron each */
    struct pass p;
    do {
        make_pass(&p, FILL_NORMAL, &state);
        if (p.s.tokens < TOKENS) {
            free_pass(&p);
        }
    } while (p.s.tokens < TOKENS);
    const fff_runner runner = {leave_one_out, NULL, 2};
    fff_layer *layer = create(&p, best_isa(), false, 0);
    float *input_gradient = test_allocate(p.s.tokens * p.in, sizeof(float));
    assert_int_equal(run(&p, layer, 0, p.s.tokens, input_gradient, NULL, &runner), FFF_ERROR_RUNNER);
    free(input_gradient);
    fff_layer_destroy(layer);
    free_pass(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_definition),         cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_finite_differences), cmocka_unit_test(test_bad_gradients),
        cmocka_unit_test(test_later_gradients),    cmocka_unit_test(test_bad_lists),
        cmocka_unit_test(test_bad_calls),          cmocka_unit_test(test_borrowed),
        cmocka_unit_test(test_no_tokens),          cmocka_unit_test(test_narrow),
        cmocka_unit_test(test_bad_runner),         cmocka_unit_test(test_subtrees),
    };
    test_start("test_backward");
    return cmocka_run_group_tests_name("backward", tests, NULL, NULL);
}
