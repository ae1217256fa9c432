/* The layer through its public interface: equal to its definition, whatever the way of computing it. */
#include "tests/definition.h"
#include "tests/support.h"

#include <fenv.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

/* ---- A layer, its input, and what the definition says of them -------------------------------- */

struct subject {
    fff_layer_desc desc;
    float *input_weights, *biases, *output_weights; /* what desc refers to */
    size_t batch, path;
    float *input; /* batch x input_width */
    uint32_t *nodes;
    float *logits, *output; /* by the definition */
};

struct shape {
    size_t input_width, output_width, depth, trees, batch;
};

static size_t rows_of(const fff_layer_desc *desc) {
    return desc->trees * fff_nodes_per_tree(desc->depth);
}

static void define_all(struct subject *s) {
    for (size_t t = 0; t < s->batch; t++) {
        define_token(&s->desc, s->input + t * s->desc.input_width, s->nodes + t * s->path, s->logits + t * s->path,
                     s->output + t * s->desc.output_width);
    }
}

/* Random weights in a random orientation, biases or none, any activation and routing rule. */
static struct subject make_subject(struct shape shape, enum fill kind, uint64_t *state) {
    size_t rows = shape.trees * fff_nodes_per_tree(shape.depth);
    bool output_major = random_below(state, 2) != 0, input_transposed = random_below(state, 4) == 0;
    struct subject s = {
        .input_weights = test_allocate(rows * shape.input_width, sizeof(float)),
        .biases = random_below(state, 3) == 0 ? NULL : test_allocate(rows, sizeof(float)),
        .output_weights = test_allocate(rows * shape.output_width, sizeof(float)),
        .batch = shape.batch,
        .path = shape.trees * (shape.depth + 1),
        .input = test_allocate(shape.batch * shape.input_width, sizeof(float)),
    };
    s.nodes = test_allocate(s.batch * s.path, sizeof(uint32_t));
    s.logits = test_allocate(s.batch * s.path, sizeof(float));
    s.output = test_allocate(s.batch * shape.output_width, sizeof(float));
    s.desc = (fff_layer_desc){
        .struct_size = sizeof(fff_layer_desc),
        .input_width = shape.input_width,
        .output_width = shape.output_width,
        .depth = shape.depth,
        .trees = shape.trees,
        .activation = (fff_activation)random_below(state, FFF_ACTIVATION_COUNT),
        .routing = (fff_routing)random_below(state, 2),
        .input_weights = {s.input_weights, input_transposed ? 1 : shape.input_width, input_transposed ? rows : 1},
        .biases = s.biases,
        .output_weights = {s.output_weights, output_major ? 1 : shape.output_width, output_major ? rows : 1},
    };
    fill_floats(kind, s.input_weights, rows * shape.input_width, state);
    fill_floats(kind, s.output_weights, rows * shape.output_width, state);
    if (s.biases != NULL) {
        fill_floats(kind, s.biases, rows, state);
    }
    fill_floats(kind, s.input, s.batch * shape.input_width, state);
    if (s.batch > 2) { /* a token of zeros ties at every node without bias */
        memset(s.input + shape.input_width, 0, shape.input_width * sizeof(float));
    }
    define_all(&s);
    return s;
}

static void free_subject(struct subject *s) {
    free(s->input_weights);
    free(s->biases);
    free(s->output_weights);
    free(s->input);
    free(s->nodes);
    free(s->logits);
    free(s->output);
}

/* A workspace that ends at an unmapped page and is as large as it must be, not a byte more. */
static struct guarded workspace_for(const fff_layer *layer, size_t batch, size_t concurrency) {
    size_t size = 0;
    assert_int_equal(fff_workspace_size(layer, batch, concurrency, &size), FFF_OK);
    return guarded_allocate(size);
}

/* Forward, route and accumulate of `batch` tokens from `first` on, with strides and canaries, against
 * the definition. */
static void check_range(const struct subject *s, const fff_layer *layer, size_t first, size_t batch,
                        const fff_runner *runner, uint64_t *state) {
    size_t in = s->desc.input_width, out = s->desc.output_width, path = s->path;
    size_t in_stride = in + random_below(state, 3), out_stride = out + random_below(state, 3);
    size_t node_stride = path + random_below(state, 3), logit_stride = path + random_below(state, 3);
    struct guarded workspace = workspace_for(layer, batch, runner != NULL ? runner->concurrency : 1);
    struct guarded input = guarded_allocate(((batch - 1) * in_stride + in) * sizeof(float));
    struct guarded output = guarded_allocate(((batch - 1) * out_stride + out) * sizeof(float));
    struct guarded again = guarded_allocate(((batch - 1) * out_stride + out) * sizeof(float));
    struct guarded nodes = guarded_allocate(((batch - 1) * node_stride + path) * sizeof(uint32_t));
    struct guarded logits = guarded_allocate(((batch - 1) * logit_stride + path) * sizeof(float));
    for (size_t t = 0; t < batch; t++) {
        memcpy((float *)input.data + t * in_stride, s->input + (first + t) * in, in * sizeof(float));
    }
    memset(output.data, 0x5a, output.size);
    memset(again.data, 0x5a, again.size);
    assert_int_equal(fff_forward(layer, batch, input.data, in_stride, output.data, out_stride, workspace.data,
                                 workspace.size, runner),
                     FFF_OK);
    assert_int_equal(fff_route(layer, batch, input.data, in_stride, nodes.data, node_stride, logits.data, logit_stride,
                               workspace.data, workspace.size, runner),
                     FFF_OK);
    assert_int_equal(fff_accumulate(layer, batch, nodes.data, node_stride, logits.data, logit_stride, again.data,
                                    out_stride, workspace.data, workspace.size, runner),
                     FFF_OK);
    for (size_t t = 0; t < batch; t++) {
        float *row = (float *)output.data + t * out_stride;
        assert_same_floats(row, s->output + (first + t) * out, out, "forward");
        assert_same_floats((float *)again.data + t * out_stride, row, out, "accumulate after route");
        assert_same_floats((float *)logits.data + t * logit_stride, s->logits + (first + t) * path, path, "logits");
        assert_memory_equal((uint32_t *)nodes.data + t * node_stride, s->nodes + (first + t) * path,
                            path * sizeof(uint32_t));
        for (size_t gap = out; t + 1 < batch && gap < out_stride; gap++) {
            uint32_t bits;
            memcpy(&bits, row + gap, sizeof bits);
            assert_int_equal(bits, 0x5a5a5a5a); /* between the rows nothing is written */
        }
    }
    guarded_free(&logits);
    guarded_free(&nodes);
    guarded_free(&again);
    guarded_free(&output);
    guarded_free(&input);
    guarded_free(&workspace);
}

static void for_usable_isas(const struct subject *s,
                            void (*check)(const struct subject *, const fff_layer *, uint64_t *), uint64_t *state) {
    for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
        if (fff_isa_usable((fff_isa)isa) == FFF_OK) {
            fff_layer *layer = test_create_layer(&s->desc, (fff_isa)isa);
            check(s, layer, state);
            fff_layer_destroy(layer);
        }
    }
}

/* ---- Tests ----------------------------------------------------------------------------------- */

static const struct shape SHAPES[] = {
    {1, 1, 0, 1, 5},      {1, 3, 5, 2, 40},     {17, 9, 3, 1, 33},    {31, 64, 2, 5, 20},  {32, 32, 4, 1, 64},
    {33, 1, 6, 2, 70},    {40, 40, 0, 64, 19},  {96, 100, 7, 1, 130}, {100, 31, 1, 3, 50}, {130, 77, 3, 3, 29},
    {768, 768, 4, 1, 24}, {200, 200, 2, 16, 9}, {5, 5, 9, 1, 300},    {64, 48, 5, 4, 1},   {512, 512, 3, 1, 10},
};
enum { SHAPE_COUNT = sizeof SHAPES / sizeof *SHAPES };

/* For emulators, of what is tried many times each: one in `step` of sizes and counts, from a random one on. */
static size_t short_step(size_t step) {
    return getenv("FFF_TEST_SHORT") != NULL ? step : 1;
}

static void check_splits(const struct subject *s, const fff_layer *layer, uint64_t *state) {
    size_t step = short_step(4);
    check_range(s, layer, 0, s->batch, NULL, state);
    for (size_t piece = 1 + random_below(state, step); piece < 10 && piece < s->batch; piece += step) {
        for (size_t first = 0; first < s->batch; first += piece) {
            check_range(s, layer, first, s->batch - first < piece ? s->batch - first : piece, NULL, state);
        }
    }
    for (size_t first = 0; first < s->batch;) { /* and pieces of random sizes */
        size_t piece = 1 + random_below(state, s->batch - first);
        check_range(s, layer, first, piece, NULL, state);
        first += piece;
    }
}

static void test_definition_any_split(void **unused) {
    (void)unused;
    uint64_t state = test_random("definition");
    for (size_t i = 0; i < SHAPE_COUNT; i++) {
        for (int kind = 0; kind < FILL_KINDS; kind++) {
            struct shape shape = SHAPES[i];
            if (kind != FILL_NORMAL && (i + (size_t)kind) % short_step(2) != 0) {
                continue;
            }
            shape.batch = kind == FILL_NORMAL ? shape.batch : 1 + shape.batch / 4;
            struct subject s = make_subject(shape, (enum fill)kind, &state);
            for_usable_isas(&s, check_splits, &state);
            free_subject(&s);
        }
    }
}

static void check_whole_and_single(const struct subject *s, const fff_layer *layer, uint64_t *state) {
    check_range(s, layer, 0, s->batch, NULL, state);
    check_range(s, layer, s->batch - 1, 1, NULL, state);
}

/* Rows that share cache lines, where behind a row's weights lie the next ones', NaN or infinity among them. */
static void test_narrow_rows(void **unused) {
    (void)unused;
    uint64_t state = test_random("narrow");
    for (size_t in = 1; in <= 18; in++) {
        for (size_t out = 1; out <= 18; out++) {
            struct shape shape = {in, out, random_below(&state, 4), 1 + random_below(&state, 4), 13};
            struct subject s = make_subject(
                shape, (in + out) % 2 == 0 ? FILL_NORMAL : (enum fill)random_below(&state, FILL_KINDS), &state);
            for_usable_isas(&s, check_whole_and_single, &state);
            free_subject(&s);
        }
    }
}

static void check_threads(const struct subject *s, const fff_layer *layer, uint64_t *state) {
    size_t step = short_step(3);
    for (size_t threads = 1 + random_below(state, step); threads <= 8; threads += step) {
        fff_runner runner = {test_run_on_threads, NULL, threads};
        check_range(s, layer, 0, s->batch, &runner, state);
    }
}

static void test_any_thread_count(void **unused) {
    (void)unused;
    uint64_t state = test_random("threads");
    for (size_t i = 0; i < SHAPE_COUNT; i++) {
        struct subject s = make_subject(SHAPES[i], FILL_NORMAL, &state);
        for_usable_isas(&s, check_threads, &state);
        free_subject(&s);
    }
}

/* Tokens in another order give the same results in that order. */
static void test_any_token_order(void **unused) {
    (void)unused;
    uint64_t state = test_random("order");
    struct subject s = make_subject((struct shape){60, 45, 6, 2, 150}, FILL_NORMAL, &state);
    size_t in = s.desc.input_width, out = s.desc.output_width;
    float *shuffled = test_allocate(in, sizeof(float)), *result = test_allocate(out, sizeof(float));
    for (size_t i = s.batch - 1; i > 0; i--) {
        size_t j = random_below(&state, i + 1);
        memcpy(shuffled, s.input + i * in, in * sizeof(float));
        memcpy(s.input + i * in, s.input + j * in, in * sizeof(float));
        memcpy(s.input + j * in, shuffled, in * sizeof(float));
        memcpy(result, s.output + i * out, out * sizeof(float));
        memcpy(s.output + i * out, s.output + j * out, out * sizeof(float));
        memcpy(s.output + j * out, result, out * sizeof(float));
        for (size_t e = 0; e < s.path; e++) {
            uint32_t node = s.nodes[i * s.path + e];
            float logit = s.logits[i * s.path + e];
            s.nodes[i * s.path + e] = s.nodes[j * s.path + e];
            s.logits[i * s.path + e] = s.logits[j * s.path + e];
            s.nodes[j * s.path + e] = node;
            s.logits[j * s.path + e] = logit;
        }
    }
    for_usable_isas(&s, check_splits, &state);
    free(shuffled);
    free(result);
    free_subject(&s);
}

/* K x 0 is a dense layer: a plain loop over all neurons, in the documented order. */
static void test_depth_0_is_dense(void **unused) {
    (void)unused;
    uint64_t state = test_random("dense");
    struct subject s = make_subject((struct shape){50, 30, 0, 200, 8}, FILL_NORMAL, &state);
    for (size_t t = 0; t < s.batch; t++) {
        for (size_t j = 0; j < s.desc.output_width; j++) {
            float sum = 0;
            for (size_t neuron = 0; neuron < s.desc.trees; neuron++) {
                float activation;
                assert_int_equal(fff_activate(FFF_ISA_GENERIC, s.desc.activation, FFF_SLEEF_RECORDED, 1,
                                              &s.logits[t * s.path + neuron], &activation),
                                 FFF_OK);
                sum = __builtin_fmaf(activation,
                                     s.output_weights[neuron * s.desc.output_weights.node_stride +
                                                      j * s.desc.output_weights.column_stride],
                                     sum);
            }
            s.output[t * s.desc.output_width + j] = sum;
        }
    }
    for_usable_isas(&s, check_splits, &state);
    free_subject(&s);
}

/* The heap index of a node's mirror image. */
static size_t mirrored(size_t node) {
    size_t first_of_level = 0;
    while (2 * first_of_level + 1 <= node) {
        first_of_level = 2 * first_of_level + 1;
    }
    return first_of_level + (first_of_level - (node - first_of_level));
}

/* Permuting siblings as rows permutes the result: with every node's weights negated and every pair of
 * siblings exchanged, each token takes the mirrored path with negated logits, and with the identity as
 * activation and negated output weights, the output keeps its bits. */
static void test_siblings_permuted(void **unused) {
    (void)unused;
    uint64_t state = test_random("siblings");
    struct subject s = make_subject((struct shape){45, 37, 6, 1, 100}, FILL_NORMAL, &state);
    s.desc.activation = FFF_ACTIVATION_IDENTITY;
    /* The zero token that make_subject() plants ties where there is no bias. */
    fill_floats(FILL_NORMAL, s.input + s.desc.input_width, s.desc.input_width, &state);
    define_all(&s);
    size_t rows = rows_of(&s.desc);
    struct subject m = s; /* mirrored; its own weights and results */
    m.input_weights = test_allocate(rows * s.desc.input_width, sizeof(float));
    m.output_weights = test_allocate(rows * s.desc.output_width, sizeof(float));
    m.biases = s.biases != NULL ? test_allocate(rows, sizeof(float)) : NULL;
    m.nodes = test_allocate(s.batch * s.path, sizeof(uint32_t));
    m.logits = test_allocate(s.batch * s.path, sizeof(float));
    m.output = test_allocate(s.batch * s.desc.output_width, sizeof(float));
    for (size_t row = 0; row < rows; row++) {
        size_t to = mirrored(row);
        for (size_t i = 0; i < s.desc.input_width; i++) {
            m.input_weights[to * s.desc.input_weights.node_stride + i * s.desc.input_weights.column_stride] =
                -s.input_weights[row * s.desc.input_weights.node_stride + i * s.desc.input_weights.column_stride];
        }
        for (size_t j = 0; j < s.desc.output_width; j++) {
            m.output_weights[to * s.desc.output_weights.node_stride + j * s.desc.output_weights.column_stride] =
                -s.output_weights[row * s.desc.output_weights.node_stride + j * s.desc.output_weights.column_stride];
        }
        if (m.biases != NULL) {
            m.biases[to] = -s.biases[row];
        }
    }
    for (size_t i = 0; i < s.batch * s.path; i++) {
        m.nodes[i] = (uint32_t)mirrored(s.nodes[i]);
        m.logits[i] = -s.logits[i];
    }
    memcpy(m.output, s.output, s.batch * s.desc.output_width * sizeof(float));
    m.desc.input_weights.data = m.input_weights;
    m.desc.output_weights.data = m.output_weights;
    m.desc.biases = m.biases;
    for_usable_isas(&m, check_splits, &state);
    free(m.input_weights);
    free(m.output_weights);
    free(m.biases);
    free(m.nodes);
    free(m.logits);
    free(m.output);
    free_subject(&s);
}

/* A zero input without biases: every logit is exactly 0, and the rule alone decides. */
static void test_ties_follow_the_rule(void **unused) {
    (void)unused;
    uint64_t state = test_random("ties");
    for (int rule = 0; rule < 2; rule++) {
        struct subject s = make_subject((struct shape){20, 8, 4, 2, 1}, FILL_NORMAL, &state);
        s.desc.routing = (fff_routing)rule;
        s.desc.biases = NULL;
        memset(s.input, 0, s.desc.input_width * sizeof(float));
        define_all(&s);
        /* all left ends at the first node of the last level, all right at the last */
        assert_int_equal(s.nodes[s.path - 1], rule == FFF_ROUTING_GREATER ? 15 : 30);
        for_usable_isas(&s, check_splits, &state);
        free_subject(&s);
    }
}

static void test_deep_tree(void **unused) {
    (void)unused;
    uint64_t state = test_random("deep");
    struct subject s = make_subject((struct shape){7, 5, short_step(2) == 1 ? 20 : 16, 1, 200}, FILL_NORMAL, &state);
    for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
        if (fff_isa_usable((fff_isa)isa) == FFF_OK) {
            fff_layer *layer = test_create_layer(&s.desc, (fff_isa)isa);
            check_range(&s, layer, 0, s.batch, NULL, &state);
            check_range(&s, layer, 0, 1, NULL, &state);
            fff_layer_destroy(layer);
        }
    }
    free_subject(&s);
}

/* Batches larger than a block of the workspace. */
static void test_large_batch(void **unused) {
    (void)unused;
    uint64_t state = test_random("large batch");
    struct subject s = make_subject((struct shape){3, 2, 3, 1, 2500}, FILL_NORMAL, &state);
    for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
        if (fff_isa_usable((fff_isa)isa) == FFF_OK) {
            fff_layer *layer = test_create_layer(&s.desc, (fff_isa)isa);
            fff_runner runner = {test_run_on_threads, NULL, 2};
            check_range(&s, layer, 0, s.batch, NULL, &state);
            check_range(&s, layer, 0, s.batch, &runner, &state);
            fff_layer_destroy(layer);
        }
    }
    free_subject(&s);
}

/* What fff.h says of a layer's memory, in bytes. */
static size_t documented_memory(size_t input_width, size_t output_width, size_t rows) {
    size_t row = 2, both = input_width + output_width;
    if (both <= 16) {
        while (row < both) {
            row *= 2;
        }
    } else {
        row = (input_width + 15) / 16 * 16 + (output_width + 15) / 16 * 16;
        row += row % 1024 == 0 ? 32 : 0;
    }
    return rows * (row + 1) * sizeof(float);
}

static void test_memory(void **unused) {
    (void)unused;
    enum { LARGE = 2 << 20, MOST_ROWS = 4000, MOST_WIDTH = 1100 };
    uint64_t state = test_random("memory");
    float *weights = test_allocate((size_t)MOST_ROWS * MOST_WIDTH, sizeof(float));
    for (int i = 0; i < 3000; i += (int)short_step(11)) { /* a step that all kinds below are met with */
        size_t widest = i % 3 == 0 ? 16 : i % 3 == 1 ? 100 : MOST_WIDTH;
        size_t in = 1 + random_below(&state, widest), out = 1 + random_below(&state, widest);
        if (i % 7 == 0) { /* a multiple of a page */
            in = 512;
            out = 512 - random_below(&state, 3) * 16;
        }
        fff_layer_desc desc = {
            .struct_size = sizeof desc,
            .input_width = in,
            .output_width = out,
            .depth = random_below(&state, 4),
            .trees = 1 + random_below(&state, i % 100 == 0 ? MOST_ROWS / 15 : 10),
            .input_weights = {weights, in, 1},
            .output_weights = {weights, out, 1},
        };
        fff_layer *layer = test_create_layer(&desc, FFF_ISA_GENERIC);
        size_t said = documented_memory(in, out, rows_of(&desc)), memory = fff_layer_memory(layer);
        if (said + 1024 < LARGE) {
            assert_uint_in_range(memory, said, said + 1023);
        } else {
            assert_uint_in_range(memory, said, said + 1023 + LARGE);
            assert_true(memory % LARGE < 1024);
        }
        fff_layer_destroy(layer);
    }
    free(weights);
}

/* A deep tree of narrow rows: not 64 floats for 2. */
static void test_memory_of_narrow_rows(void **unused) {
    (void)unused;
    const size_t depth = getenv("FFF_TEST_SHORT") != NULL ? 16 : 22, rows = fff_nodes_per_tree(depth);
    float *weights = test_allocate(rows, sizeof(float)), input[3] = {1, -1, 0}, output[3];
    fff_layer_desc desc = {
        .struct_size = sizeof desc,
        .input_width = 1,
        .output_width = 1,
        .depth = depth,
        .trees = 1,
        .activation = FFF_ACTIVATION_IDENTITY,
        .input_weights = {weights, 1, 1},
        .output_weights = {weights, 1, 1},
    };
    for (size_t i = 0; i < rows; i++) {
        weights[i] = 1;
    }
    for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
        if (fff_isa_usable((fff_isa)isa) == FFF_OK) {
            fff_layer *layer = test_create_layer(&desc, (fff_isa)isa);
            struct guarded workspace = workspace_for(layer, 3, 1);
            assert_true(fff_layer_memory(layer) < 2 * (2 * rows * sizeof(float)) + (2 << 20));
            assert_int_equal(fff_forward(layer, 3, input, 1, output, 1, workspace.data, workspace.size, NULL), FFF_OK);
            for (size_t t = 0; t < 3; t++) {
                assert_true(output[t] == (float)(depth + 1) * input[t]);
            }
            guarded_free(&workspace);
            fff_layer_destroy(layer);
        }
    }
    free(weights);
}

/* Input and output rows taking turns in one buffer. */
static void test_interleaved_rows(void **unused) {
    (void)unused;
    uint64_t state = test_random("interleaved");
    struct subject s = make_subject((struct shape){24, 16, 3, 1, 30}, FILL_NORMAL, &state);
    fff_layer *layer = test_create_layer(&s.desc, FFF_ISA_GENERIC);
    struct guarded workspace = workspace_for(layer, s.batch, 1);
    float *both = test_allocate(s.batch * 40, sizeof(float));
    for (size_t t = 0; t < s.batch; t++) {
        memcpy(both + t * 40, s.input + t * 24, 24 * sizeof(float));
    }
    assert_int_equal(fff_forward(layer, s.batch, both, 40, both + 24, 40, workspace.data, workspace.size, NULL),
                     FFF_OK);
    for (size_t t = 0; t < s.batch; t++) {
        assert_same_floats(both + t * 40, s.input + t * 24, 24, "input");
        assert_same_floats(both + t * 40 + 24, s.output + t * 16, 16, "output");
    }
    free(both);
    guarded_free(&workspace);
    fff_layer_destroy(layer);
    free_subject(&s);
}

/* A caller that flushes denormals and rounds upwards gets the same bits, and its settings back. */
static void set_unusual_environment(void) {
    fesetround(FE_UPWARD);
#if defined(__x86_64__)
    _mm_setcsr(_mm_getcsr() | 0x8040); /* flush to zero, denormals are zero */
#elif defined(__aarch64__)
    uint64_t fpcr;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    __asm__ volatile("msr fpcr, %0" : : "r"(fpcr | 1u << 24));
#endif
}

static void restore_environment(const fenv_t *usual) {
    fesetenv(usual);
#if defined(_WIN32) && defined(__x86_64__)
    _mm_setcsr(0x1f80); /* which mingw-w64's fesetenv() leaves as it is: the usual one */
#endif
}

static uint64_t control_bits(void) {
#if defined(__x86_64__)
    return _mm_getcsr() & ~(uint32_t)0x3f;
#elif defined(__aarch64__)
    uint64_t fpcr;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    return fpcr;
#else
    return (uint64_t)fegetround();
#endif
}

/* Sets sticky flags as a write to the register does, without the exceptions that feraiseexcept() would raise. */
static void raise_quietly(int flags) {
#if defined(__x86_64__)
    _mm_setcsr(_mm_getcsr() | (unsigned)flags); /* FE_... are the bits of MXCSR */
#else
    feraiseexcept(flags);
#endif
}

static void check_unusual_environment(const struct subject *s, const fff_layer *layer, uint64_t *state) {
    (void)state;
    struct guarded workspace = workspace_for(layer, s->batch, 1);
    float *output = test_allocate(s->batch * s->desc.output_width, sizeof(float));
    float *activations = test_allocate(s->batch * s->path, sizeof(float));
    float *expected = test_allocate(s->batch * s->path, sizeof(float));
    assert_int_equal(fff_activate(fff_layer_isa(layer), s->desc.activation, FFF_SLEEF_RECORDED, s->batch * s->path,
                                  s->logits, expected),
                     FFF_OK);
    fenv_t usual;
    fegetenv(&usual);
    set_unusual_environment();
    uint64_t before = control_bits();
    fff_status status = fff_forward(layer, s->batch, s->input, s->desc.input_width, output, s->desc.output_width,
                                    workspace.data, workspace.size, NULL);
    fff_status activated = fff_activate(fff_layer_isa(layer), s->desc.activation, FFF_SLEEF_RECORDED,
                                        s->batch * s->path, s->logits, activations);
    uint64_t after = control_bits();
    restore_environment(&usual);
    assert_int_equal(status, FFF_OK);
    assert_int_equal(activated, FFF_OK);
    assert_int_equal(before, after);
    assert_same_floats(output, s->output, s->batch * s->desc.output_width, "output");
    assert_same_floats(activations, expected, s->batch * s->path, "activations");
    free(expected);
    free(activations);
    free(output);
    guarded_free(&workspace);
}

static void test_floating_point_environment(void **unused) {
    (void)unused;
    uint64_t state = test_random("environment");
    for (int kind = 0; kind < FILL_KINDS; kind++) {
        struct subject s = make_subject((struct shape){50, 50, 4, 2, 20}, (enum fill)kind, &state);
        for_usable_isas(&s, check_unusual_environment, &state);
        free_subject(&s);
    }
}

/* ---- Sticky exception flags ------------------------------------------------------------------ */

enum environment { USUAL, UNUSUAL, TRAPS, ENVIRONMENTS };

static void set_environment(enum environment environment) {
    if (environment == UNUSUAL) {
        set_unusual_environment();
    }
#if defined(__x86_64__)
    if (environment == TRAPS) {
        _mm_setcsr(_mm_getcsr() & ~0x0680u); /* invalid operation, division by zero, overflow */
    }
#endif
}

/* Four calls in that environment, with these flags raised before. `number` is all of the input and all weights, so that
 * the logits of the only node are its square. Returns the flags raised after each. */
struct flags {
    int after[4];
};

static struct flags flags_after_calls(fff_isa isa, enum environment environment, int before, float number) {
    enum { WIDTH = 19, BATCH = 9 };
    static float input[BATCH * WIDTH], output[BATCH * WIDTH], logits[BATCH];
    static uint32_t nodes[BATCH];
    for (size_t i = 0; i < BATCH * WIDTH; i++) {
        input[i] = number;
    }
    fff_layer_desc desc = {
        .struct_size = sizeof desc,
        .input_width = WIDTH,
        .output_width = WIDTH,
        .trees = 1,
        .activation = FFF_ACTIVATION_RELU2,
        .input_weights = {input, WIDTH, 1},
        .output_weights = {input, WIDTH, 1},
    };
    fff_layer *layer = test_create_layer(&desc, isa);
    struct guarded workspace = workspace_for(layer, BATCH, 1);
    struct flags flags;
    fff_status status[4];
    uint64_t controls[5];
    fenv_t usual;
    fegetenv(&usual);
    set_environment(environment);
    controls[4] = control_bits();
    for (int call = 0; call < 4; call++) {
        feclearexcept(FE_ALL_EXCEPT);
        raise_quietly(before);
        switch (call) {
        case 0:
            status[call] = fff_forward(layer, BATCH, input, WIDTH, output, WIDTH, workspace.data, workspace.size, NULL);
            break;
        case 1:
            status[call] =
                fff_route(layer, BATCH, input, WIDTH, nodes, 1, logits, 1, workspace.data, workspace.size, NULL);
            break;
        case 2:
            status[call] =
                fff_accumulate(layer, BATCH, nodes, 1, input, 1, output, WIDTH, workspace.data, workspace.size, NULL);
            break;
        default: status[call] = fff_activate(isa, FFF_ACTIVATION_RELU2, FFF_SLEEF_RECORDED, BATCH, input, logits);
        }
        flags.after[call] = fetestexcept(FE_ALL_EXCEPT);
        controls[call] = control_bits();
    }
    restore_environment(&usual);
    for (int call = 0; call < 4; call++) {
        assert_int_equal(status[call], FFF_OK);
        assert_int_equal(controls[call], controls[4]);
    }
    guarded_free(&workspace);
    fff_layer_destroy(layer);
    return flags;
}

/* Raised before, they stay; and what the call's own numbers raise is added, in every environment. */
static void test_exception_flags(void **unused) {
    (void)unused;
    const int one[] = {0, FE_INVALID, FE_DIVBYZERO, FE_OVERFLOW, FE_UNDERFLOW, FE_INEXACT, FE_ALL_EXCEPT};
    for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
        for (int environment = 0; environment < ENVIRONMENTS; environment++) {
            for (size_t i = 0; fff_isa_usable((fff_isa)isa) == FFF_OK && i < sizeof one / sizeof *one; i++) {
                struct flags exact = flags_after_calls((fff_isa)isa, (enum environment)environment, one[i], 2.0f);
                struct flags large = flags_after_calls((fff_isa)isa, (enum environment)environment, one[i], 0x1p100f);
                struct flags small = flags_after_calls((fff_isa)isa, (enum environment)environment, one[i], 0x1.1p-75f);
                int overflow = one[i] | FE_OVERFLOW | FE_INEXACT, underflow = one[i] | FE_UNDERFLOW | FE_INEXACT;
                for (int call = 0; call < 4; call++) { /* others may be raised, too: vectors are padded */
                    assert_int_equal(exact.after[call] & one[i], one[i]);
                    assert_int_equal(large.after[call] & overflow, overflow);
                    assert_int_equal(small.after[call] & underflow, underflow);
                }
            }
        }
    }
}

/* Nodes that form no path are summed all the same: the primitive that product-key layers need. */
static void test_accumulate_any_nodes(void **unused) {
    (void)unused;
    uint64_t state = test_random("any nodes");
    struct subject s = make_subject((struct shape){10, 33, 5, 2, 6}, FILL_NORMAL, &state);
    for (size_t i = 0; i < s.batch * s.path; i++) {
        s.nodes[i] = (uint32_t)random_below(&state, fff_nodes_per_tree(s.desc.depth));
    }
    float *expected = test_allocate(s.batch * s.desc.output_width, sizeof(float));
    float *actual = test_allocate(s.batch * s.desc.output_width, sizeof(float));
    for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
        if (fff_isa_usable((fff_isa)isa) != FFF_OK) {
            continue;
        }
        fff_layer *layer = test_create_layer(&s.desc, (fff_isa)isa);
        struct guarded workspace = workspace_for(layer, s.batch, 1);
        assert_int_equal(fff_accumulate(layer, s.batch, s.nodes, s.path, s.logits, s.path, actual, s.desc.output_width,
                                        workspace.data, workspace.size, NULL),
                         FFF_OK);
        if (isa == FFF_ISA_GENERIC) {
            memcpy(expected, actual, s.batch * s.desc.output_width * sizeof(float));
        }
        assert_same_floats(actual, expected, s.batch * s.desc.output_width, "accumulate");
        guarded_free(&workspace);
        fff_layer_destroy(layer);
    }
    free(actual);
    free(expected);
    free_subject(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_definition_any_split),
        cmocka_unit_test(test_narrow_rows),
        cmocka_unit_test(test_any_thread_count),
        cmocka_unit_test(test_any_token_order),
        cmocka_unit_test(test_depth_0_is_dense),
        cmocka_unit_test(test_siblings_permuted),
        cmocka_unit_test(test_ties_follow_the_rule),
        cmocka_unit_test(test_deep_tree),
        cmocka_unit_test(test_large_batch),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_memory_of_narrow_rows),
        cmocka_unit_test(test_interleaved_rows),
        cmocka_unit_test(test_floating_point_environment),
        cmocka_unit_test(test_exception_flags),
        cmocka_unit_test(test_accumulate_any_nodes),
    };
    test_start("test_layer");
    return cmocka_run_group_tests_name("layer", tests, NULL, NULL);
}
