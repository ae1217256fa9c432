/* Tests of layers of several parts in ggml graphs, of thresholds, factors and output biases: the bits of the layer that
 * libfff makes of the same numbers; and bad use. */
#include "example.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IN = 24, OUT = 10, TOKENS = 150, PARTS = 3 };
enum { TREES = 2, DEPTH = 3, ROWS = 30, NODES = 7, LEAVES = 8, WIDTH = 5, MASTER = 6 };

/* A path sum, leaves, and a leaf that every token takes, as arXiv 2405.16836 has it beside a tree; for ggml and for
 * libfff. */
struct forest {
    struct ggml_context *ctx;
    fff_ggml_weights parts[PARTS];
    fff_layer_desc direct[PARTS];
    float factors[PARTS];
    fff_bad_weight bad[PARTS];
};

static struct ggml_tensor *filled(struct ggml_context *ctx, int64_t ne0, int64_t ne1, int64_t ne2, float scale,
                                  uint64_t *seed) {
    struct ggml_tensor *made = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, ne0, ne1, ne2);
    fill(made->data, (size_t)ggml_nelements(made), scale, seed);
    return made;
}

static fff_layer_desc direct_part(size_t depth, size_t trees, const float *factor) {
    return (fff_layer_desc){.struct_size = sizeof(fff_layer_desc),
                            .input_width = IN,
                            .output_width = OUT,
                            .depth = depth,
                            .trees = trees,
                            .factor = factor};
}

static void make_paths(struct forest *forest, uint64_t *seed) {
    struct ggml_tensor *in = filled(forest->ctx, IN, ROWS, 1, 0.3f, seed), *biases, *out, *thresholds, *output_bias;
    biases = filled(forest->ctx, ROWS, 1, 1, 0.1f, seed);
    out = filled(forest->ctx, ROWS, OUT, 1, 0.5f, seed);
    thresholds = filled(forest->ctx, ROWS, 1, 1, 0.2f, seed);
    output_bias = filled(forest->ctx, OUT, 1, 1, 1, seed);
    forest->parts[0] = (fff_ggml_weights){.input_weights = in,
                                          .biases = biases,
                                          .output_weights = out,
                                          .depth = DEPTH,
                                          .trees = TREES,
                                          .thresholds = thresholds,
                                          .factor = &forest->factors[0],
                                          .output_bias = output_bias};
    fff_layer_desc *direct = &forest->direct[0];
    *direct = direct_part(DEPTH, TREES, &forest->factors[0]);
    direct->input_weights = (fff_weights){in->data, IN, 1};
    direct->biases = biases->data;
    direct->output_weights = (fff_weights){out->data, 1, ROWS};
    direct->thresholds = thresholds->data;
    direct->output_bias = output_bias->data;
}

static void make_leaves(struct forest *forest, size_t part, int64_t leaves, int64_t width, uint64_t *seed) {
    struct ggml_tensor *nodes = leaves > 1 ? filled(forest->ctx, IN, leaves - 1, 1, 0.3f, seed) : NULL;
    struct ggml_tensor *thresholds = leaves > 1 ? filled(forest->ctx, leaves - 1, 1, 1, 0.2f, seed) : NULL;
    struct ggml_tensor *first = filled(forest->ctx, width, IN, leaves, 0.3f, seed);
    struct ggml_tensor *second = filled(forest->ctx, OUT, width, leaves, 0.5f, seed);
    struct ggml_tensor *last = filled(forest->ctx, OUT, leaves, 1, 0.5f, seed);
    size_t depth = leaves > 1 ? DEPTH : 0;
    forest->parts[part] = (fff_ggml_weights){.input_weights = nodes,
                                             .output_weights = second,
                                             .depth = depth,
                                             .trees = 1,
                                             .activation = FFF_ACTIVATION_RELU,
                                             .routing = FFF_ROUTING_GREATER_EQUAL,
                                             .leaf_weights = first,
                                             .leaf_output_biases = last,
                                             .thresholds = thresholds,
                                             .factor = &forest->factors[part]};
    fff_layer_desc *direct = &forest->direct[part];
    *direct = direct_part(depth, 1, &forest->factors[part]);
    direct->activation = FFF_ACTIVATION_RELU;
    direct->routing = FFF_ROUTING_GREATER_EQUAL;
    direct->input_weights = (fff_weights){nodes != NULL ? nodes->data : NULL, IN, 1};
    direct->thresholds = thresholds != NULL ? thresholds->data : NULL;
    direct->leaf_width = (size_t)width;
    direct->leaf_weights = (fff_weights){first->data, 1, (size_t)width};
    direct->leaf_stride = (size_t)width * IN;
    direct->output_weights = (fff_weights){second->data, OUT, 1};
    direct->leaf_output_biases = (fff_weights){last->data, OUT, 1};
}

static struct forest *forest_create(void) {
    struct forest *made = must_have(calloc(1, sizeof *made));
    uint64_t seed = 3001;
    made->ctx = example_context(1 << 20);
    made->factors[0] = -1.5f, made->factors[1] = 0.7f, made->factors[2] = 0.3f;
    make_paths(made, &seed);
    make_leaves(made, 1, LEAVES, WIDTH, &seed);
    make_leaves(made, 2, 1, MASTER, &seed);
    for (size_t part = 0; part < PARTS; part++) {
        made->parts[part].next = part + 1 < PARTS ? &made->parts[part + 1] : NULL;
        made->direct[part].next = part + 1 < PARTS ? &made->direct[part + 1] : NULL;
        made->parts[part].bad_weight = &made->bad[part];
    }
    return made;
}

static void forest_free(struct forest *forest) {
    ggml_free(forest->ctx);
    free(forest);
}

/* ---- Bits -------------------------------------------------------------------------------------- */

/* Whether ggml's layer has the bits of the direct one, on one thread and on two. */
static bool same(const fff_ggml_weights *weights, const fff_layer_desc *desc) {
    struct example_layer example = {0};
    must(fff_ggml_layer_create(weights, &example.layer), "fff_ggml_layer_create");
    must((int)fff_layer_create(desc, &example.direct), "fff_layer_create");
    example.ctx = example_context(1 << 20);
    uint64_t seed = 3002;
    struct ggml_tensor *x = filled(example.ctx, IN, TOKENS, 1, 1, &seed);
    fff_ggml_operator *op = example_operator(&example, TOKENS, 2);
    struct ggml_tensor *y = example_node(example.ctx, op, x);
    struct ggml_cgraph *graph = ggml_new_graph(example.ctx);
    ggml_build_forward_expand(graph, y);
    static float wanted[TOKENS][OUT];
    const struct shape widths = {.input_width = IN, .output_width = OUT};
    example_forward(example.direct, widths, TOKENS, x->data, wanted[0]);
    bool right = ggml_nbytes(y) == sizeof wanted;
    for (int threads = 1; threads <= 2 && right; threads++) {
        memset(y->data, 0xff, sizeof wanted);
        example_compute(graph, threads);
        must(fff_ggml_operator_status(op), "fff_ggml_operator_status");
        right = memcmp(wanted, y->data, sizeof wanted) == 0;
    }
    fff_ggml_operator_destroy(op);
    example_free(&example);
    return right;
}

static void test_parts(void) {
    struct forest *forest = forest_create();
    bool right = same(&forest->parts[0], &forest->direct[0]); /* all, the last two, the last */
    right = same(&forest->parts[1], &forest->direct[1]) && right;
    right = same(&forest->parts[2], &forest->direct[2]) && right;
    example_check(right, "layers of 1 to 3 parts, thresholds and factors: the bits of the C layer");
    forest_free(forest);
}

static void test_types(void) {
    struct forest *forest = forest_create();
    const struct ggml_tensor *thresholds = forest->parts[0].thresholds, *bias = forest->parts[0].output_bias;
    float limits[ROWS], biases[OUT];
    forest->parts[0].thresholds = ggml_new_tensor_1d(forest->ctx, GGML_TYPE_F16, ROWS);
    forest->parts[0].output_bias = ggml_new_tensor_1d(forest->ctx, GGML_TYPE_BF16, OUT);
    ggml_fp32_to_fp16_row(thresholds->data, forest->parts[0].thresholds->data, ROWS);
    ggml_fp16_to_fp32_row(forest->parts[0].thresholds->data, limits, ROWS);
    ggml_fp32_to_bf16_row(bias->data, forest->parts[0].output_bias->data, OUT);
    ggml_bf16_to_fp32_row(forest->parts[0].output_bias->data, biases, OUT);
    forest->direct[0].thresholds = limits;
    forest->direct[0].output_bias = biases;
    example_check(same(&forest->parts[0], &forest->direct[0]), "thresholds of F16 and output biases of BF16");
    forest_free(forest);
}

/* What passes above has used each of them. */
static void test_each_matters(void) {
    struct forest *forest = forest_create();
    fff_ggml_weights changed[6];
    for (size_t i = 0; i < sizeof changed / sizeof *changed; i++) {
        changed[i] = forest->parts[i == 5];
    }
    changed[0].thresholds = NULL;
    changed[1].factor = NULL;
    changed[2].output_bias = NULL;
    changed[3].next = NULL;
    changed[4].next = forest->parts[1].next;
    changed[5].thresholds = NULL;
    bool differ = true;
    for (size_t i = 0; i < sizeof changed / sizeof *changed; i++) {
        differ = differ && !same(&changed[i], &forest->direct[i == 5]);
    }
    example_check(differ, "without thresholds, factor, output bias or a part a layer has other bits");
    forest_free(forest);
}

/* ---- Bad use ----------------------------------------------------------------------------------- */

static void expect(const fff_ggml_weights *weights, int expected, const char *what) {
    fff_ggml_layer *none = NULL;
    example_expect(fff_ggml_layer_create(weights, &none), expected, what);
    if (none != NULL) {
        example_check(false, what);
    }
}

static void test_bad_use(void) {
    struct forest *forest = forest_create();
    struct ggml_context *ctx = forest->ctx;
    fff_ggml_weights *parts = forest->parts, good = parts[0], last = parts[2];
    parts[0].thresholds = ggml_new_tensor_1d(ctx, GGML_TYPE_F32, ROWS - 1);
    expect(parts, FFF_GGML_ERROR_SHAPE, "a threshold too few");
    parts[0].thresholds = ggml_new_tensor_1d(ctx, GGML_TYPE_I32, ROWS);
    expect(parts, FFF_GGML_ERROR_TYPE, "thresholds of I32");
    parts[0] = good;
    parts[0].output_bias = ggml_new_tensor_1d(ctx, GGML_TYPE_F32, OUT + 1);
    expect(parts, FFF_GGML_ERROR_SHAPE, "an output bias too many");
    parts[0] = good;
    parts[2].thresholds = ggml_new_tensor_1d(ctx, GGML_TYPE_F32, 1);
    expect(parts, FFF_GGML_ERROR_SHAPE, "thresholds without nodes");
    parts[2] = last;
    parts[2].output_bias = good.output_bias;
    expect(parts, FFF_ERROR_PARTS, "an output bias of a later part");
    parts[2] = last;
    parts[2].output_weights = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, OUT + 1, MASTER, 1);
    parts[2].leaf_output_biases = NULL;
    expect(parts, FFF_ERROR_PARTS, "parts of different widths");
    parts[2] = last;
    parts[2].next = parts;
    expect(parts, FFF_ERROR_PARTS, "parts without an end");
    parts[2] = last;
    parts[2].output_weights = NULL;
    expect(parts, FFF_ERROR_NULL_POINTER, "a part without output weights");
    parts[2] = last;
    forest->factors[1] = INFINITY;
    expect(parts, FFF_ERROR_NUMBER, "an infinite factor");
    forest->factors[1] = 0.7f;
    ((float *)parts[1].thresholds->data)[3] = NAN;
    expect(parts, FFF_ERROR_NUMBER, "a threshold that is no number");
    ((float *)parts[1].thresholds->data)[3] = 0;
    ((float *)parts[1].leaf_weights->data)[2 * WIDTH + 4] = 70000;
    parts[1].store_input = FFF_CHOOSE_F16;
    expect(parts, FFF_ERROR_WEIGHT, "infinite in float16");
    bool named = forest->bad[1].of_output == 2 && forest->bad[1].row == 4 && forest->bad[1].column == 2;
    example_check(example_all_expected() && named, "bad parts are refused, each with its own status");
    forest_free(forest);
}

int main(void) {
    test_parts();
    test_types();
    test_each_matters();
    test_bad_use();
    return example_failures() > 0;
}
