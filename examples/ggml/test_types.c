/* Tests of FFF nodes with other types than F32: the bits of a layer that libfff makes of the same stored values, for
 * all weights, and of fff_forward_typed(), for all tokens; and bad use. */
#include "example.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS = 40, PLAIN = 3 };

static const enum ggml_type plain[PLAIN] = {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16};
static const fff_weight_type plain_types[PLAIN] = {FFF_WEIGHT_F32, FFF_WEIGHT_F16, FFF_WEIGHT_BF16};

/* A copy in another type, rounded or quantised by ggml. */
static struct ggml_tensor *copy_as(struct ggml_context *ctx, const struct ggml_tensor *from, enum ggml_type type) {
    struct ggml_tensor *made = ggml_new_tensor(ctx, type, GGML_MAX_DIMS, from->ne);
    ggml_quantize_chunk(type, from->data, made->data, 0, ggml_nrows(from), from->ne[0], NULL);
    return made;
}

/* What a layer of these weights is to give, made by libfff alone. */
struct direct {
    fff_layer_desc desc;
    struct shape shape;
};

static struct direct direct_from(const struct example_layer *example) {
    size_t in = (size_t)example->shape.input_width, out = (size_t)example->shape.output_width;
    size_t rows = (size_t)example->input_weights->ne[1];
    return (struct direct){{.struct_size = sizeof(fff_layer_desc),
                            .input_width = in,
                            .output_width = out,
                            .depth = example->shape.depth,
                            .trees = example->shape.trees,
                            .activation = example->shape.activation,
                            .input_weights = {NULL, in, 1},
                            .biases = example->biases != NULL ? example->biases->data : NULL,
                            .output_weights = {NULL, 1, rows}},
                           example->shape};
}

/* The node's output, in the context's memory; the same from one of ggml's threads as from `most`. */
static struct ggml_tensor *output_of(struct ggml_context *ctx, fff_ggml_operator *op, struct ggml_tensor *x, int most) {
    struct ggml_tensor *y = example_node(ctx, op, x);
    struct ggml_cgraph *graph = ggml_new_graph(ctx);
    ggml_build_forward_expand(graph, y);
    void *first = must_have(malloc(ggml_nbytes(y)));
    for (int threads = 1; threads <= most; threads++) {
        memset(y->data, 0xff, ggml_nbytes(y));
        example_compute(graph, threads);
        must(fff_ggml_operator_status(op), "fff_ggml_operator_status");
        if (threads == 1) {
            memcpy(first, y->data, ggml_nbytes(y));
        }
    }
    must(memcmp(first, y->data, ggml_nbytes(y)) == 0 ? FFF_OK : FFF_ERROR_OPTION, "one thread and more");
    free(first);
    return y;
}

/* Whether ggml's layer has the types, the memory and the bits of the direct one, for F32 tokens. */
static bool same_layer(const fff_ggml_weights *weights, const struct direct *direct) {
    struct example_layer example = {0};
    must(fff_ggml_layer_create(weights, &example.layer), "fff_ggml_layer_create");
    fff_layer *expected = NULL;
    must((int)fff_layer_create(&direct->desc, &expected), "fff_layer_create");
    const fff_layer *behind = fff_ggml_layer_behind(example.layer);
    bool same = fff_layer_input_type(behind) == fff_layer_input_type(expected) &&
                fff_layer_output_type(behind) == fff_layer_output_type(expected) &&
                fff_layer_memory(behind) == fff_layer_memory(expected);
    struct ggml_context *ctx = example_context(1 << 20);
    struct ggml_tensor *x = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, direct->shape.input_width, TOKENS);
    uint64_t seed = 1000;
    fill(x->data, (size_t)ggml_nelements(x), 1, &seed);
    fff_ggml_operator *op = example_operator(&example, TOKENS, 1);
    struct ggml_tensor *y = output_of(ctx, op, x, 1);
    float *wanted = must_have(malloc(ggml_nbytes(y)));
    example_forward(expected, direct->shape, TOKENS, x->data, wanted);
    same = same && memcmp(wanted, y->data, ggml_nbytes(y)) == 0;
    free(wanted);
    fff_ggml_operator_destroy(op);
    ggml_free(ctx);
    fff_ggml_layer_destroy(example.layer);
    fff_layer_destroy(expected);
    return same;
}

/* ---- Weights ----------------------------------------------------------------------------------- */

/* Compares for every pair of stored types and both kinds of routes; the direct layer stores `open` where the choice is
 * left open. */
static bool same_however_stored(fff_ggml_weights weights, struct direct direct, fff_weight_choice open_input,
                                fff_weight_choice open_output) {
    bool same = true;
    for (int i = FFF_CHOOSE_DEFAULT; i <= FFF_CHOOSE_I8; i++) {
        for (int o = FFF_CHOOSE_DEFAULT; o <= FFF_CHOOSE_I8; o++) {
            for (int routes = FFF_ROUTES_STORED; routes <= FFF_ROUTES_EXACT; routes++) {
                weights.store_input = (fff_weight_choice)i;
                weights.store_output = (fff_weight_choice)o;
                weights.routes = direct.desc.routes = (fff_routes)routes;
                direct.desc.store_input = i == FFF_CHOOSE_DEFAULT ? open_input : (fff_weight_choice)i;
                direct.desc.store_output = o == FFF_CHOOSE_DEFAULT ? open_output : (fff_weight_choice)o;
                same = same_layer(&weights, &direct) && same;
            }
        }
    }
    return same;
}

static void test_plain_weights(void) {
    static const struct shape shape = {48, 40, 6, 2, FFF_ACTIVATION_GELU, true};
    struct example_layer example = example_create(shape, 1001);
    struct ggml_context *ctx = example_context(4 << 20);
    struct ggml_tensor *in[PLAIN], *out[PLAIN], *biases[PLAIN];
    for (int t = 0; t < PLAIN; t++) {
        in[t] = copy_as(ctx, example.input_weights, plain[t]);
        out[t] = copy_as(ctx, example.output_weights, plain[t]);
        biases[t] = copy_as(ctx, example.biases, plain[t]);
    }
    bool same = true;
    for (int i = 0; i < PLAIN; i++) {
        for (int o = 0; o < PLAIN; o++) {
            fff_ggml_weights weights = example_weights(&example);
            weights.input_weights = in[i];
            weights.output_weights = out[o];
            struct direct direct = direct_from(&example);
            direct.desc.input_weights.data = in[i]->data;
            direct.desc.output_weights.data = out[o]->data;
            direct.desc.weight_type = plain_types[i];
            direct.desc.output_weight_type = (fff_weight_choice)(plain_types[o] + 1);
            same = same_however_stored(weights, direct, FFF_CHOOSE_DEFAULT, FFF_CHOOSE_DEFAULT) && same;
        }
    }
    example_check(same, "weights of F32, F16 and BF16, each stored as given and as each other type, both routes");

    bool widened = true;
    for (int t = 1; t < PLAIN; t++) {
        fff_ggml_weights weights = example_weights(&example);
        weights.biases = biases[t];
        struct direct direct = direct_from(&example);
        float *values = must_have(malloc(ggml_nbytes(example.biases)));
        for (int64_t i = 0; i < ggml_nelements(example.biases); i++) {
            values[i] = plain[t] == GGML_TYPE_F16 ? ggml_fp16_to_fp32(((const ggml_fp16_t *)biases[t]->data)[i])
                                                  : ggml_bf16_to_fp32(((const ggml_bf16_t *)biases[t]->data)[i]);
        }
        direct.desc.input_weights.data = example.input_weights->data;
        direct.desc.output_weights.data = example.output_weights->data;
        direct.desc.biases = values;
        widened = same_layer(&weights, &direct) && widened;
        free(values);
    }
    example_check(widened, "biases of F16 and BF16 become float32");
    ggml_free(ctx);
    example_free(&example);
}

/* The values of blocks of 32, by the formats' definition: a scale, and 32 bytes, or 32 halves of bytes less 8. */
static void dequantise(enum ggml_type type, const void *blocks, size_t count, float *values) {
    const uint8_t *block = blocks;
    for (size_t i = 0; i < count; i += 32, block += ggml_type_size(type)) {
        ggml_fp16_t half;
        memcpy(&half, block, sizeof half);
        float scale = ggml_fp16_to_fp32(half);
        for (size_t j = 0; j < 32; j++) {
            int byte = block[sizeof half + (type == GGML_TYPE_Q8_0 ? j : j % 16)];
            int integer = type == GGML_TYPE_Q8_0 ? (int8_t)byte : (j < 16 ? byte & 15 : byte >> 4) - 8;
            values[i + j] = scale * (float)integer;
        }
    }
}

/* A quantised copy, and the float32 values that it stands for. */
struct quantised {
    struct ggml_tensor *tensor;
    float *values;
};

static struct quantised quantise(struct ggml_context *ctx, const struct ggml_tensor *from, enum ggml_type type) {
    struct quantised made = {copy_as(ctx, from, type), must_have(malloc(ggml_nbytes(from)))};
    dequantise(type, made.tensor->data, (size_t)ggml_nelements(from), made.values);
    return made;
}

static void test_quantised_weights(void) {
    static const enum ggml_type types[] = {GGML_TYPE_Q8_0, GGML_TYPE_Q4_0};
    /* 96 rows, so that output weights in PyTorch's shape have whole blocks; 31, so that only node-major ones do */
    static const struct shape shapes[] = {{64, 40, 1, 32, FFF_ACTIVATION_GELU, true},
                                          {32, 64, 4, 1, FFF_ACTIVATION_RELU, false}};
    for (int t = 0; t < 2; t++) {
        bool same = true;
        for (int s = 0; s < 2; s++) {
            struct example_layer example = example_create(shapes[s], 1002);
            struct ggml_context *ctx = example_context(4 << 20);
            struct ggml_tensor *wide = example.output_weights;
            if (s == 1) {
                wide = ggml_cont(ctx, ggml_transpose(ctx, wide));
                struct ggml_cgraph *graph = ggml_new_graph(ctx);
                ggml_build_forward_expand(graph, wide);
                example_compute(graph, 1);
            }
            struct quantised in = quantise(ctx, example.input_weights, types[t]);
            struct quantised out = quantise(ctx, wide, types[t]);
            fff_ggml_weights weights = example_weights(&example);
            struct direct direct = direct_from(&example);
            weights.input_weights = in.tensor;
            weights.output_weights = s == 1 ? ggml_transpose(ctx, out.tensor) : out.tensor;
            direct.desc.input_weights.data = in.values;
            direct.desc.output_weights.data = out.values;
            if (s == 1) {
                direct.desc.output_weights.node_stride = (size_t)shapes[s].output_width;
                direct.desc.output_weights.column_stride = 1;
            }
            same = same_however_stored(weights, direct, FFF_CHOOSE_I8, FFF_CHOOSE_I8) && same;
            weights.output_weights = example.output_weights; /* F32, which stays F32 */
            direct = direct_from(&example);
            direct.desc.input_weights.data = in.values;
            direct.desc.output_weights.data = example.output_weights->data;
            same = same_however_stored(weights, direct, FFF_CHOOSE_I8, FFF_CHOOSE_F32) && same;
            free(in.values);
            free(out.values);
            ggml_free(ctx);
            example_free(&example);
        }
        example_check(same, t == 0 ? "weights of Q8_0, in PyTorch's shape and node-major: stored as int8, or as asked"
                                   : "weights of Q4_0, likewise");
    }
}

/* ---- Tokens ------------------------------------------------------------------------------------ */

/* Whether rows of y have the bits that fff_forward_typed() gives for those of x, each alone. */
static bool same_rows(const struct example_layer *example, int from, int to, const struct ggml_tensor *x,
                      const struct ggml_tensor *y) {
    size_t in = (size_t)example->shape.input_width, out = (size_t)example->shape.output_width, size = 0;
    must((int)fff_workspace_size_typed(example->direct, 1, 1, plain_types[from], plain_types[to], &size), "workspace");
    void *workspace = must_have(malloc(size)), *expected = must_have(malloc(y->nb[1]));
    bool same = true;
    for (int64_t j = 0; j < x->ne[2]; j++) {
        for (int64_t i = 0; i < x->ne[1]; i++) {
            const char *row = (const char *)x->data + i * x->nb[1] + j * x->nb[2];
            must((int)fff_forward_typed(example->direct, 1, plain_types[from], row, in, plain_types[to], expected, out,
                                        workspace, size, NULL),
                 "fff_forward_typed");
            same = same && memcmp(expected, (const char *)y->data + i * y->nb[1] + j * y->nb[2], y->nb[1]) == 0;
        }
    }
    free(workspace);
    free(expected);
    return same;
}

static void test_tokens(void) {
    struct example_layer example = example_create((struct shape){50, 34, 6, 2, FFF_ACTIVATION_GELU, true}, 1003);
    bool same = true;
    for (int from = 0; from < PLAIN; from++) {
        for (int to = 0; to < PLAIN; to++) {
            struct ggml_context *ctx = example_context(4 << 20);
            struct ggml_tensor *values = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, 53, 30, 4);
            uint64_t seed = 1004;
            fill(values->data, (size_t)ggml_nelements(values), 1, &seed);
            struct ggml_tensor *x = copy_as(ctx, values, plain[from]);
            size_t start = 3 * ggml_type_size(x->type);
            struct ggml_tensor *narrow = ggml_view_3d(ctx, x, 50, 30, 4, x->nb[1], x->nb[2], start);
            struct ggml_tensor *views[] = {narrow, ggml_permute(ctx, narrow, 0, 2, 1, 3),
                                           ggml_view_2d(ctx, x, 50, 1, x->nb[1], 0)};
            fff_ggml_operator *op = NULL;
            must(fff_ggml_operator_create_typed(example.layer, 120, 2, plain[from], plain[to], &op), "operator");
            for (size_t v = 0; v < sizeof views / sizeof *views; v++) {
                struct ggml_tensor *y = output_of(ctx, op, views[v], 2);
                same = same && y->type == plain[to] && y->ne[0] == 34 && same_rows(&example, from, to, views[v], y);
            }
            fff_ggml_operator_destroy(op);
            ggml_free(ctx);
        }
    }
    example_check(same, "tokens of F32, F16 and BF16, outputs of each: the bits of fff_forward_typed(), strided views");
    example_free(&example);
}

/* Tokens enough for several shares and several passes of each. */
static void test_many_tokens(void) {
    struct example_layer example = example_create((struct shape){64, 64, 9, 1, FFF_ACTIVATION_GELU, false}, 1005);
    struct ggml_context *ctx = example_context(8 << 20);
    struct ggml_tensor *values = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, 64, 5000);
    uint64_t seed = 1006;
    fill(values->data, (size_t)ggml_nelements(values), 1, &seed);
    struct ggml_tensor *x = copy_as(ctx, values, GGML_TYPE_BF16);
    fff_ggml_operator *op = NULL;
    must(fff_ggml_operator_create_typed(example.layer, 5000, 2, GGML_TYPE_BF16, GGML_TYPE_F16, &op), "operator");
    bool same = same_rows(&example, 2, 1, x, output_of(ctx, op, x, 2));
    example_check(same, "5000 tokens of BF16 to F16, on one thread and on two");
    fff_ggml_operator_destroy(op);
    ggml_free(ctx);
    example_free(&example);
}

/* ---- Bad use ----------------------------------------------------------------------------------- */

static void test_bad_weights(void) {
    struct example_layer example = example_create((struct shape){32, 32, 0, 32, FFF_ACTIVATION_GELU, true}, 1007);
    struct ggml_context *ctx = example_context(1 << 20);
    const fff_ggml_weights good = example_weights(&example);
    fff_bad_weight bad_weight = {0};
    fff_ggml_layer *none = NULL;
    fff_ggml_weights bad;
#define EXPECT(expected, what, ...)                                                                                    \
    bad = good;                                                                                                        \
    __VA_ARGS__;                                                                                                       \
    example_expect(fff_ggml_layer_create(&bad, &none), expected, what)
    EXPECT(FFF_GGML_ERROR_TYPE, "Q8_1, which ggml cannot read",
           bad.input_weights = ggml_new_tensor_2d(ctx, GGML_TYPE_Q8_1, 32, 32));
    EXPECT(FFF_GGML_ERROR_TYPE, "int8 without scales",
           bad.output_weights = ggml_new_tensor_2d(ctx, GGML_TYPE_I8, 32, 32));
    EXPECT(FFF_GGML_ERROR_TYPE, "quantised biases", bad.biases = ggml_new_tensor_1d(ctx, GGML_TYPE_Q8_0, 32));
    EXPECT(FFF_GGML_ERROR_STRIDE, "a square of one block a side",
           bad.output_weights = ggml_new_tensor_2d(ctx, GGML_TYPE_Q8_0, 32, 32));
    struct ggml_tensor *apart = ggml_new_tensor_2d(ctx, GGML_TYPE_Q8_0, 64, 32);
    apart->nb[0] *= 2;
    EXPECT(FFF_GGML_ERROR_STRIDE, "blocks apart", bad.output_weights = apart);
    struct ggml_tensor *over = ggml_new_tensor_2d(ctx, GGML_TYPE_Q8_0, 96, 32);
    over->nb[1] = 2 * over->nb[0];
    EXPECT(FFF_GGML_ERROR_STRIDE, "rows of blocks over each other", bad.input_weights = over);
    EXPECT(FFF_ERROR_OPTION, "no such stored type", bad.store_input = (fff_weight_choice)99);
    EXPECT(FFF_ERROR_OPTION, "no such routes", bad.routes = (fff_routes)99);
    float *value = (float *)example.output_weights->data + 5 * 32 + 7; /* column 5 of row 7 */
    *value = 70000;
    EXPECT(FFF_ERROR_WEIGHT, "infinite in float16", bad.bad_weight = &bad_weight, bad.store_output = FFF_CHOOSE_F16);
    bool named = bad_weight.of_output == 1 && bad_weight.row == 7 && bad_weight.column == 5;
    *value = NAN;
    EXPECT(FFF_ERROR_WEIGHT, "NaN as int8", bad.store_output = FFF_CHOOSE_I8);
#undef EXPECT
    example_check(example_all_expected() && named && none == NULL,
                  "bad types of weights are refused, each with its own status");
    ggml_free(ctx);
    example_free(&example);
}

static void test_bad_tokens(void) {
    struct example_layer example = example_create((struct shape){8, 6, 2, 1, FFF_ACTIVATION_GELU, false}, 1008);
    struct ggml_context *ctx = example_context(1 << 20);
    fff_ggml_operator *op = NULL;
    static const enum ggml_type wrong[] = {GGML_TYPE_Q8_0, GGML_TYPE_I8, GGML_TYPE_I32, GGML_TYPE_F64};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        example_expect(fff_ggml_operator_create_typed(example.layer, 10, 2, wrong[i], GGML_TYPE_F32, &op),
                       FFF_GGML_ERROR_TYPE, "tokens that libfff does not have");
        example_expect(fff_ggml_operator_create_typed(example.layer, 10, 2, GGML_TYPE_F32, wrong[i], &op),
                       FFF_GGML_ERROR_TYPE, "outputs that libfff does not have");
    }
    bool none = op == NULL;
    must(fff_ggml_operator_create_typed(example.layer, 10, 2, GGML_TYPE_F16, GGML_TYPE_BF16, &op), "operator");
    struct ggml_tensor *x = ggml_new_tensor_2d(ctx, GGML_TYPE_F16, 8, 10), *y = NULL;
    memset(x->data, 0, ggml_nbytes(x));
    example_expect(fff_ggml_forward(ctx, op, ggml_new_tensor_2d(ctx, GGML_TYPE_F32, 8, 10), &y), FFF_GGML_ERROR_TYPE,
                   "F32");
    example_expect(fff_ggml_forward(ctx, op, ggml_new_tensor_2d(ctx, GGML_TYPE_BF16, 8, 10), &y), FFF_GGML_ERROR_TYPE,
                   "BF16");
    example_expect(fff_ggml_forward(ctx, op, ggml_view_2d(ctx, x, 8, 2, 17, 0), &y), FFF_GGML_ERROR_STRIDE,
                   "odd bytes");
    example_expect(fff_ggml_forward(ctx, op, ggml_view_2d(ctx, x, 8, 8, 8, 0), &y), FFF_GGML_ERROR_STRIDE,
                   "rows over others");
    none = none && y == NULL;

    y = example_node(ctx, op, x);
    struct ggml_cgraph *graph = ggml_new_graph(ctx);
    ggml_build_forward_expand(graph, y);
    void *own = y->data;
    y->data = (char *)x->data + 16;
    example_compute(graph, 2);
    bool nan = true;
    for (int64_t i = 0; i < ggml_nelements(y); i++) {
        nan = nan && isnan(ggml_bf16_to_fp32(((const ggml_bf16_t *)y->data)[i]));
    }
    example_expect(fff_ggml_operator_status(op), FFF_ERROR_OVERLAP, "an output over its input");
    y->data = own;
    x->type = GGML_TYPE_BF16;
    example_compute(graph, 2);
    example_expect(fff_ggml_operator_status(op), FFF_GGML_ERROR_TYPE, "an input whose type was changed");
    example_compute(graph, 2);
    x->type = GGML_TYPE_F16;
    y->data = (char *)x->data + 16;
    example_compute(graph, 2);
    example_expect(fff_ggml_operator_status(op), FFF_GGML_ERROR_TYPE, "the first of two failures");
    y->data = own;
    example_compute(graph, 2);
    example_expect(fff_ggml_operator_status(op), FFF_OK, "the graph repaired");
    example_check(example_all_expected() && none && nan,
                  "bad types of tokens are refused, failures of 16-bit nodes give NaN");
    ggml_free(ctx);
    fff_ggml_operator_destroy(op);
    example_free(&example);
}

int main(void) {
    test_plain_weights();
    test_quantised_weights();
    test_tokens();
    test_many_tokens();
    test_bad_weights();
    test_bad_tokens();
    return example_failures() > 0;
}
