/* Tests of what FFF nodes in ggml graphs take: views of inputs, types and views of weights, and bad use. */
#include "example.h"

#include <ggml-backend.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Views and shapes ------------------------------------------------------------------------- */

/* Whether each row of y has the bits that the direct layer gives for that row of x alone. */
static bool same_rows(const struct example_layer *example, const struct ggml_tensor *x, const struct ggml_tensor *y) {
    float *expected = must_have(malloc((size_t)y->ne[0] * sizeof(float)));
    bool same = y->ne[0] == example->shape.output_width && ggml_is_contiguous(y);
    for (int64_t k = 0; k < x->ne[3]; k++) {
        for (int64_t j = 0; j < x->ne[2]; j++) {
            for (int64_t i = 0; i < x->ne[1]; i++) {
                const char *from = (const char *)x->data + i * x->nb[1] + j * x->nb[2] + k * x->nb[3];
                const char *to = (const char *)y->data + i * y->nb[1] + j * y->nb[2] + k * y->nb[3];
                example_forward(example->direct, example->shape, 1, (const float *)(const void *)from, expected);
                same = same && memcmp(expected, to, y->nb[1]) == 0;
            }
        }
    }
    free(expected);
    return same;
}

static bool view_gives_same_rows(const struct example_layer *example, struct ggml_context *ctx, struct ggml_tensor *x) {
    bool same = true;
    fff_ggml_operator *op = example_operator(example, ggml_nrows(x) > 0 ? ggml_nrows(x) : 1, 2);
    struct ggml_tensor *y = example_node(ctx, op, x);
    struct ggml_cgraph *graph = ggml_new_graph(ctx);
    ggml_build_forward_expand(graph, y);
    for (int threads = 1; threads <= 3; threads++) {
        memset(y->data, 0xff, ggml_nbytes(y));
        example_compute(graph, threads);
        for (int d = 1; d < GGML_MAX_DIMS; d++) {
            same = same && y->ne[d] == x->ne[d];
        }
        same = same && same_rows(example, x, y) && fff_ggml_operator_status(op) == FFF_OK;
    }
    fff_ggml_operator_destroy(op);
    return same;
}

static void test_views(void) {
    static const struct shape shapes[] = {{50, 50, 5, 3, FFF_ACTIVATION_SILU, true},
                                          {17, 33, 4, 2, FFF_ACTIVATION_RELU, false},
                                          {40, 24, 0, 64, FFF_ACTIVATION_GELU_TANH, true},
                                          {96, 1, 7, 1, FFF_ACTIVATION_GELU, true}};
    bool same = true, empty = true;
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        struct example_layer example = example_create(shapes[s], 500 + s);
        struct ggml_context *ctx = example_context(4 << 20);
        int64_t width = shapes[s].input_width, wide = 2 * width + 3;
        struct ggml_tensor *x = ggml_new_tensor_4d(ctx, GGML_TYPE_F32, wide, 5, 3, 2);
        uint64_t seed = 600 + s;
        fill(x->data, (size_t)ggml_nelements(x), 1, &seed);
        struct ggml_tensor *narrow = ggml_view_4d(ctx, x, width, 5, 3, 2, x->nb[1], x->nb[2], x->nb[3], 4 * 3);
        struct ggml_tensor *part = ggml_view_4d(ctx, x, width, 4, 3, 2, x->nb[1], x->nb[2], x->nb[3], x->nb[1]);
        struct ggml_tensor *single = ggml_view_4d(ctx, x, width, 1, 3, 2, x->nb[1], x->nb[2], x->nb[3], x->nb[1]);
        struct ggml_tensor *row = ggml_view_1d(ctx, x, width, 4);
        struct ggml_tensor *views[] = {narrow,
                                       part,
                                       single,
                                       row,
                                       ggml_permute(ctx, narrow, 0, 2, 1, 3),
                                       ggml_permute(ctx, part, 0, 3, 1, 2),
                                       ggml_cont(ctx, narrow)};
        for (size_t v = 0; v < sizeof views / sizeof *views; v++) {
            same = same && view_gives_same_rows(&example, ctx, views[v]);
        }
        struct ggml_tensor *none = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, width, 0, 3);
        empty = empty && view_gives_same_rows(&example, ctx, none);
        ggml_free(ctx);
        example_free(&example);
    }
    example_check(same, "four shapes of layers, inputs of 1 to 4 dimensions, strided, partial and permuted views");
    example_check(empty, "a batch of 0 gives an empty tensor");
}

/* ---- Weights ----------------------------------------------------------------------------------- */

enum { TOKENS = 9 };

/* The layer's output for seeded inputs, in the context's memory. */
static struct ggml_tensor *output_of(struct ggml_context *ctx, const fff_ggml_weights *weights) {
    struct example_layer example = {0};
    must(fff_ggml_layer_create(weights, &example.layer), "fff_ggml_layer_create");
    fff_ggml_operator *op = example_operator(&example, TOKENS, 1);
    struct ggml_tensor *x = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, weights->input_weights->ne[0], TOKENS);
    uint64_t seed = 800;
    fill(x->data, (size_t)ggml_nelements(x), 1, &seed);
    struct ggml_tensor *y = example_node(ctx, op, x);
    struct ggml_cgraph *graph = ggml_new_graph(ctx);
    ggml_build_forward_expand(graph, y);
    example_compute(graph, 2);
    fff_ggml_operator_destroy(op);
    fff_ggml_layer_destroy(example.layer);
    return y;
}

/* A copy of a tensor in another type; the tensor then gets the values that the copy stands for. */
static struct ggml_tensor *narrow(struct ggml_context *ctx, struct ggml_tensor *wide, enum ggml_type type) {
    struct ggml_tensor *made = ggml_new_tensor(ctx, type, GGML_MAX_DIMS, wide->ne);
    if (type == GGML_TYPE_F16) {
        ggml_fp32_to_fp16_row(wide->data, made->data, ggml_nelements(wide));
        ggml_fp16_to_fp32_row(made->data, wide->data, ggml_nelements(wide));
    } else {
        ggml_fp32_to_bf16_row(wide->data, made->data, ggml_nelements(wide));
        ggml_bf16_to_fp32_row(made->data, wide->data, ggml_nelements(wide));
    }
    return made;
}

static bool same_data(const struct ggml_tensor *a, const struct ggml_tensor *b) {
    return ggml_nbytes(a) == ggml_nbytes(b) && memcmp(a->data, b->data, ggml_nbytes(a)) == 0;
}

static void test_weights(void) {
    static const enum ggml_type types[] = {GGML_TYPE_F16, GGML_TYPE_BF16};
    static const struct shape shape = {48, 32, 6, 2, FFF_ACTIVATION_GELU, true};
    for (int t = 0; t < 2; t++) {
        struct example_layer example = example_create(shape, 700);
        struct ggml_context *ctx = example_context(4 << 20);
        fff_ggml_weights weights = example_weights(&example);
        weights.input_weights = narrow(ctx, example.input_weights, types[t]);
        weights.biases = narrow(ctx, example.biases, types[t]);
        weights.output_weights = narrow(ctx, example.output_weights, types[t]);
        const struct ggml_tensor *of_narrow = output_of(ctx, &weights);
        weights = example_weights(&example);
        const struct ggml_tensor *of_wide = output_of(ctx, &weights);
        bool same = same_data(of_narrow, of_wide);
        example_check(same, t == 0 ? "weights of F16 give the bits of F32" : "weights of BF16 give the bits of F32");
        struct ggml_tensor *node_major = ggml_cont(ctx, ggml_transpose(ctx, example.output_weights));
        struct ggml_cgraph *graph = ggml_new_graph(ctx);
        ggml_build_forward_expand(graph, node_major);
        example_compute(graph, 1);
        weights.output_weights = ggml_transpose(ctx, node_major);
        same = same_data(output_of(ctx, &weights), of_wide);
        if (t == 0) {
            example_check(same, "node-major output weights, through ggml_transpose()");
        }
        ggml_free(ctx);
        example_free(&example);
    }
}

/* ---- Bad use ----------------------------------------------------------------------------------- */

static void test_bad_weights(void) {
    struct example_layer example = example_create((struct shape){8, 8, 2, 3, FFF_ACTIVATION_GELU, true}, 900);
    struct ggml_context *ctx = example_context(1 << 20);
    const fff_ggml_weights good = example_weights(&example);
    fff_ggml_layer *none = NULL;
    fff_ggml_weights bad;
#define EXPECT(expected, what, ...)                                                                                    \
    bad = good;                                                                                                        \
    __VA_ARGS__;                                                                                                       \
    example_expect(fff_ggml_layer_create(&bad, &none), expected, what)
    EXPECT(FFF_ERROR_NULL_POINTER, "no input weights", bad.input_weights = NULL);
    EXPECT(FFF_ERROR_NULL_POINTER, "no output weights", bad.output_weights = NULL);
    EXPECT(FFF_GGML_ERROR_SHAPE, "wrong depth", bad.depth = 3);
    EXPECT(FFF_GGML_ERROR_SHAPE, "depth beyond the most", bad.depth = 1000);
    EXPECT(FFF_GGML_ERROR_SHAPE, "no trees", bad.trees = 0);
    EXPECT(FFF_GGML_ERROR_SHAPE, "wrong number of trees", bad.trees = 2);
    EXPECT(FFF_GGML_ERROR_SHAPE, "swapped weights", bad.input_weights = good.output_weights);
    EXPECT(FFF_GGML_ERROR_SHAPE, "too few biases", bad.biases = ggml_view_1d(ctx, example.biases, 20, 0));
    EXPECT(FFF_GGML_ERROR_SHAPE, "too few output rows",
           bad.output_weights = ggml_view_2d(ctx, example.output_weights, 20, 8, example.output_weights->nb[1], 0));
    EXPECT(FFF_GGML_ERROR_SHAPE, "three dimensions",
           bad.input_weights = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, 8, 21, 2));
    EXPECT(FFF_GGML_ERROR_TYPE, "weights of I32", bad.input_weights = ggml_new_tensor_2d(ctx, GGML_TYPE_I32, 8, 21));
    EXPECT(FFF_GGML_ERROR_TYPE, "biases of I32", bad.biases = ggml_new_tensor_1d(ctx, GGML_TYPE_I32, 21));
    struct ggml_tensor *gaps = ggml_view_1d(ctx, example.input_weights, 21, 0);
    gaps->nb[0] = 8;
    EXPECT(FFF_GGML_ERROR_STRIDE, "biases with gaps", bad.biases = gaps);
    EXPECT(FFF_ERROR_STRIDE, "rows over each other",
           bad.input_weights = ggml_view_2d(ctx, example.input_weights, 8, 21, 4, 0));
    EXPECT(FFF_ERROR_OPTION, "no such activation", bad.activation = (fff_activation)99);
    EXPECT(FFF_ERROR_OPTION, "no such routing", bad.routing = (fff_routing)99);
    ggml_set_no_alloc(ctx, true);
    EXPECT(FFF_GGML_ERROR_DATA, "no data", bad.input_weights = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, 8, 21));
#undef EXPECT
    example_expect(fff_ggml_layer_create(NULL, &none), FFF_ERROR_NULL_POINTER, "no description");
    example_expect(fff_ggml_layer_create(&good, NULL), FFF_ERROR_NULL_POINTER, "no place for the layer");
    example_check(example_all_expected() && none == NULL, "bad weights are refused, each with its own status");
    ggml_free(ctx);
    example_free(&example);
}

static void test_bad_nodes(void) {
    struct example_layer example = example_create((struct shape){8, 6, 2, 1, FFF_ACTIVATION_GELU, false}, 901);
    struct ggml_context *ctx = example_context(1 << 20);
    fff_ggml_operator *op = NULL;
    static const int counts[][2] = {{0, 1}, {-1, 1}, {1, 0}, {1, -1}, {1, GGML_MAX_N_THREADS + 1}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        int status = fff_ggml_operator_create(example.layer, counts[i][0], counts[i][1], &op);
        example_expect(status, FFF_GGML_ERROR_COUNT, "tokens and threads");
    }
    example_expect(fff_ggml_operator_create(NULL, 1, 1, &op), FFF_ERROR_NULL_POINTER, "no layer");
    example_expect(fff_ggml_operator_create(example.layer, 1, 1, NULL), FFF_ERROR_NULL_POINTER,
                   "no place for the operator");
    example_expect(fff_ggml_operator_status(NULL), FFF_ERROR_NULL_POINTER, "status of no operator");
    example_check(example_all_expected() && op == NULL, "operators for no tokens or no threads are refused");

    op = example_operator(&example, 10, 2);
    struct ggml_tensor *x = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, 8, 10), *y = NULL;
    example_expect(fff_ggml_forward(NULL, op, x, &y), FFF_ERROR_NULL_POINTER, "no context");
    example_expect(fff_ggml_forward(ctx, NULL, x, &y), FFF_ERROR_NULL_POINTER, "no operator");
    example_expect(fff_ggml_forward(ctx, op, NULL, &y), FFF_ERROR_NULL_POINTER, "no input");
    example_expect(fff_ggml_forward(ctx, op, x, NULL), FFF_ERROR_NULL_POINTER, "no place for the node");
#define EXPECT(expected, what, tensor) example_expect(fff_ggml_forward(ctx, op, tensor, &y), expected, what)
    EXPECT(FFF_GGML_ERROR_TYPE, "F16", ggml_new_tensor_2d(ctx, GGML_TYPE_F16, 8, 10));
    EXPECT(FFF_GGML_ERROR_TYPE, "I32", ggml_new_tensor_2d(ctx, GGML_TYPE_I32, 8, 10));
    EXPECT(FFF_GGML_ERROR_WIDTH, "too wide", ggml_new_tensor_2d(ctx, GGML_TYPE_F32, 9, 10));
    EXPECT(FFF_GGML_ERROR_WIDTH, "too narrow", ggml_new_tensor_2d(ctx, GGML_TYPE_F32, 7, 10));
    EXPECT(FFF_GGML_ERROR_BATCH, "11 tokens", ggml_new_tensor_2d(ctx, GGML_TYPE_F32, 8, 11));
    EXPECT(FFF_GGML_ERROR_BATCH, "3 times 4 tokens", ggml_new_tensor_3d(ctx, GGML_TYPE_F32, 8, 4, 3));
    struct ggml_tensor *square = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, 8, 8);
    EXPECT(FFF_GGML_ERROR_STRIDE, "transposed", ggml_transpose(ctx, square));
    struct ggml_tensor *apart = ggml_permute(ctx, ggml_new_tensor_3d(ctx, GGML_TYPE_F32, 2, 8, 5), 2, 0, 1, 3);
    EXPECT(FFF_GGML_ERROR_STRIDE, "elements apart", apart);
    EXPECT(FFF_GGML_ERROR_STRIDE, "rows over each other", ggml_view_2d(ctx, square, 8, 8, 16, 0));
    EXPECT(FFF_GGML_ERROR_STRIDE, "rows at odd bytes", ggml_view_2d(ctx, square, 8, 2, 33, 0));
    struct ggml_context *full =
        must_have(ggml_init((struct ggml_init_params){.mem_size = ggml_tensor_overhead() + 64}));
    example_expect(fff_ggml_forward(full, op, x, &y), FFF_GGML_ERROR_CONTEXT, "no room for the data");
    ggml_set_no_alloc(full, true);
    struct ggml_tensor *fits = NULL;
    example_expect(fff_ggml_forward(full, op, x, &fits), FFF_OK, "room for a tensor without data");
    while (fff_ggml_forward(full, op, x, &fits) == FFF_OK) { /* until it is full */
    }
    example_expect(fff_ggml_forward(full, op, x, &y), FFF_GGML_ERROR_CONTEXT, "no room for the tensor");
    ggml_free(full);
    example_check(example_all_expected() && y == NULL, "bad inputs are refused, each with its own status");

    y = example_node(ctx, op, x);
    struct ggml_cgraph *graph = ggml_new_graph(ctx);
    ggml_build_forward_expand(graph, y);
    void *own = y->data;
    y->data = (char *)x->data + 16;
    example_compute(graph, 2);
    bool nan = true;
    for (int64_t i = 0; i < ggml_nelements(y); i++) {
        nan = nan && isnan(((float *)y->data)[i]);
    }
    example_expect(fff_ggml_operator_status(op), FFF_ERROR_OVERLAP, "an output over its input");
    y->data = own;
    example_compute(graph, 2);
    example_expect(fff_ggml_operator_status(op), FFF_OK, "the graph repaired");
    example_check(example_all_expected() && nan, "a failure during a computation is told, and gives NaN");
    ggml_free(ctx);
    fff_ggml_operator_destroy(op);
    example_free(&example);
    fff_ggml_operator_destroy(NULL);
    fff_ggml_layer_destroy(NULL);
}

int main(void) {
    test_views();
    test_weights();
    test_bad_weights();
    test_bad_nodes();
    return example_failures() > 0;
}
