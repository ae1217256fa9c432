/* Every kernel of every instruction set, for rows of every type, against the generic one, bit for bit. */
#include "config.h"
#include "dispatch/dispatch.h"
#include "kernels/half.h"
#include "kernels/toolbox.h"
#include "layer/pack.h"
#include "tests/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const size_t LARGE_WIDTHS[] = {255, 256, 257, 511, 768, 1000, 1024, 3072, 4096, 4099};
enum { SMALL_WIDTHS = 200, WIDTHS = SMALL_WIDTHS + sizeof LARGE_WIDTHS / sizeof *LARGE_WIDTHS };

static size_t width_number(size_t i) {
    return i < SMALL_WIDTHS ? i + 1 : LARGE_WIDTHS[i - SMALL_WIDTHS];
}

static size_t round_up(size_t value, size_t quantum) {
    return (value + quantum - 1) / quantum * quantum;
}

/* What a check is about. */
struct subject {
    const struct fff_kernels *kernels;
    const struct fff_row_kernels *rows, *generic; /* for rows of the type */
    fff_weight_type type;
    bool exact; /* they read nothing behind a row */
};

/* Random weights of a row; `placed`: of an int8 row with integer sums. */
static void fill_row(fff_weight_type type, bool placed, enum fill kind, unsigned char *row, size_t width,
                     uint64_t *state) {
    for (size_t column = 0; column < width; column++) {
        float weight;
        uint16_t half;
        struct fff_integer_place place;
        int integer;
        fill_floats(kind, &weight, 1, state);
        switch (type) {
        case FFF_WEIGHT_F32: memcpy(row + 4 * column, &weight, sizeof weight); break;
        case FFF_WEIGHT_BF16:
            half = fff_round_bf16(weight);
            memcpy(row + 2 * fff_bf16_place(column), &half, sizeof half);
            break;
        case FFF_WEIGHT_F16:
            half = kind == FILL_ANY_BITS ? (uint16_t)random_bits(state) : fff_round_f16(weight);
            memcpy(row + 2 * column, &half, sizeof half);
            break;
        case FFF_WEIGHT_I8:
            place = placed ? fff_integer_place(column, width) : (struct fff_integer_place){column, 0};
            integer = kind == FILL_LARGEST      ? (random_below(state, 2) != 0 ? 127 : -127)
                      : kind == FILL_FEW_VALUES ? (int)random_below(state, 3) - 1
                                                : (int)random_below(state, 255) - 127;
            row[place.byte] = (unsigned char)(integer + place.offset);
            break;
        }
    }
}

/* Weights as the contract wants them, at any alignment of their elements or at lines as layer/pack.c packs wide rows:
 * input and output rows side by side or apart. Between them lies anything, NaN too, and behind what kernels may read of
 * the last row nothing readable. */
struct packed {
    struct fff_trees trees;
    struct guarded rows, output_rows;
    float *biases, *scales;
    int64_t *sums;
};

static void fill_any(struct guarded *memory, uint64_t *state) {
    unsigned char *data = memory->data;
    for (size_t i = 0; i < memory->size; i++) {
        data[i] = random_below(state, 4) == 0 ? (unsigned char)random_bits(state) : 0xff; /* NaN, mostly */
    }
}

static struct packed pack_random(const struct subject *subject, enum fill kind, size_t input_width, size_t output_width,
                                 size_t trees, size_t levels, uint64_t *state) {
    struct packed packed;
    fff_weight_type type = subject->type;
    bool apart = subject->exact || random_below(state, 3) == 0;
    size_t nodes = ((size_t)1 << levels) - 1, rows = trees * nodes, element = fff_element_bytes(type);
    size_t quantum = random_below(state, 2) == 0 ? element : FFF_LINE_BYTES;
    size_t input_bytes = fff_row_bytes(type, input_width), output_bytes = fff_row_bytes(type, output_width);
    size_t input_room = round_up(input_bytes + element * random_below(state, 3), quantum);
    size_t output_room = round_up(output_bytes + element * random_below(state, 3), quantum);
    size_t stride = apart ? input_room : input_room + output_room, output_stride = apart ? output_room : stride;
    size_t input_step = type == FFF_WEIGHT_I8 ? 2 * FFF_ROW_STEP : FFF_ROW_STEP;
    size_t last_input = subject->exact ? input_bytes : element * round_up(input_width, input_step);
    size_t last_output = subject->exact ? output_bytes : element * round_up(output_width, FFF_ROW_STEP);
    size_t last = apart || last_input > input_room + last_output ? last_input : input_room + last_output;
    packed.rows = guarded_allocate((rows - 1) * stride + last);
    packed.output_rows = guarded_allocate(apart ? (rows - 1) * output_stride + last_output : 0);
    packed.biases = test_allocate(rows, sizeof(float));
    packed.scales = test_allocate(rows, sizeof(float));
    packed.sums = test_allocate(rows, sizeof(int64_t));
    fill_any(&packed.rows, state);
    fill_any(&packed.output_rows, state);
    unsigned char *data = packed.rows.data, *outputs = apart ? packed.output_rows.data : data + input_room;
    for (size_t row = 0; row < rows; row++) {
        fill_row(type, false, kind, data + row * stride, input_width, state);
        fill_row(type, fff_has_integer_sums(levels), kind, outputs + row * output_stride, output_width, state);
        packed.scales[row] = (float)(1 + random_below(state, 1000)) / 1024.0f;
        for (size_t column = 0; column < input_width && type == FFF_WEIGHT_I8; column++) {
            packed.sums[row] += (int8_t)data[row * stride + column];
        }
    }
    fill_floats(kind, packed.biases, rows, state);
    packed.trees = (struct fff_trees){
        .input_rows = data,
        .output_rows = outputs,
        .biases = packed.biases,
        .input_scales = packed.scales,
        .input_sums = packed.sums,
        .row_stride = stride,
        .output_row_stride = output_stride,
        .input_bytes = input_bytes,
        .output_bytes = output_bytes,
        .input_width = input_width,
        .output_width = output_width,
        .tree_count = trees,
        .level_count = levels,
        .node_count = nodes,
        .near_levels = random_below(state, levels + 1),
        .threshold = random_below(state, 2) != 0 ? FFF_THRESHOLD_GREATER : FFF_THRESHOLD_GREATER_EQUAL,
    };
    return packed;
}

/* Tokens as rows of a type meet them: an instruction set has its own form of them for int8 rows. */
struct tokens {
    void *inputs, *memory;
    size_t stride; /* bytes */
};

static struct tokens tokens_for(const struct subject *subject, const struct fff_kernels *kernels, float *inputs,
                                size_t count, size_t stride, size_t width) {
    if (subject->type != FFF_WEIGHT_I8) {
        return (struct tokens){inputs, NULL, stride * sizeof(float)};
    }
    size_t bytes = fff_quantised_bytes(width);
    unsigned char *quantised = test_allocate_aligned(FFF_LINE_BYTES, count * bytes);
    assert_non_null(quantised);
    memset(quantised, 0x77, count * bytes);
    for (size_t t = 0; t < count; t++) {
        kernels->quantise(width, inputs + t * stride, quantised + t * bytes);
    }
    return (struct tokens){quantised, quantised, bytes};
}

static void unpack(struct packed *packed) {
    guarded_free(&packed->rows);
    guarded_free(&packed->output_rows);
    free(packed->biases);
    free(packed->scales);
    free(packed->sums);
}

static void check_descend(const struct subject *subject, enum fill kind, size_t width, uint64_t *state) {
    size_t trees = 1 + random_below(state, 3), levels = 1 + random_below(state, 4), path = trees * levels;
    struct packed packed = pack_random(subject, kind, width, 1 + random_below(state, 40), trees, levels, state);
    struct guarded input = guarded_allocate(width * sizeof(float));
    struct guarded nodes = guarded_allocate(path * sizeof(uint32_t));
    struct guarded logits = guarded_allocate(path * sizeof(float));
    uint32_t expected_nodes[3 * 4];
    float expected_logits[3 * 4];
    fill_floats(kind, input.data, width, state);
    struct tokens generic = tokens_for(subject, &fff_kernels_generic, input.data, 1, width, width);
    struct tokens tested = tokens_for(subject, subject->kernels, input.data, 1, width, width);
    subject->generic->descend(&packed.trees, generic.inputs, false, expected_nodes, expected_logits);
    subject->rows->descend(&packed.trees, tested.inputs, random_below(state, 2) != 0, nodes.data, logits.data);
    test_free_aligned(generic.memory);
    test_free_aligned(tested.memory);
    assert_memory_equal(nodes.data, expected_nodes, path * sizeof(uint32_t));
    assert_same_floats(logits.data, expected_logits, path, "logits");
    guarded_free(&logits);
    guarded_free(&nodes);
    guarded_free(&input);
    unpack(&packed);
}

/* What node_dot and two_levels are given: up to 21 tokens in any order, of which the first `count` take part.
 */
enum { DOT_TOKENS = 21, DOT_LOGITS = 4 };

struct dots {
    struct packed packed;
    struct guarded inputs;
    struct tokens generic, tested;
    size_t logit_stride, count;
    uint32_t tokens[DOT_TOKENS];
    float expected[DOT_TOKENS * DOT_LOGITS], actual[DOT_TOKENS * DOT_LOGITS];
};

static void make_dots(struct dots *dots, const struct subject *subject, enum fill kind, size_t width,
                      size_t least_logits, uint64_t *state) {
    dots->packed = pack_random(subject, kind, width, 1, 1, 3, state);
    size_t stride = width + random_below(state, 5);
    dots->logit_stride = least_logits + random_below(state, DOT_LOGITS + 1 - least_logits);
    dots->count = random_below(state, DOT_TOKENS + 1);
    size_t floats = (DOT_TOKENS - 1) * stride + width;
    dots->inputs = guarded_allocate(floats * sizeof(float));
    fill_floats(kind, dots->inputs.data, floats, state);
    dots->generic = tokens_for(subject, &fff_kernels_generic, dots->inputs.data, DOT_TOKENS, stride, width);
    dots->tested = tokens_for(subject, subject->kernels, dots->inputs.data, DOT_TOKENS, stride, width);
    for (uint32_t i = 0; i < DOT_TOKENS; i++) {
        size_t j = random_below(state, i + 1);
        dots->tokens[i] = dots->tokens[j];
        dots->tokens[j] = i;
    }
    memset(dots->expected, 0x77, sizeof dots->expected);
    memset(dots->actual, 0x77, sizeof dots->actual);
}

static void free_dots(struct dots *dots) {
    test_free_aligned(dots->generic.memory);
    test_free_aligned(dots->tested.memory);
    guarded_free(&dots->inputs);
    unpack(&dots->packed);
}

static void check_node_dot(const struct subject *subject, enum fill kind, size_t width, uint64_t *state) {
    struct dots dots;
    make_dots(&dots, subject, kind, width, 1, state);
    const struct fff_trees *trees = &dots.packed.trees;
    size_t row = random_below(state, trees->node_count);
    subject->generic->node_dot(trees, row, dots.count, dots.tokens, dots.generic.inputs, dots.generic.stride,
                               dots.expected, dots.logit_stride);
    subject->rows->node_dot(trees, row, dots.count, dots.tokens, dots.tested.inputs, dots.tested.stride, dots.actual,
                            dots.logit_stride);
    assert_same_floats(dots.actual, dots.expected, DOT_TOKENS * DOT_LOGITS, "logits");
    free_dots(&dots);
}

/* Against the generic node_dot, a token at a time, which the generic two_levels is compared with, too. */
static void check_two_levels(const struct subject *subject, enum fill kind, size_t width, uint64_t *state) {
    struct dots dots;
    make_dots(&dots, subject, kind, width, 2, state);
    const struct fff_trees *trees = &dots.packed.trees;
    size_t row = random_below(state, trees->node_count), left_row = random_below(state, trees->node_count - 1);
    for (size_t i = 0; i < dots.count; i++) {
        const float *logit = dots.expected + dots.tokens[i] * dots.logit_stride;
        subject->generic->node_dot(trees, row, 1, &dots.tokens[i], dots.generic.inputs, dots.generic.stride,
                                   dots.expected, dots.logit_stride);
        subject->generic->node_dot(trees, *logit > trees->threshold ? left_row + 1 : left_row, 1, &dots.tokens[i],
                                   dots.generic.inputs, dots.generic.stride, dots.expected + 1, dots.logit_stride);
    }
    for (int i = 0; i < 4; i++) {
        memset(dots.actual, 0x77, sizeof dots.actual);
        const struct tokens *tokens = i / 2 == 0 ? &dots.generic : &dots.tested;
        (i / 2 == 0 ? subject->generic : subject->rows)
            ->two_levels(trees, row, left_row, dots.count, dots.tokens, tokens->inputs, tokens->stride, i % 2 != 0,
                         dots.actual, dots.logit_stride);
        assert_same_floats(dots.actual, dots.expected, DOT_TOKENS * DOT_LOGITS, "logits");
    }
    free_dots(&dots);
}

/* What accumulate_f32 is given: `count` tokens, whose outputs come in another order. */
struct sums {
    const struct fff_trees *trees;
    size_t count;
    const uint32_t *tokens, *nodes;
    const float *activations;
};

static void accumulate(const struct fff_row_kernels *kernels, const struct sums *sums, unsigned how, float *output,
                       size_t stride) {
    kernels->accumulate(sums->trees, sums->count, sums->tokens, sums->nodes, sums->activations, how, output, stride);
}

/* Streaming stores are for aligned output, which a guarded array seldom is. */
static void check_streamed(const struct subject *subject, const struct sums *sums, float *expected) {
    size_t width = sums->trees->output_width, stride = round_up(width + 1, 16);
    float *output = test_allocate_aligned(64, sums->count * stride * sizeof(float));
    assert_non_null(output);
    for (size_t t = 0; t < sums->count; t++) {
        output[t * stride + width] = 1.5f;
    }
    accumulate(subject->rows, sums, FFF_WRITE_STREAM, output, stride);
    fff_store_fence();
    accumulate(subject->generic, sums, 0, expected, width);
    for (size_t t = 0; t < sums->count; t++) {
        assert_same_floats(output + t * stride, expected + t * width, width, "streamed output");
        assert_true(output[t * stride + width] == 1.5f); /* what is beyond */
    }
    test_free_aligned(output);
}

static void check_accumulate(const struct subject *subject, enum fill kind, size_t width, uint64_t *state) {
    enum { TOKENS = 11 };
    size_t trees = 1 + random_below(state, 3), levels = 1 + random_below(state, 5);
    struct packed packed = pack_random(subject, kind, 1 + random_below(state, 40), width, trees, levels, state);
    if (levels >= FFF_INTEGER_LEVELS && random_below(state, 2) == 0) { /* as of a deep tree that goes round in it */
        levels += random_below(state, FFF_MAX_DEPTH + 2 - levels);
        packed.trees.level_count = levels;
    }
    size_t count = random_below(state, TOKENS) + 1, path = trees * levels, entries = count * path;
    struct guarded nodes = guarded_allocate(entries * sizeof(uint32_t));
    struct guarded activations = guarded_allocate(entries * sizeof(float));
    struct guarded output = guarded_allocate(count * width * sizeof(float));
    uint32_t tokens[TOKENS];
    float *expected = malloc(count * width * sizeof(float));
    assert_non_null(expected);
    for (uint32_t t = 0; t < count; t++) {
        tokens[t] = (uint32_t)count - 1 - t;
    }
    /* Mostly the nodes of the token before, since kernels make use of that. */
    uint64_t as_before = random_below(state, 8);
    for (size_t i = 0; i < entries; i++) {
        uint32_t *node = (uint32_t *)nodes.data + i;
        bool same = i >= path && random_below(state, 8) < as_before;
        *node = same ? node[-(ptrdiff_t)path] : (uint32_t)random_below(state, packed.trees.node_count);
    }
    fill_floats(kind, activations.data, entries, state);
    const struct sums sums = {&packed.trees, count, tokens, nodes.data, activations.data};
    accumulate(subject->generic, &sums, 0, expected, width);
    accumulate(subject->rows, &sums, 0, output.data, width);
    assert_same_floats(output.data, expected, count * width, "output");
    accumulate(subject->generic, &sums, FFF_WRITE_CONTINUE, expected, width);
    accumulate(subject->rows, &sums, FFF_WRITE_CONTINUE | FFF_WRITE_STREAM, output.data, width);
    assert_same_floats(output.data, expected, count * width, "continued output");
    check_streamed(subject, &sums, expected);
    free(expected);
    guarded_free(&output);
    guarded_free(&activations);
    guarded_free(&nodes);
    unpack(&packed);
}

enum { ROOT_TOKENS_TESTED = 20 };

/* The numbers below `count` in some order. */
static void shuffle(uint32_t *order, size_t count, uint64_t *state) {
    for (size_t i = 0; i < count; i++) {
        size_t j = random_below(state, i + 1);
        order[i] = order[j];
        order[j] = (uint32_t)i;
    }
}

static void check_roots(const struct subject *subject, enum fill kind, size_t width, uint64_t *state) {
    size_t trees = 1 + random_below(state, 8), levels = 1 + random_below(state, 3), count = 1 + random_below(state, 11);
    struct packed packed = pack_random(subject, kind, width, 1 + random_below(state, 40), trees, levels, state);
    size_t input_stride = width + random_below(state, 5), logit_stride = trees * levels + random_below(state, 5);
    size_t logit_bytes = ((count - 1) * logit_stride + (trees - 1) * levels + 1) * sizeof(float);
    struct guarded input = guarded_allocate(((count - 1) * input_stride + width) * sizeof(float));
    struct guarded logits = guarded_allocate(logit_bytes);
    float *expected = malloc(logit_bytes);
    assert_non_null(expected);
    fill_floats(kind, input.data, input.size / sizeof(float), state);
    memset(logits.data, 0x5a, logit_bytes);
    memset(expected, 0x5a, logit_bytes);
    struct tokens generic = tokens_for(subject, &fff_kernels_generic, input.data, count, input_stride, width);
    struct tokens tested = tokens_for(subject, subject->kernels, input.data, count, input_stride, width);
    uint32_t order[ROOT_TOKENS_TESTED];
    shuffle(order, count, state);
    subject->generic->roots(&packed.trees, count, order, generic.inputs, generic.stride, false, expected, logit_stride);
    subject->rows->roots(&packed.trees, count, order, tested.inputs, tested.stride, random_below(state, 2) != 0,
                         logits.data, logit_stride);
    test_free_aligned(generic.memory);
    test_free_aligned(tested.memory);
    assert_same_floats(logits.data, expected, logit_bytes / sizeof(float), "logits, and what is between them");
    free(expected);
    guarded_free(&logits);
    guarded_free(&input);
    unpack(&packed);
}

static void check_add_roots(const struct subject *subject, enum fill kind, size_t width, uint64_t *state) {
    size_t trees = 1 + random_below(state, 8), count = 1 + random_below(state, 19);
    struct packed packed = pack_random(subject, kind, 1 + random_below(state, 40), width, trees, 1, state);
    size_t activation_stride = trees + random_below(state, 5), output_stride = width + random_below(state, 5);
    size_t output_bytes = ((count - 1) * output_stride + width) * sizeof(float);
    struct guarded activations = guarded_allocate(((count - 1) * activation_stride + trees) * sizeof(float));
    struct guarded output = guarded_allocate(output_bytes);
    float *expected = malloc(output_bytes);
    assert_non_null(expected);
    fill_floats(kind, activations.data, activations.size / sizeof(float), state);
    memset(output.data, 0x5a, output_bytes);
    memset(expected, 0x5a, output_bytes);
    const unsigned hows[] = {0, FFF_WRITE_CONTINUE};
    uint32_t order[ROOT_TOKENS_TESTED];
    shuffle(order, count, state);
    for (int i = 0; i < 2; i++) {
        subject->generic->add_roots(&packed.trees, count, order, activations.data, activation_stride, hows[i], expected,
                                    output_stride);
        subject->rows->add_roots(&packed.trees, count, order, activations.data, activation_stride, hows[i], output.data,
                                 output_stride);
        assert_same_floats(output.data, expected, output_bytes / sizeof(float), "outputs, and what is between them");
    }
    free(expected);
    guarded_free(&output);
    guarded_free(&activations);
    unpack(&packed);
}

/* What the check that runs was called with: printed if it fails. */
static char situation[100];

static int print_situation(void **test_state) {
    (void)test_state;
    if (situation[0] != '\0') {
        print_error("It failed at %s\n", situation);
        situation[0] = '\0';
    }
    return 0;
}

/* One kernel for rows of one type on one instruction set, or on its variant. */
struct test {
    const char *kernel;
    void (*check)(const struct subject *, enum fill, size_t, uint64_t *);
    const struct fff_kernels *kernels;
    fff_weight_type type;
    bool exact;
    fff_isa isa;
    const char *feature; /* that the variant needs; NULL for an instruction set itself */
};

static void skip_unless_usable(const struct test *test) {
    SKIP_UNLESS_USABLE(test->isa);
    fff_cpu_feature features[32];
    size_t count = fff_cpu_optional_features(features, 32);
    for (size_t i = 0; i < count && test->feature != NULL; i++) {
        if (strcmp(features[i].name, test->feature) == 0 && !features[i].present) {
            skip();
        }
    }
}

static struct subject subject_of(const struct test *test) {
    const struct fff_row_kernels *rows = test->exact ? test->kernels->exact_f32 : test->kernels->rows[test->type];
    return (struct subject){test->kernels, rows, fff_kernels_generic.rows[test->type], test->type, test->exact};
}

/* Calls a check for every width with every kind of numbers, twice for the small ones. */
static void test_rows(void **test_state) {
    const struct test *test = *test_state;
    const struct subject subject = subject_of(test);
    skip_unless_usable(test);
    uint64_t state = test_random(test->kernel);
    /* For emulators a part of the widths, by an odd step, which meets all remainders that a vector leaves: of narrow
     * types, which differ in how a row is loaded, a smaller one. */
    size_t step = getenv("FFF_TEST_SHORT") == NULL ? 1 : test->type == FFF_WEIGHT_F32 ? 7 : 9;
    for (size_t i = step > 1 ? random_below(&state, step) : 0; i < WIDTHS; i += step) {
        for (int kind = 0; kind < FILL_KINDS; kind++) {
            bool twice = i < SMALL_WIDTHS && test->type == FFF_WEIGHT_F32 && step == 1;
            for (int repeat = 0; repeat < (twice ? 2 : 1); repeat++) {
                snprintf(situation, sizeof situation, "width %zu, %s, call %d; the random state was %#llx",
                         width_number(i), fill_name((enum fill)kind), repeat + 1, (unsigned long long)state);
                test->check(&subject, (enum fill)kind, width_number(i), &state);
            }
        }
    }
    situation[0] = '\0';
}

/* More columns than 32 bits can add up, all of them as large as can be: int8 rows alone care. */
static void check_wide(const struct subject *subject, enum fill kind, size_t width, uint64_t *state) {
    (void)kind;
    (void)width;
    static const size_t widths[] = {65535, 65536, 65537, 140000, 300001};
    size_t first = getenv("FFF_TEST_SHORT") != NULL ? 2 : 0, end = first > 0 ? 3 : sizeof widths / sizeof *widths;
    for (size_t i = first; i < end; i++) {
        check_node_dot(subject, FILL_LARGEST, widths[i], state);
        check_two_levels(subject, FILL_LARGEST, widths[i], state);
    }
}

static void test_wide(void **test_state) {
    const struct test *test = *test_state;
    const struct subject subject = subject_of(test);
    skip_unless_usable(test);
    uint64_t state = test_random(test->kernel);
    check_wide(&subject, FILL_LARGEST, 0, &state);
}

static void test_activate(void **test_state) {
    enum { COUNTS = 70, MOST_SWEPT = 1 << 20 };
    const uint32_t swept = getenv("FFF_TEST_SHORT") != NULL ? MOST_SWEPT / 16 : MOST_SWEPT;
    const struct test *test = *test_state;
    const struct fff_kernels *kernels = test->kernels;
    skip_unless_usable(test);
    uint64_t state = test_random("activate");
    for (int a = 0; a < FFF_ACTIVATION_COUNT; a++) {
        fff_activation activation = (fff_activation)a;
        for (size_t count = 0; count <= COUNTS; count++) {
            for (int kind = 0; kind < FILL_KINDS; kind++) {
                struct guarded logits = guarded_allocate(count * sizeof(float));
                struct guarded actual = guarded_allocate(count * sizeof(float));
                float expected[COUNTS];
                snprintf(situation, sizeof situation, "activation %d, %zu logits, %s", a, count,
                         fill_name((enum fill)kind));
                fill_floats((enum fill)kind, logits.data, count, &state);
                fff_kernels_generic.activate(activation, count, logits.data, expected);
                kernels->activate(activation, count, logits.data, actual.data);
                assert_same_floats(actual.data, expected, count, "activations");
                kernels->activate(activation, count, logits.data, logits.data);
                assert_same_floats(logits.data, expected, count, "activations in place");
                guarded_free(&actual);
                guarded_free(&logits);
            }
        }
        snprintf(situation, sizeof situation, "activation %d, the sweep", a);
        /* A sweep over all bit patterns, evenly spaced from a random start. */
        float *logits = malloc(swept * sizeof(float)), *expected = malloc(swept * sizeof(float));
        assert_non_null(logits);
        assert_non_null(expected);
        uint32_t bits = (uint32_t)random_bits(&state);
        for (size_t i = 0; i < swept; i++, bits += UINT32_MAX / swept) {
            memcpy(&logits[i], &bits, sizeof bits);
        }
        fff_kernels_generic.activate(activation, swept, logits, expected);
        kernels->activate(activation, swept, logits, logits);
        assert_same_floats(logits, expected, swept, "activations over all bit patterns");
        free(logits);
        free(expected);
    }
    situation[0] = '\0';
}

/* For every count and kind of numbers, the upstream of another kind than the logits; and in place of either. */
static void test_differentiate(void **test_state) {
    enum { COUNTS = 70, SWEEP = 1 << 20 };
    const struct test *test = *test_state;
    const struct fff_kernels *kernels = test->kernels;
    skip_unless_usable(test);
    uint64_t state = test_random("differentiate");
    static float logits_swept[SWEEP], swept[SWEEP], expected_swept[SWEEP];
    for (int a = 0; a < FFF_ACTIVATION_COUNT; a++) {
        fff_activation activation = (fff_activation)a;
        for (size_t count = 0; count <= COUNTS; count++) {
            for (int kind = 0; kind < FILL_KINDS; kind++) {
                enum fill other = (enum fill)random_below(&state, FILL_KINDS);
                struct guarded logits = guarded_allocate(count * sizeof(float));
                struct guarded upstream = guarded_allocate(count * sizeof(float));
                struct guarded actual = guarded_allocate(count * sizeof(float));
                float expected[COUNTS];
                snprintf(situation, sizeof situation, "activation %d, %zu logits, %s, upstream %s", a, count,
                         fill_name((enum fill)kind), fill_name(other));
                fill_floats((enum fill)kind, logits.data, count, &state);
                fill_floats(other, upstream.data, count, &state);
                fff_kernels_generic.differentiate(activation, count, logits.data, upstream.data, expected);
                kernels->differentiate(activation, count, logits.data, upstream.data, actual.data);
                assert_same_floats(actual.data, expected, count, "gradients");
                if (count > 0) {
                    memcpy(actual.data, upstream.data, count * sizeof(float));
                }
                kernels->differentiate(activation, count, logits.data, actual.data, actual.data);
                assert_same_floats(actual.data, expected, count, "gradients in place of upstream");
                kernels->differentiate(activation, count, logits.data, upstream.data, logits.data);
                assert_same_floats(logits.data, expected, count, "gradients in place of logits");
                guarded_free(&actual);
                guarded_free(&upstream);
                guarded_free(&logits);
            }
        }
        snprintf(situation, sizeof situation, "activation %d, the sweep", a);
        uint32_t bits = (uint32_t)random_bits(&state);
        for (size_t i = 0; i < SWEEP; i++, bits += UINT32_MAX / SWEEP) {
            memcpy(&logits_swept[i], &bits, sizeof bits);
            swept[i] = i % 2 == 0 ? 1.0f : -0.7f;
        }
        fff_kernels_generic.differentiate(activation, SWEEP, logits_swept, swept, expected_swept);
        kernels->differentiate(activation, SWEEP, logits_swept, swept, swept);
        assert_same_floats(swept, expected_swept, SWEEP, "gradients over all bit patterns");
    }
    situation[0] = '\0';
}

/* For every width and kind of numbers, with the settings of a training and with any. */
static void test_adam(void **test_state) {
    enum { WIDEST = 70, MATRICES = 4 };
    const struct test *test = *test_state;
    skip_unless_usable(test);
    uint64_t state = test_random("adam");
    for (size_t width = 0; width <= WIDEST; width++) {
        for (int kind = 0; kind < FILL_KINDS; kind++) {
            struct fff_adam_factors factors = {0.9f, 0.1f, 0.999f, 0.001f, 10.0f, 1e-8f, 1e-3f, 0.99999f};
            if (random_below(&state, 2) == 0) {
                float any[8];
                fill_floats((enum fill)kind, any, 8, &state);
                factors = (struct fff_adam_factors){any[0], any[1], any[2], any[3], any[4], any[5], any[6], any[7]};
            }
            struct guarded rows[MATRICES]; /* gradient, weights, moments */
            float expected[MATRICES][WIDEST];
            for (int i = 0; i < MATRICES; i++) {
                /* Second moments that are negative have no root: one time in two only. */
                bool positive = i == 3 && random_below(&state, 2) == 0;
                rows[i] = guarded_allocate(width * sizeof(float));
                fill_floats((enum fill)kind, rows[i].data, width, &state);
                for (size_t j = 0; j < width; j++) {
                    float *value = (float *)rows[i].data + j;
                    *value = positive ? fabsf(*value) : *value;
                    expected[i][j] = *value;
                }
            }
            snprintf(situation, sizeof situation, "width %zu, %s", width, fill_name((enum fill)kind));
            fff_kernels_generic.adam(&factors, width, expected[0], expected[1], expected[2], expected[3]);
            test->kernels->adam(&factors, width, rows[0].data, rows[1].data, rows[2].data, rows[3].data);
            static const char *const names[MATRICES] = {"gradient", "weights", "first moment", "second moment"};
            for (int i = 0; i < MATRICES; i++) {
                assert_same_floats(rows[i].data, expected[i], width, names[i]);
                guarded_free(&rows[i]);
            }
        }
    }
    situation[0] = '\0';
}

/* Every 16-bit number, and floats of every kind, in runs of every length. */
static void test_convert(void **test_state) {
    enum { ALL = 1 << 16, MOST = 70 };
    const struct test *test = *test_state;
    skip_unless_usable(test);
    uint64_t state = test_random("convert");
    static uint16_t halves[ALL], expected_halves[ALL];
    static float floats[ALL], expected[ALL];
    for (size_t i = 0; i < ALL; i++) {
        halves[i] = (uint16_t)i;
    }
    for (int type = FFF_WEIGHT_BF16; type <= FFF_WEIGHT_F16; type++) {
        fff_kernels_generic.widen((fff_weight_type)type, ALL, halves, expected);
        test->kernels->widen((fff_weight_type)type, ALL, halves, floats);
        assert_same_floats(floats, expected, ALL, "widened");
        int whole = getenv("FFF_TEST_SHORT") != NULL ? 2 : 40; /* rounds of all */
        for (int round = 0; round < whole + MOST; round++) {
            size_t count = round < whole ? ALL : (size_t)(round - whole + 1);
            struct guarded from = guarded_allocate(count * sizeof(float));
            struct guarded to = guarded_allocate(count * sizeof(uint16_t));
            struct guarded back = guarded_allocate(count * sizeof(float));
            fill_floats(round % 8 == 7 ? FILL_ANY_BITS : (enum fill)(round % FILL_KINDS), from.data, count, &state);
            if (round % 2 == 0) { /* next to the middle between two */
                for (size_t i = 0; i < count; i++) {
                    uint32_t bits = (uint32_t)random_bits(&state) & (type == FFF_WEIGHT_BF16 ? 0xffff0000 : 0xffffe000);
                    bits += (type == FFF_WEIGHT_BF16 ? 0x8000 : 0x1000) + (uint32_t)random_below(&state, 3) - 1;
                    memcpy((float *)from.data + i, &bits, sizeof bits);
                }
            }
            fff_kernels_generic.narrow((fff_weight_type)type, count, from.data, expected_halves);
            test->kernels->narrow((fff_weight_type)type, count, from.data, to.data);
            fff_kernels_generic.widen((fff_weight_type)type, count, expected_halves, expected);
            test->kernels->widen((fff_weight_type)type, count, to.data, back.data);
            assert_same_floats(back.data, expected, count, "narrowed"); /* widening tells all but NaNs apart */
            guarded_free(&back);
            guarded_free(&to);
            guarded_free(&from);
        }
    }
}

/* Every instruction set that was built, and every variant. */
static const struct {
    const struct fff_kernels *kernels;
    fff_isa isa;
    const char *name, *feature;
} sets[] = {
#if FFF_BUILT_X86_AVX2
    {&fff_kernels_x86_avx2, FFF_ISA_X86_AVX2, "x86_avx2", NULL},
    {&fff_kernels_x86_avx2_vnni, FFF_ISA_X86_AVX2, "x86_avx2_vnni", "avxvnni"},
#endif
#if FFF_BUILT_X86_AVX512
    {&fff_kernels_x86_avx512, FFF_ISA_X86_AVX512, "x86_avx512", NULL},
    {&fff_kernels_x86_avx512_vnni, FFF_ISA_X86_AVX512, "x86_avx512_vnni", "avx512vnni"},
#endif
#if FFF_BUILT_ARM_NEON
    {&fff_kernels_arm_neon, FFF_ISA_ARM_NEON, "arm_neon", NULL},
    {&fff_kernels_arm_neon_dotprod, FFF_ISA_ARM_NEON, "arm_neon_dotprod", "asimddp"},
#endif
    {&fff_kernels_generic, FFF_ISA_GENERIC, "generic", NULL},
};

int main(void) {
    static const struct {
        const char *name;
        void (*check)(const struct subject *, enum fill, size_t, uint64_t *);
    } kernels[] = {
        {"descend", check_descend},       {"node_dot", check_node_dot}, {"two_levels", check_two_levels},
        {"accumulate", check_accumulate}, {"roots", check_roots},       {"add_roots", check_add_roots},
    };
    enum { KERNELS = sizeof kernels / sizeof *kernels, SETS = sizeof sets / sizeof *sets };
    enum { MOST = SETS * (KERNELS * (FFF_WEIGHT_TYPE_COUNT + 1) + 5) };
    static struct test about[MOST];
    static char names[MOST][64];
    struct CMUnitTest tests[MOST];
    size_t count = 0;
    test_start("test_kernels");
    for (size_t i = 0; i + 1 < SETS; i++) {                         /* generic is what the others are compared with */
        for (int rows = 0; rows <= FFF_WEIGHT_TYPE_COUNT; rows++) { /* the last: float32 once more, read exactly */
            bool exact = rows == FFF_WEIGHT_TYPE_COUNT;
            fff_weight_type type = exact ? FFF_WEIGHT_F32 : (fff_weight_type)rows;
            bool same = sets[i].feature != NULL && type != FFF_WEIGHT_I8; /* as without the variant */
            for (size_t k = 0; k < KERNELS && !same; k++, count++) {
                about[count] = (struct test){
                    .kernel = kernels[k].name,
                    .check = kernels[k].check,
                    .kernels = sets[i].kernels,
                    .type = type,
                    .exact = exact,
                    .isa = sets[i].isa,
                    .feature = sets[i].feature,
                };
                snprintf(names[count], sizeof names[count], "%s/%s%s/%s", kernels[k].name, fff_weight_type_name(type),
                         exact ? "_exact" : "", sets[i].name);
                tests[count] = (struct CMUnitTest){names[count], test_rows, NULL, print_situation, &about[count]};
            }
        }
        about[count] = (struct test){"wide", NULL, sets[i].kernels, FFF_WEIGHT_I8, false, sets[i].isa, sets[i].feature};
        snprintf(names[count], sizeof names[count], "wide/i8/%s", sets[i].name);
        tests[count] = (struct CMUnitTest){names[count], test_wide, NULL, print_situation, &about[count]};
        count++;
        if (sets[i].feature == NULL) {
            about[count] = (struct test){"activate", NULL, sets[i].kernels, FFF_WEIGHT_F32, false, sets[i].isa, NULL};
            snprintf(names[count], sizeof names[count], "activate/%s", sets[i].name);
            tests[count] = (struct CMUnitTest){names[count], test_activate, NULL, print_situation, &about[count]};
            count++;
            about[count] =
                (struct test){"differentiate", NULL, sets[i].kernels, FFF_WEIGHT_F32, false, sets[i].isa, NULL};
            snprintf(names[count], sizeof names[count], "differentiate/%s", sets[i].name);
            tests[count] = (struct CMUnitTest){names[count], test_differentiate, NULL, print_situation, &about[count]};
            count++;
            about[count] = (struct test){"adam", NULL, sets[i].kernels, FFF_WEIGHT_F32, false, sets[i].isa, NULL};
            snprintf(names[count], sizeof names[count], "adam/%s", sets[i].name);
            tests[count] = (struct CMUnitTest){names[count], test_adam, NULL, print_situation, &about[count]};
            count++;
            about[count] = (struct test){"convert", NULL, sets[i].kernels, FFF_WEIGHT_F32, false, sets[i].isa, NULL};
            snprintf(names[count], sizeof names[count], "convert/%s", sets[i].name);
            tests[count] = (struct CMUnitTest){names[count], test_convert, NULL, print_situation, &about[count]};
            count++;
        }
    }
    return _cmocka_run_group_tests("kernels", tests, count, NULL, NULL);
}
