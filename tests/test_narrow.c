/* Narrow weights: what is stored, what it computes, and routes that stay those of float32. */
#include "kernels/half.h"
#include "tests/support.h"

#include <fenv.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Conversions ----------------------------------------------------------------------------- */

/* Every 16-bit pattern, widened, is what it was; and what lies around the middle between two neighbours goes to the
 * nearer one, in the middle to the even one. */
static void check_rounding(uint16_t (*round)(float), float (*widen)(uint16_t), uint16_t infinity) {
    for (uint32_t bits = 0; bits <= infinity; bits++) {
        float value = widen((uint16_t)bits);
        assert_int_equal(round(value), bits);
        assert_int_equal(round(-value), bits | 0x8000);
        if (bits == infinity) {
            assert_true(isinf(value));
            break;
        }
        /* The next number, or what it would be if the exponent went on. */
        double next = bits + 1 < infinity ? (double)widen((uint16_t)(bits + 1))
                                          : 2.0 * (double)value - (double)widen((uint16_t)(bits - 1));
        double middle = ((double)value + next) / 2.0;
        if (middle > (double)FLT_MAX) {
            continue;
        }
        float at = (float)middle; /* exact, but where a bfloat16 has no room below it */
        if ((double)at == middle) {
            assert_int_equal(round(at), bits % 2 == 0 ? bits : bits + 1);
        }
        assert_int_equal(round(nextafterf(at, 0.0f)), bits);
        assert_int_equal(round(nextafterf(at, INFINITY)), bits + 1);
    }
    for (uint32_t bits = (uint32_t)infinity + 1; bits < 0x8000; bits++) {
        assert_true(isnan(widen((uint16_t)bits)));
        assert_true(isnan(widen(round(widen((uint16_t)bits)))));
    }
    assert_true(isnan(widen(round(fff_float_of_bits(0x7f800001))))); /* a NaN whose upper bits are those of infinity */
    assert_true(isnan(widen(round(fff_float_of_bits(0xff800001)))));
}

static void test_conversions(void **unused) {
    (void)unused;
    check_rounding(fff_round_bf16, fff_widen_bf16, 0x7f80);
    check_rounding(fff_round_f16, fff_widen_f16, 0x7c00);
}

/* ---- A layer of every kind ------------------------------------------------------------------- */

struct shape {
    size_t input_width, output_width, depth, trees, tokens;
};

struct subject {
    struct shape shape;
    size_t rows, path;
    float *in, *out, *biases, *input;
    fff_layer_desc desc;
};

static struct subject make_subject(struct shape shape, enum fill weights, enum fill inputs, uint64_t *state) {
    struct subject s = {.shape = shape, .rows = shape.trees * fff_nodes_per_tree(shape.depth)};
    s.path = shape.trees * (shape.depth + 1);
    s.in = test_allocate(s.rows * shape.input_width, sizeof(float));
    s.out = test_allocate(s.rows * shape.output_width, sizeof(float));
    s.biases = test_allocate(s.rows, sizeof(float));
    s.input = test_allocate(shape.tokens * shape.input_width, sizeof(float));
    fill_floats(weights, s.in, s.rows * shape.input_width, state);
    fill_floats(FILL_NORMAL, s.out, s.rows * shape.output_width, state);
    fill_floats(weights, s.biases, s.rows, state);
    fill_floats(inputs, s.input, shape.tokens * shape.input_width, state);
    s.desc = (fff_layer_desc){
        .struct_size = sizeof(fff_layer_desc),
        .input_width = shape.input_width,
        .output_width = shape.output_width,
        .depth = shape.depth,
        .trees = shape.trees,
        .input_weights = {s.in, shape.input_width, 1},
        .biases = s.biases,
        .output_weights = {s.out, shape.output_width, 1},
    };
    return s;
}

static void free_subject(struct subject *s) {
    free(s->in);
    free(s->out);
    free(s->biases);
    free(s->input);
}

/* What a layer makes of all tokens. */
struct results {
    uint32_t *nodes;
    float *logits, *output;
};

static struct results run_layer(const struct subject *s, const fff_layer *layer, size_t batch) {
    size_t tokens = s->shape.tokens, in = s->shape.input_width, out = s->shape.output_width, size;
    struct results results = {test_allocate(tokens * s->path, sizeof(uint32_t)),
                              test_allocate(tokens * s->path, sizeof(float)),
                              test_allocate(tokens * out, sizeof(float))};
    assert_int_equal(fff_workspace_size(layer, batch, 1, &size), FFF_OK);
    void *workspace = test_allocate(size, 1);
    for (size_t t = 0; t < tokens; t += batch) {
        size_t count = tokens - t < batch ? tokens - t : batch;
        assert_int_equal(fff_route(layer, count, s->input + t * in, in, results.nodes + t * s->path, s->path,
                                   results.logits + t * s->path, s->path, workspace, size, NULL),
                         FFF_OK);
        assert_int_equal(
            fff_forward(layer, count, s->input + t * in, in, results.output + t * out, out, workspace, size, NULL),
            FFF_OK);
    }
    free(workspace);
    return results;
}

static struct results run(const struct subject *s, const fff_layer_desc *desc, fff_isa isa, size_t batch) {
    assert_int_equal(fff_isa_choose(isa, &isa), FFF_OK);
    fff_layer *layer = test_create_layer(desc, isa);
    struct results results = run_layer(s, layer, batch);
    fff_layer_destroy(layer);
    return results;
}

static void free_results(struct results *results) {
    free(results->nodes);
    free(results->logits);
    free(results->output);
}

static void assert_same_results(const struct subject *s, const struct results *actual, const struct results *expected) {
    size_t entries = s->shape.tokens * s->path;
    assert_memory_equal(actual->nodes, expected->nodes, entries * sizeof(uint32_t));
    assert_same_floats(actual->logits, expected->logits, entries, "logits");
    assert_same_floats(actual->output, expected->output, s->shape.tokens * s->shape.output_width, "output");
}

static const struct shape SHAPES[] = {{768, 768, 6, 1, 200}, {37, 50, 4, 3, 120}, {100, 33, 0, 70, 60},
                                      {1, 1, 5, 1, 100},     {64, 3, 3, 5, 100},  {31, 17, 7, 1, 300},
                                      {40, 200, 3, 2, 90},   {33, 70, 2, 3, 80}};
enum { SHAPE_COUNT = sizeof SHAPES / sizeof *SHAPES };

/* For emulators: every second one, but not the largest. */
static size_t first_shape(void) {
    return is_short() ? 1 : 0;
}
static size_t shape_step(void) {
    return is_short() ? 2 : 1;
}

/* ---- 16-bit weights -------------------------------------------------------------------------- */

static void round_all(float *values, size_t count, fff_weight_choice type) {
    for (size_t i = 0; i < count; i++) {
        values[i] = type == FFF_CHOOSE_BF16 ? fff_widen_bf16(fff_round_bf16(values[i]))
                                            : fff_widen_f16(fff_round_f16(values[i]));
    }
}

/* A layer that stores 16 bits is the float32 layer of the same numbers. */
static void test_halves(void **unused) {
    (void)unused;
    uint64_t state = test_random("halves");
    for (size_t shape = first_shape(); shape < SHAPE_COUNT; shape += shape_step()) {
        for (int type = FFF_CHOOSE_BF16; type <= FFF_CHOOSE_F16; type++) {
            struct subject s = make_subject(SHAPES[shape], FILL_NORMAL, FILL_NORMAL, &state);
            fff_layer_desc narrow = s.desc;
            narrow.store_input = narrow.store_output = (fff_weight_choice)type;
            for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
                if (fff_isa_usable((fff_isa)isa) != FFF_OK) {
                    continue;
                }
                /* the weights are float32 still when the layer is made */
                struct results actual = run(&s, &narrow, (fff_isa)isa, 1 + random_below(&state, s.shape.tokens));
                struct subject rounded = s;
                rounded.in = test_allocate(s.rows * s.shape.input_width, sizeof(float));
                rounded.out = test_allocate(s.rows * s.shape.output_width, sizeof(float));
                memcpy(rounded.in, s.in, s.rows * s.shape.input_width * sizeof(float));
                memcpy(rounded.out, s.out, s.rows * s.shape.output_width * sizeof(float));
                round_all(rounded.in, s.rows * s.shape.input_width, (fff_weight_choice)type);
                round_all(rounded.out, s.rows * s.shape.output_width, (fff_weight_choice)type);
                rounded.desc.input_weights.data = rounded.in;
                rounded.desc.output_weights.data = rounded.out;
                struct results expected = run(&rounded, &rounded.desc, FFF_ISA_GENERIC, 1);
                assert_same_results(&s, &actual, &expected);
                free_results(&actual);
                free_results(&expected);
                free(rounded.in);
                free(rounded.out);
            }
            free_subject(&s);
        }
    }
}

/* The caller's 16-bit matrices, in either orientation, give the layer that its float32 ones give when rounded. */
static void test_given_halves(void **unused) {
    (void)unused;
    uint64_t state = test_random("given halves");
    for (size_t shape = first_shape(); shape < SHAPE_COUNT; shape += shape_step()) {
        for (int type = FFF_WEIGHT_BF16; type <= FFF_WEIGHT_F16; type++) {
            struct subject s = make_subject(SHAPES[shape], FILL_NORMAL, FILL_NORMAL, &state);
            size_t in = s.shape.input_width, out = s.shape.output_width;
            uint16_t *given_in = test_allocate(s.rows * in, sizeof *given_in);
            uint16_t *given_out = test_allocate(s.rows * out, sizeof *given_out);
            uint16_t (*round)(float) = type == FFF_WEIGHT_BF16 ? fff_round_bf16 : fff_round_f16;
            for (size_t i = 0; i < s.rows * in; i++) {
                given_in[i] = round(s.in[i]);
            }
            for (size_t row = 0; row < s.rows; row++) {
                for (size_t column = 0; column < out; column++) {
                    given_out[column * s.rows + row] = round(s.out[row * out + column]);
                }
            }
            fff_layer_desc stored = s.desc, given = s.desc;
            stored.store_input = stored.store_output = (fff_weight_choice)(type + 1);
            given.weight_type = (fff_weight_type)type;
            given.input_weights.data = given_in;
            given.output_weights = (fff_weights){given_out, 1, s.rows};
            given.routes = FFF_ROUTES_EXACT; /* which they are: nothing is lost */
            struct results expected = run(&s, &stored, FFF_ISA_AUTO, 50);
            struct results actual = run(&s, &given, FFF_ISA_AUTO, 50);
            assert_same_results(&s, &actual, &expected);
            free_results(&actual);
            given.store_input = given.store_output = FFF_CHOOSE_F32;
            actual = run(&s, &given, FFF_ISA_AUTO, 50);
            assert_same_results(&s, &actual, &expected);
            free_results(&actual);
            free_results(&expected);
            free(given_in);
            free(given_out);
            free_subject(&s);
        }
    }
}

/* ---- int8 ------------------------------------------------------------------------------------- */

/* docs/numerics.md in its simplest words. */
static float quantise(const float *values, size_t count, int *integers) {
    float largest = 0.0f;
    for (size_t i = 0; i < count; i++) {
        largest = fmaxf(largest, fabsf(values[i]));
        integers[i] = 0;
    }
    if (largest < 0x1p-100f) {
        return 1.0f;
    }
    for (size_t i = 0; i < count; i++) {
        integers[i] = (int)nearbyintf(values[i] * (127.0f / largest));
    }
    return largest / 127.0f;
}

/* What one tree adds to a column, whose weights on a token's path are given: from depth 3 on an integer times a unit.
 */
static float add_tree(float y, size_t levels, const float *factors, const int *weights) {
    if (levels < 4) {
        for (size_t level = 0; level < levels; level++) {
            y = fmaf(factors[level], (float)weights[level], y);
        }
        return y;
    }
    float largest = 0.0f;
    bool finite = true;
    for (size_t level = 0; level < levels; level++) {
        largest = fmaxf(largest, fabsf(factors[level]));
        finite = finite && isfinite(factors[level]);
    }
    int64_t sum = 0;
    for (size_t level = 0; level < levels && finite && largest >= 0x1p-100f; level++) {
        sum += (int64_t)nearbyintf(factors[level] * (32767.0f / largest)) * weights[level];
    }
    return fmaf((float)sum, !finite ? NAN : largest < 0x1p-100f ? 1.0f : largest / 32767.0f, y);
}

/* The scale of an int8 output row: 0 if its integers are. */
static float scale_of(const int8_t *row, size_t width, float scale) {
    bool zeros = true;
    for (size_t i = 0; i < width; i++) {
        zeros = zeros && row[i] == 0;
    }
    return zeros ? 0.0f : scale;
}

/* One token's output: its factors are the activations times the scales of the rows it visits. */
static void define_output(const struct shape *shape, const uint32_t *nodes, const float *activations,
                          const int8_t *rows, const float *scales, float *output) {
    size_t levels = shape->depth + 1;
    for (size_t column = 0; column < shape->output_width; column++) {
        output[column] = 0.0f;
        for (size_t tree = 0; tree < shape->trees; tree++) {
            float factors[FFF_MAX_DEPTH + 1];
            int weights[FFF_MAX_DEPTH + 1];
            for (size_t level = 0; level < levels; level++) {
                size_t row = tree * fff_nodes_per_tree(shape->depth) + nodes[tree * levels + level];
                float scale = scale_of(rows + row * shape->output_width, shape->output_width, scales[row]);
                factors[level] = activations[tree * levels + level] * scale;
                weights[level] = rows[row * shape->output_width + column];
            }
            output[column] = add_tree(output[column], levels, factors, weights);
        }
    }
}

/* int8 rows, against the definition; and the same integers and scales when they are given. */
static void test_integers(void **unused) {
    (void)unused;
    uint64_t state = test_random("integers");
    for (size_t shape = first_shape(); shape < SHAPE_COUNT; shape += shape_step()) {
        struct subject s = make_subject(SHAPES[shape], FILL_NORMAL, FILL_NORMAL, &state);
        size_t in = s.shape.input_width, out = s.shape.output_width, widest = in > out ? in : out;
        int *integers = test_allocate(widest, sizeof *integers), *token = test_allocate(in, sizeof *token);
        int8_t *given_in = test_allocate(s.rows, in), *given_out = test_allocate(s.rows, out);
        float *output = test_allocate(out, sizeof(float));
        float *in_scales = test_allocate(s.rows, sizeof(float)), *out_scales = test_allocate(s.rows, sizeof(float));
        memset(s.in, 0, in * sizeof(float)); /* rows of zeros */
        memset(s.out + random_below(&state, s.rows) * out, 0, out * sizeof(float));
        memset(s.out, 0, out * sizeof(float));
        memset(s.input, 0, in * sizeof(float));
        for (size_t row = 0; row < s.rows; row++) {
            in_scales[row] = quantise(s.in + row * in, in, integers);
            for (size_t column = 0; column < in; column++) {
                given_in[row * in + column] = (int8_t)integers[column];
            }
            out_scales[row] = quantise(s.out + row * out, out, integers);
            for (size_t column = 0; column < out; column++) {
                given_out[row * out + column] = (int8_t)integers[column];
            }
        }
        fff_layer_desc stored = s.desc, given = s.desc;
        stored.store_input = stored.store_output = FFF_CHOOSE_I8;
        given.weight_type = FFF_WEIGHT_I8;
        given.input_weights.data = given_in;
        given.output_weights.data = given_out;
        given.input_scales = in_scales;
        given.output_scales = out_scales;
        for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
            if (fff_isa_usable((fff_isa)isa) != FFF_OK) {
                continue;
            }
            struct results of_stored = run(&s, &stored, (fff_isa)isa, 1 + random_below(&state, s.shape.tokens));
            struct results of_given = run(&s, &given, (fff_isa)isa, 1 + random_below(&state, s.shape.tokens));
            assert_same_results(&s, &of_given, &of_stored);
            for (size_t t = 0; t < s.shape.tokens; t++) {
                float scale = quantise(s.input + t * in, in, token);
                for (size_t e = 0; e < s.path; e++) {
                    size_t row =
                        e / (s.shape.depth + 1) * fff_nodes_per_tree(s.shape.depth) + of_stored.nodes[t * s.path + e];
                    int64_t dot = 0;
                    for (size_t column = 0; column < in; column++) {
                        dot += token[column] * given_in[row * in + column];
                    }
                    float logit = fmaf((float)dot, scale * in_scales[row], s.biases[row]);
                    assert_same_floats(&of_stored.logits[t * s.path + e], &logit, 1, "logit");
                }
                float *logits = of_stored.logits + t * s.path, *factors = test_allocate(s.path, sizeof(float));
                assert_int_equal(
                    fff_activate(FFF_ISA_GENERIC, s.desc.activation, FFF_SLEEF_RECORDED, s.path, logits, factors),
                    FFF_OK);
                define_output(&s.shape, of_stored.nodes + t * s.path, factors, given_out, out_scales, output);
                assert_same_floats(of_stored.output + t * out, output, out, "output");
                free(factors);
            }
            free_results(&of_stored);
            free_results(&of_given);
        }
        /* Stored as floats, each is its integer times its scale. */
        float *float_in = test_allocate(s.rows * in, sizeof(float)),
              *float_out = test_allocate(s.rows * out, sizeof(float));
        for (size_t i = 0; i < s.rows * in; i++) {
            float_in[i] = (float)given_in[i] * in_scales[i / in];
        }
        for (size_t i = 0; i < s.rows * out; i++) {
            float_out[i] = (float)given_out[i] * out_scales[i / out];
        }
        fff_layer_desc floats = s.desc;
        floats.input_weights.data = float_in;
        floats.output_weights.data = float_out;
        for (fff_weight_choice store = FFF_CHOOSE_F32; store <= FFF_CHOOSE_BF16; store++) {
            given.store_input = given.store_output = floats.store_input = floats.store_output = store;
            struct results of_given = run(&s, &given, FFF_ISA_GENERIC, s.shape.tokens);
            struct results of_floats = run(&s, &floats, FFF_ISA_GENERIC, s.shape.tokens);
            assert_same_results(&s, &of_given, &of_floats);
            free_results(&of_given);
            free_results(&of_floats);
        }
        free(float_in), free(float_out);
        free(integers), free(token), free(given_in), free(given_out), free(in_scales), free(out_scales);
        free(output);
        free_subject(&s);
    }
}

/* Activations of every kind, which fff_accumulate() takes as logits of the identity, against the definition. */
static void test_integer_sums(void **unused) {
    (void)unused;
    enum { WIDTH = 70, DEPTH = 4, TREES = 2, LEVELS = DEPTH + 1, PATH = TREES * LEVELS, TOKENS = 64 };
    static const struct shape shape = {1, WIDTH, DEPTH, TREES, TOKENS};
    uint64_t state = test_random("integer sums");
    size_t rows = TREES * fff_nodes_per_tree(DEPTH), size;
    int8_t *in = test_allocate(rows, 1), *out = test_allocate(rows, WIDTH);
    float *scales = test_allocate(rows, sizeof(float));
    for (size_t i = 0; i < rows * WIDTH; i++) {
        out[i] = (int8_t)((int)random_below(&state, 255) - 127);
    }
    for (size_t row = 0; row < rows; row++) {
        scales[row] = ldexpf(1.0f + (float)random_below(&state, 100) / 64.0f, (int)random_below(&state, 4) - 2);
    }
    fff_layer_desc desc = {.struct_size = sizeof desc, .input_width = 1, .output_width = WIDTH, .depth = DEPTH};
    desc.trees = TREES;
    desc.activation = FFF_ACTIVATION_IDENTITY;
    desc.weight_type = FFF_WEIGHT_I8;
    desc.input_weights = (fff_weights){in, 1, 1};
    desc.output_weights = (fff_weights){out, WIDTH, 1};
    desc.input_scales = desc.output_scales = scales;
    for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
        if (fff_isa_usable((fff_isa)isa) != FFF_OK) {
            continue;
        }
        fff_layer *layer = test_create_layer(&desc, (fff_isa)isa);
        assert_int_equal(fff_workspace_size(layer, TOKENS, 1, &size), FFF_OK);
        void *workspace = test_allocate(size, 1);
        for (int kind = 0; kind < 2 * FILL_KINDS; kind++) {
            uint32_t nodes[TOKENS * PATH];
            float logits[TOKENS * PATH], actual[TOKENS * WIDTH], expected[WIDTH];
            fill_floats((enum fill)(kind / 2), logits, TOKENS * PATH, &state);
            for (size_t i = 0; i < TOKENS * PATH; i++) {
                nodes[i] = (uint32_t)random_below(&state, rows / TREES);
                if (kind % 2 != 0) { /* about the least size that is no zero */
                    logits[i] = ldexpf(random_normal(&state), -100 - (int)random_below(&state, 3));
                }
            }
            assert_int_equal(
                fff_accumulate(layer, TOKENS, nodes, PATH, logits, PATH, actual, WIDTH, workspace, size, NULL), FFF_OK);
            for (size_t t = 0; t < TOKENS; t++) {
                define_output(&shape, nodes + t * PATH, logits + t * PATH, out, scales, expected);
                assert_same_floats(actual + t * WIDTH, expected, WIDTH, "output");
            }
        }
        free(workspace);
        fff_layer_destroy(layer);
    }
    free(in), free(out), free(scales);
}

/* ---- Exact routes ------------------------------------------------------------------------------ */

/* Weights that put logits as near to 0 as can be: many rows differ from one another by a unit in the last place, biases
 * are what makes some token's logit 0, or next to it. */
static void make_adversarial(struct subject *s, uint64_t *state) {
    size_t in = s->shape.input_width;
    for (size_t row = 0; row < s->rows; row++) {
        float *weights = s->in + row * in;
        const float *input = s->input + random_below(state, s->shape.tokens) * in;
        if (row % 3 == 1) {
            memcpy(weights, s->in + (row - 1) * in, in * sizeof(float));
            size_t column = random_below(state, in);
            weights[column] = nextafterf(weights[column], INFINITY);
        }
        double dot = 0.0;
        for (size_t column = 0; column < in; column++) {
            dot += (double)weights[column] * (double)input[column];
        }
        s->biases[row] = (float)-dot;
        for (uint64_t steps = random_below(state, 3); steps > 0; steps--) {
            s->biases[row] = nextafterf(s->biases[row], INFINITY);
        }
    }
}

/* Thresholds next to the biases, and dot products of a few of their places, so that the rounding of the logit and not
 * the dot product decides on which side it is. */
static void make_near_thresholds(struct subject *s, float *thresholds, uint64_t *state) {
    for (size_t i = 0; i < s->shape.tokens * s->shape.input_width; i++) {
        s->input[i] = ldexpf(s->input[i], -26 + (int)random_below(state, 4));
    }
    for (size_t row = 0; row < s->rows; row++) {
        /* often a power of two, below which places are half as far apart */
        s->biases[row] = random_below(state, 3) == 0 ? ldexpf(1.0f, (int)random_below(state, 3) - 1) : s->biases[row];
        thresholds[row] = s->biases[row];
        float direction = random_below(state, 2) == 0 ? INFINITY : -INFINITY;
        for (uint64_t steps = random_below(state, 3); steps > 0; steps--) {
            thresholds[row] = nextafterf(thresholds[row], direction);
        }
    }
    s->desc.thresholds = thresholds;
}

/* Every route is the float32 layer's; every logit is the float32 row's, or within the narrow one's reach of the same
 * sign; and one token at a time gives what batches give, on every instruction set. */
static void check_exact(struct subject *s, uint64_t *state, const char *what) {
    struct results wide = run(s, &s->desc, FFF_ISA_AUTO, s->shape.tokens);
    for (int input = FFF_CHOOSE_BF16; input <= FFF_CHOOSE_I8; input++) {
        fff_layer_desc desc = s->desc;
        fff_bad_weight bad;
        desc.store_input = (fff_weight_choice)input;
        desc.store_output = (fff_weight_choice)(1 + random_below(state, FFF_CHOOSE_F16));
        desc.routes = FFF_ROUTES_EXACT;
        desc.bad_weight = &bad;
        fff_layer *layer = NULL;
        desc.isa = FFF_ISA_GENERIC;
        fff_status status = fff_layer_create(&desc, &layer);
        if (status == FFF_ERROR_WEIGHT) { /* not every kind of numbers fits every type */
            continue;
        }
        assert_int_equal(status, FFF_OK);
        fff_layer_destroy(layer);
        struct results generic = run(s, &desc, FFF_ISA_GENERIC, 1);
        if (memcmp(generic.nodes, wide.nodes, s->shape.tokens * s->path * sizeof(uint32_t)) != 0) {
            fail_msg("%s, type %d: another route than the float32 layer's", what, input);
        }
        for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
            if (fff_isa_usable((fff_isa)isa) != FFF_OK) {
                continue;
            }
            struct results actual = run(s, &desc, (fff_isa)isa, 1 + random_below(state, s->shape.tokens));
            assert_same_results(s, &actual, &generic);
            free_results(&actual);
        }
        free_results(&generic);
    }
    free_results(&wide);
}

static void test_exact_routes(void **unused) {
    (void)unused;
    uint64_t state = test_random("exact routes");
    static const struct shape shapes[] = {
        {768, 5, 6, 1, 300}, {37, 5, 5, 3, 200}, {3, 2, 8, 2, 400}, {64, 3, 9, 1, 600}};
    /* For emulators a part of it: each kind of weights with one kind of inputs, and fewer tokens. */
    int step = is_short() ? FILL_KINDS : 1, repeats = is_short() ? 2 : 10;
    for (size_t i = first_shape(); i < sizeof shapes / sizeof *shapes; i++) {
        struct shape shape = shapes[i];
        shape.tokens /= is_short() ? 4 : 1;
        for (int weights = 0; weights < FILL_KINDS; weights++) {
            int first = (int)random_below(&state, (uint64_t)step);
            for (int inputs = first; inputs < FILL_KINDS; inputs += step) {
                struct subject s = make_subject(shape, (enum fill)weights, (enum fill)inputs, &state);
                s.desc.routing = random_below(&state, 2) != 0 ? FFF_ROUTING_GREATER : FFF_ROUTING_GREATER_EQUAL;
                check_exact(&s, &state, fill_name((enum fill)weights));
                free_subject(&s);
            }
        }
        for (int repeat = 0; repeat < repeats; repeat++) {
            struct subject s = make_subject(shape, FILL_NORMAL, FILL_NORMAL, &state);
            make_adversarial(&s, &state);
            check_exact(&s, &state, "adversarial weights");
            free_subject(&s);
            s = make_subject(shape, FILL_NORMAL, FILL_NORMAL, &state);
            s.desc.routing = random_below(&state, 2) != 0 ? FFF_ROUTING_GREATER : FFF_ROUTING_GREATER_EQUAL;
            float *thresholds = test_allocate(s.rows, sizeof(float));
            make_near_thresholds(&s, thresholds, &state);
            check_exact(&s, &state, "thresholds near biases");
            free(thresholds);
            free_subject(&s);
        }
    }
}

/* The float32 rows are read where they must be, and hardly elsewhere: of bfloat16 rows at a few nodes of a hundred. */
static void test_exact_routes_pay(void **unused) {
    (void)unused;
    uint64_t state = test_random("exact routes pay");
    /* some 4 of 1000 tokens take another path without proof, so that none of 4000 does once in 10^7 runs */
    enum { TOKENS = 4000 };
    struct subject s = make_subject((struct shape){768, 4, 8, 1, TOKENS}, FILL_NORMAL, FILL_NORMAL, &state);
    memset(s.biases, 0, s.rows * sizeof(float));
    fff_layer_desc narrow = s.desc, exact = s.desc;
    narrow.store_input = exact.store_input = FFF_CHOOSE_BF16;
    exact.routes = FFF_ROUTES_EXACT;
    struct results wide = run(&s, &s.desc, FFF_ISA_AUTO, TOKENS), proven = run(&s, &exact, FFF_ISA_AUTO, TOKENS);
    struct results stored = run(&s, &narrow, FFF_ISA_AUTO, TOKENS);
    size_t entries = s.shape.tokens * s.path, as_wide = 0, other = 0;
    for (size_t e = 0; e < entries; e++) {
        as_wide += memcmp(&wide.logits[e], &proven.logits[e], sizeof(float)) == 0;
        other += wide.nodes[e] != stored.nodes[e];
    }
    assert_memory_equal(proven.nodes, wide.nodes, entries * sizeof(uint32_t));
    assert_uint_in_range(as_wide, entries / 1000, entries / 10);
    assert_true(other > 0); /* else this would test nothing */
    free_results(&wide);
    free_results(&proven);
    free_results(&stored);
    free_subject(&s);
}

/* ---- Memory ------------------------------------------------------------------------------------ */

static size_t part_bytes(fff_weight_choice type, size_t width) {
    size_t left = width % 32;
    return type == FFF_CHOOSE_F32    ? 4 * width
           : type == FFF_CHOOSE_F16  ? 2 * width
           : type == FFF_CHOOSE_I8   ? width
           : left == 0 || left >= 16 ? 2 * (width - left) + (left == 0 ? 0 : 64)
                                     : 2 * (width - left) + 4 * left;
}

static size_t round_up(size_t value, size_t quantum) {
    return (value + quantum - 1) / quantum * quantum;
}

/* What fff.h says that fff_layer_memory() returns. */
static size_t said_memory(const struct subject *s, fff_weight_choice input, fff_weight_choice output, bool exact) {
    size_t in = part_bytes(input, s->shape.input_width), out = part_bytes(output, s->shape.output_width), row = 1;
    if (in + out <= 64) {
        while (row < in + out) {
            row *= 2;
        }
    } else {
        row = round_up(in, 64) + round_up(out, 64);
        row += row % 4096 == 0 ? 128 : 0;
    }
    row += 4; /* the bias */
    row += input == FFF_CHOOSE_I8 ? 12 : 0;
    row += output == FFF_CHOOSE_I8 ? 4 : 0;
    if (exact && input != FFF_CHOOSE_F32) {
        size_t wide = round_up(4 * s->shape.input_width, 64);
        row += 8 + wide + (wide % 4096 == 0 ? 128 : 0);
    }
    return s->rows * row;
}

static void test_memory(void **unused) {
    (void)unused;
    uint64_t state = test_random("memory");
    static const struct shape shapes[] = {{768, 768, 7, 1, 1},   {1, 1, 12, 1, 1},  {7, 40, 9, 1, 1},
                                          {1024, 1024, 3, 1, 1}, {33, 15, 6, 3, 1}, {16, 8, 10, 1, 1}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct subject s = make_subject(shapes[i], FILL_NORMAL, FILL_NORMAL, &state);
        for (int kind = 0; kind < 32; kind += is_short() ? 5 : 1) { /* with each type of either matrix */
            fff_layer_desc desc = s.desc;
            desc.store_input = (fff_weight_choice)(1 + kind % 4);
            desc.store_output = (fff_weight_choice)(1 + kind / 4 % 4);
            desc.routes = (fff_routes)(kind / 16);
            fff_layer *layer = test_create_layer(&desc, FFF_ISA_GENERIC);
            size_t said = said_memory(&s, desc.store_input, desc.store_output, desc.routes == FFF_ROUTES_EXACT);
            size_t memory = fff_layer_memory(layer);
            if (memory < said || memory > (said > 2 << 20 ? round_up(said + 1024, 2 << 20) : said) + 1024) {
                fail_msg("shape %zu, kind %d: %zu bytes, of %zu by the formula", i, kind, memory, said);
            }
            fff_layer_destroy(layer);
        }
        free_subject(&s);
    }
}

/* ---- The caller's floating-point mode ---------------------------------------------------------- */

/* A layer made while the caller rounds upwards is the one made while it rounds to nearest. */
static void test_made_in_any_mode(void **unused) {
    (void)unused;
    static const int modes[] = {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
    uint64_t state = test_random("modes");
    for (int type = FFF_CHOOSE_F32; type <= FFF_CHOOSE_I8; type++) {
        struct subject s = make_subject(SHAPES[1], FILL_NORMAL, FILL_NORMAL, &state);
        s.desc.store_input = s.desc.store_output = (fff_weight_choice)type;
        s.desc.routes = random_below(&state, 2) == 0 ? FFF_ROUTES_EXACT : FFF_ROUTES_STORED;
        struct results expected = run(&s, &s.desc, FFF_ISA_AUTO, s.shape.tokens);
        for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
            fff_layer *layer = NULL;
            assert_int_equal(fesetround(modes[i]), 0);
            fff_status status = fff_layer_create(&s.desc, &layer);
            int mode = fegetround();
            fesetround(FE_TONEAREST);
            assert_int_equal(status, FFF_OK);
            assert_int_equal(mode, modes[i]);
            struct results actual = run_layer(&s, layer, s.shape.tokens);
            assert_same_results(&s, &actual, &expected);
            free_results(&actual);
            fff_layer_destroy(layer);
        }
        free_results(&expected);
        free_subject(&s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conversions),      cmocka_unit_test(test_halves),
        cmocka_unit_test(test_given_halves),     cmocka_unit_test(test_integers),
        cmocka_unit_test(test_integer_sums),     cmocka_unit_test(test_exact_routes),
        cmocka_unit_test(test_exact_routes_pay), cmocka_unit_test(test_memory),
        cmocka_unit_test(test_made_in_any_mode),
    };
    test_start("test_narrow");
    return cmocka_run_group_tests_name("narrow", tests, NULL, NULL);
}
