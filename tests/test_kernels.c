/* Every kernel of every instruction set against the generic one, bit for bit. */
#include "dispatch/dispatch.h"
#include "kernels/toolbox.h"
#include "tests/support.h"

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

/* Packed weights as the contract wants them, at any alignment of a float or at lines as layer.c packs wide rows.
 * Between them lies anything, NaN too, and behind what kernels may read of the last row nothing readable. */
struct packed {
    struct fff_trees_f32 trees;
    struct guarded rows;
    float *biases;
};

static struct packed pack_random(enum fill kind, size_t input_width, size_t output_width, size_t trees, size_t levels,
                                 uint64_t *state) {
    struct packed packed;
    size_t nodes = ((size_t)1 << levels) - 1, rows = trees * nodes;
    size_t quantum = random_below(state, 2) == 0 ? 1 : FFF_LINE_FLOATS;
    size_t output_offset = round_up(input_width + random_below(state, 3), quantum);
    size_t stride = round_up(output_offset + output_width + random_below(state, 3), quantum);
    size_t readable_input = round_up(input_width, FFF_PARTIAL_SUMS);
    size_t readable_output = output_offset + round_up(output_width, FFF_PARTIAL_SUMS);
    size_t last = readable_input > readable_output ? readable_input : readable_output;
    size_t floats = (rows - 1) * stride + last;
    packed.rows = guarded_allocate(floats * sizeof(float));
    packed.biases = malloc(rows * sizeof(float));
    assert_non_null(packed.biases);
    float *data = packed.rows.data;
    fill_floats(FILL_ANY_BITS, data, floats, state);
    for (size_t row = 0; row < rows; row++) {
        fill_floats(kind, data + row * stride, input_width, state);
        fill_floats(kind, data + row * stride + output_offset, output_width, state);
    }
    fill_floats(kind, packed.biases, rows, state);
    packed.trees = (struct fff_trees_f32){
        .input_rows = data,
        .output_rows = data + output_offset,
        .biases = packed.biases,
        .row_stride = stride,
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

static void unpack(struct packed *packed) {
    guarded_free(&packed->rows);
    free(packed->biases);
}

static void check_descend(const struct fff_kernels *kernels, enum fill kind, size_t width, uint64_t *state) {
    size_t trees = 1 + random_below(state, 3), levels = 1 + random_below(state, 4), path = trees * levels;
    struct packed packed = pack_random(kind, width, 1 + random_below(state, 40), trees, levels, state);
    struct guarded input = guarded_allocate(width * sizeof(float));
    struct guarded nodes = guarded_allocate(path * sizeof(uint32_t));
    struct guarded logits = guarded_allocate(path * sizeof(float));
    uint32_t expected_nodes[3 * 4];
    float expected_logits[3 * 4];
    fill_floats(kind, input.data, width, state);
    fff_kernels_generic.descend_f32(&packed.trees, input.data, false, expected_nodes, expected_logits);
    kernels->descend_f32(&packed.trees, input.data, random_below(state, 2) != 0, nodes.data, logits.data);
    assert_memory_equal(nodes.data, expected_nodes, path * sizeof(uint32_t));
    assert_same_floats(logits.data, expected_logits, path, "logits");
    guarded_free(&logits);
    guarded_free(&nodes);
    guarded_free(&input);
    unpack(&packed);
}

/* What node_dot_f32 and two_levels_f32 are given: up to 21 tokens in any order, of which the first `count` take part.
 */
enum { DOT_TOKENS = 21, DOT_LOGITS = 4 };

struct dots {
    struct packed packed;
    struct guarded inputs;
    size_t stride, logit_stride, count;
    uint32_t tokens[DOT_TOKENS];
    float expected[DOT_TOKENS * DOT_LOGITS], actual[DOT_TOKENS * DOT_LOGITS];
};

static void make_dots(struct dots *dots, enum fill kind, size_t width, size_t least_logits, uint64_t *state) {
    dots->packed = pack_random(kind, width, 1, 1, 3, state);
    dots->stride = width + random_below(state, 5);
    dots->logit_stride = least_logits + random_below(state, DOT_LOGITS + 1 - least_logits);
    dots->count = random_below(state, DOT_TOKENS + 1);
    size_t floats = (DOT_TOKENS - 1) * dots->stride + width;
    dots->inputs = guarded_allocate(floats * sizeof(float));
    fill_floats(kind, dots->inputs.data, floats, state);
    for (uint32_t i = 0; i < DOT_TOKENS; i++) {
        size_t j = random_below(state, i + 1);
        dots->tokens[i] = dots->tokens[j];
        dots->tokens[j] = i;
    }
    memset(dots->expected, 0x77, sizeof dots->expected);
    memset(dots->actual, 0x77, sizeof dots->actual);
}

static void free_dots(struct dots *dots) {
    guarded_free(&dots->inputs);
    unpack(&dots->packed);
}

static void check_node_dot(const struct fff_kernels *kernels, enum fill kind, size_t width, uint64_t *state) {
    struct dots dots;
    make_dots(&dots, kind, width, 1, state);
    const struct fff_trees_f32 *trees = &dots.packed.trees;
    size_t row = random_below(state, trees->node_count);
    fff_kernels_generic.node_dot_f32(trees, row, dots.count, dots.tokens, dots.inputs.data, dots.stride, dots.expected,
                                     dots.logit_stride);
    kernels->node_dot_f32(trees, row, dots.count, dots.tokens, dots.inputs.data, dots.stride, dots.actual,
                          dots.logit_stride);
    assert_same_floats(dots.actual, dots.expected, DOT_TOKENS * DOT_LOGITS, "logits");
    free_dots(&dots);
}

/* Against the generic node_dot_f32, a token at a time, which the generic two_levels_f32 is compared with, too. */
static void check_two_levels(const struct fff_kernels *kernels, enum fill kind, size_t width, uint64_t *state) {
    struct dots dots;
    make_dots(&dots, kind, width, 2, state);
    const struct fff_trees_f32 *trees = &dots.packed.trees;
    size_t row = random_below(state, trees->node_count), left_row = random_below(state, trees->node_count - 1);
    for (size_t i = 0; i < dots.count; i++) {
        const float *logit = dots.expected + dots.tokens[i] * dots.logit_stride;
        fff_kernels_generic.node_dot_f32(trees, row, 1, &dots.tokens[i], dots.inputs.data, dots.stride, dots.expected,
                                         dots.logit_stride);
        fff_kernels_generic.node_dot_f32(trees, *logit > trees->threshold ? left_row + 1 : left_row, 1, &dots.tokens[i],
                                         dots.inputs.data, dots.stride, dots.expected + 1, dots.logit_stride);
    }
    const struct fff_kernels *const both[] = {&fff_kernels_generic, kernels};
    for (int i = 0; i < 4; i++) {
        memset(dots.actual, 0x77, sizeof dots.actual);
        both[i / 2]->two_levels_f32(trees, row, left_row, dots.count, dots.tokens, dots.inputs.data, dots.stride,
                                    i % 2 != 0, dots.actual, dots.logit_stride);
        assert_same_floats(dots.actual, dots.expected, DOT_TOKENS * DOT_LOGITS, "logits");
    }
    free_dots(&dots);
}

/* What accumulate_f32 is given: `count` tokens, whose outputs come in another order. */
struct sums {
    const struct fff_trees_f32 *trees;
    size_t count;
    const uint32_t *tokens, *nodes;
    const float *activations;
};

static void accumulate(const struct fff_kernels *kernels, const struct sums *sums, unsigned how, float *output,
                       size_t stride) {
    kernels->accumulate_f32(sums->trees, sums->count, sums->tokens, sums->nodes, sums->activations, how, output,
                            stride);
}

/* Streaming stores are for aligned output, which a guarded array seldom is. */
static void check_streamed(const struct fff_kernels *kernels, const struct sums *sums, float *expected) {
    size_t width = sums->trees->output_width, stride = round_up(width + 1, 16);
    float *output = aligned_alloc(64, sums->count * stride * sizeof(float));
    assert_non_null(output);
    for (size_t t = 0; t < sums->count; t++) {
        output[t * stride + width] = 1.5f;
    }
    accumulate(kernels, sums, FFF_WRITE_STREAM, output, stride);
    fff_store_fence();
    accumulate(&fff_kernels_generic, sums, 0, expected, width);
    for (size_t t = 0; t < sums->count; t++) {
        assert_same_floats(output + t * stride, expected + t * width, width, "streamed output");
        assert_true(output[t * stride + width] == 1.5f); /* what is beyond */
    }
    free(output);
}

static void check_accumulate(const struct fff_kernels *kernels, enum fill kind, size_t width, uint64_t *state) {
    enum { TOKENS = 11 };
    size_t trees = 1 + random_below(state, 3), levels = 1 + random_below(state, 5);
    size_t count = random_below(state, TOKENS) + 1, path = trees * levels, entries = count * path;
    struct packed packed = pack_random(kind, 1 + random_below(state, 40), width, trees, levels, state);
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
    accumulate(&fff_kernels_generic, &sums, 0, expected, width);
    accumulate(kernels, &sums, 0, output.data, width);
    assert_same_floats(output.data, expected, count * width, "output");
    accumulate(&fff_kernels_generic, &sums, FFF_WRITE_CONTINUE, expected, width);
    accumulate(kernels, &sums, FFF_WRITE_CONTINUE | FFF_WRITE_STREAM, output.data, width);
    assert_same_floats(output.data, expected, count * width, "continued output");
    check_streamed(kernels, &sums, expected);
    free(expected);
    guarded_free(&output);
    guarded_free(&activations);
    guarded_free(&nodes);
    unpack(&packed);
}

static void check_roots(const struct fff_kernels *kernels, enum fill kind, size_t width, uint64_t *state) {
    size_t trees = 1 + random_below(state, 8), levels = 1 + random_below(state, 3), count = 1 + random_below(state, 11);
    struct packed packed = pack_random(kind, width, 1 + random_below(state, 40), trees, levels, state);
    size_t input_stride = width + random_below(state, 5), logit_stride = trees * levels + random_below(state, 5);
    size_t logit_bytes = ((count - 1) * logit_stride + (trees - 1) * levels + 1) * sizeof(float);
    struct guarded input = guarded_allocate(((count - 1) * input_stride + width) * sizeof(float));
    struct guarded logits = guarded_allocate(logit_bytes);
    float *expected = malloc(logit_bytes);
    assert_non_null(expected);
    fill_floats(kind, input.data, input.size / sizeof(float), state);
    memset(logits.data, 0x5a, logit_bytes);
    memset(expected, 0x5a, logit_bytes);
    fff_kernels_generic.roots_f32(&packed.trees, count, input.data, input_stride, false, expected, logit_stride);
    kernels->roots_f32(&packed.trees, count, input.data, input_stride, random_below(state, 2) != 0, logits.data,
                       logit_stride);
    assert_same_floats(logits.data, expected, logit_bytes / sizeof(float), "logits, and what is between them");
    free(expected);
    guarded_free(&logits);
    guarded_free(&input);
    unpack(&packed);
}

static void check_add_roots(const struct fff_kernels *kernels, enum fill kind, size_t width, uint64_t *state) {
    size_t trees = 1 + random_below(state, 8), count = 1 + random_below(state, 19);
    struct packed packed = pack_random(kind, 1 + random_below(state, 40), width, trees, 1, state);
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
    for (int i = 0; i < 2; i++) {
        fff_kernels_generic.add_roots_f32(&packed.trees, count, activations.data, activation_stride, hows[i], expected,
                                          output_stride);
        kernels->add_roots_f32(&packed.trees, count, activations.data, activation_stride, hows[i], output.data,
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

/* Calls a check for every width with every kind of numbers, twice for the small ones. */
static void for_all_widths(const struct fff_kernels *kernels, const char *name,
                           void (*check)(const struct fff_kernels *, enum fill, size_t, uint64_t *)) {
    uint64_t state = test_random(name);
    for (size_t i = 0; i < WIDTHS; i++) {
        for (int kind = 0; kind < FILL_KINDS; kind++) {
            for (int repeat = 0; repeat < (i < SMALL_WIDTHS ? 2 : 1); repeat++) {
                snprintf(situation, sizeof situation, "width %zu, %s, call %d; the random state was %#llx",
                         width_number(i), fill_name((enum fill)kind), repeat + 1, (unsigned long long)state);
                check(kernels, (enum fill)kind, width_number(i), &state);
            }
        }
    }
    situation[0] = '\0';
}

/* The instruction set under test; skipped here if the machine lacks it. */
static const struct fff_kernels *kernels_under_test(void **test_state) {
    fff_isa isa = (fff_isa) * (const int *)*test_state;
    SKIP_UNLESS_USABLE(isa);
    return fff_kernels_of(isa);
}

static void test_descend(void **test_state) {
    for_all_widths(kernels_under_test(test_state), "descend_f32", check_descend);
}

static void test_node_dot(void **test_state) {
    for_all_widths(kernels_under_test(test_state), "node_dot_f32", check_node_dot);
}

static void test_two_levels(void **test_state) {
    for_all_widths(kernels_under_test(test_state), "two_levels_f32", check_two_levels);
}

static void test_accumulate(void **test_state) {
    for_all_widths(kernels_under_test(test_state), "accumulate_f32", check_accumulate);
}

static void test_roots(void **test_state) {
    for_all_widths(kernels_under_test(test_state), "roots_f32", check_roots);
}

static void test_add_roots(void **test_state) {
    for_all_widths(kernels_under_test(test_state), "add_roots_f32", check_add_roots);
}

static void test_activate(void **test_state) {
    enum { COUNTS = 70, SWEEP = 1 << 20 };
    const struct fff_kernels *kernels = kernels_under_test(test_state);
    uint64_t state = test_random("activate_f32");
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
                fff_kernels_generic.activate_f32(activation, count, logits.data, expected);
                kernels->activate_f32(activation, count, logits.data, actual.data);
                assert_same_floats(actual.data, expected, count, "activations");
                kernels->activate_f32(activation, count, logits.data, logits.data);
                assert_same_floats(logits.data, expected, count, "activations in place");
                guarded_free(&actual);
                guarded_free(&logits);
            }
        }
        snprintf(situation, sizeof situation, "activation %d, the sweep", a);
        /* A sweep over all bit patterns, evenly spaced from a random start. */
        float *logits = malloc(SWEEP * sizeof(float)), *expected = malloc(SWEEP * sizeof(float));
        assert_non_null(logits);
        assert_non_null(expected);
        uint32_t bits = (uint32_t)random_bits(&state);
        for (size_t i = 0; i < SWEEP; i++, bits += UINT32_MAX / SWEEP) {
            memcpy(&logits[i], &bits, sizeof bits);
        }
        fff_kernels_generic.activate_f32(activation, SWEEP, logits, expected);
        kernels->activate_f32(activation, SWEEP, logits, logits);
        assert_same_floats(logits, expected, SWEEP, "activations over all bit patterns");
        free(logits);
        free(expected);
    }
    situation[0] = '\0';
}

int main(void) {
    static const struct {
        const char *name;
        CMUnitTestFunction test;
    } kernels[] = {
        {"descend_f32", test_descend},     {"node_dot_f32", test_node_dot},     {"two_levels_f32", test_two_levels},
        {"activate_f32", test_activate},   {"accumulate_f32", test_accumulate}, {"roots_f32", test_roots},
        {"add_roots_f32", test_add_roots},
    };
    enum { KERNELS = sizeof kernels / sizeof *kernels, FIRST = FFF_ISA_GENERIC + 1, ISAS = FFF_ISA_COUNT - FIRST };
    static int isas[FFF_ISA_COUNT];
    static char names[KERNELS * ISAS][64];
    struct CMUnitTest tests[KERNELS * ISAS];
    size_t count = 0;
    test_start("test_kernels");
    for (int isa = FIRST; isa < FFF_ISA_COUNT; isa++) {
        isas[isa] = isa;
        for (size_t k = 0; k < KERNELS; k++, count++) {
            snprintf(names[count], sizeof names[count], "%s/%s", kernels[k].name, fff_isa_name((fff_isa)isa));
            tests[count] = (struct CMUnitTest){names[count], kernels[k].test, NULL, print_situation, &isas[isa]};
        }
    }
    return cmocka_run_group_tests_name("kernels", tests, NULL, NULL);
}
