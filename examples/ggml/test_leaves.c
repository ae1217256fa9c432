/* Tests of leaf layers in ggml graphs: the bits of the layer that libfff makes of the same numbers, given node-major;
 * and bad use. */
#include "example.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS = 150, PLAIN = 3 };

static const enum ggml_type plain[PLAIN] = {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16};

struct leaf_shape {
    int64_t input_width, leaf_width, output_width;
    size_t depth, trees;
    fff_activation activation;
    fff_routing routing;
    bool biases;
};

/* The tensors of a leaf layer; NULL where there is none. */
struct tensors {
    struct leaf_shape shape;
    struct ggml_context *ctx;
    struct ggml_tensor *nodes, *node_biases, *w1s, *b1s, *w2s, *b2s;
};

static struct ggml_tensor *filled(struct ggml_context *ctx, int64_t ne0, int64_t ne1, int64_t ne2, float scale,
                                  uint64_t *seed) {
    struct ggml_tensor *made = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, ne0, ne1, ne2);
    fill(made->data, (size_t)ggml_nelements(made), scale, seed);
    return made;
}

static struct tensors tensors_create(struct leaf_shape shape, uint64_t seed) {
    int64_t trees = (int64_t)shape.trees, leaves = trees << shape.depth, nodes = leaves - trees;
    int64_t in = shape.input_width, width = shape.leaf_width, out = shape.output_width;
    float scale = 1.7f / sqrtf((float)in);
    struct tensors made = {.shape = shape, .ctx = example_context(16 << 20)};
    made.nodes = nodes > 0 ? filled(made.ctx, in, nodes, 1, scale, &seed) : NULL;
    made.w1s = filled(made.ctx, width, in, leaves, scale, &seed);
    made.w2s = filled(made.ctx, out, width, leaves, 0.5f, &seed);
    if (shape.biases) {
        made.node_biases = nodes > 0 ? filled(made.ctx, 1, nodes, 1, 0.1f, &seed) : NULL;
        made.b1s = filled(made.ctx, width, leaves, 1, 0.1f, &seed);
        made.b2s = filled(made.ctx, out, leaves, 1, 0.5f, &seed);
    }
    return made;
}

static fff_ggml_weights weights_of(const struct tensors *tensors) {
    return (fff_ggml_weights){.input_weights = tensors->nodes,
                              .biases = tensors->node_biases,
                              .output_weights = tensors->w2s,
                              .depth = tensors->shape.depth,
                              .trees = tensors->shape.trees,
                              .activation = tensors->shape.activation,
                              .routing = tensors->shape.routing,
                              .leaf_weights = tensors->w1s,
                              .leaf_biases = tensors->b1s,
                              .leaf_output_biases = tensors->b2s};
}

/* An adjacent tensor's numbers as float32, by ggml; to free(). NULL for NULL. */
static float *numbers_of(const struct ggml_tensor *tensor) {
    if (tensor == NULL) {
        return NULL;
    }
    size_t count = (size_t)ggml_nelements(tensor);
    float *values = must_have(malloc(count * sizeof *values));
    if (tensor->type == GGML_TYPE_F32) {
        memcpy(values, tensor->data, count * sizeof *values);
    } else {
        ggml_get_type_traits(tensor->type)->to_float(tensor->data, values, ggml_nelements(tensor));
    }
    return values;
}

/* The same layer of float32 copies in libfff's own order, a neuron after another. F16 and BF16 are told by `stored`. */
static fff_layer *direct_layer(const struct tensors *tensors, const fff_ggml_weights *weights,
                               fff_weight_choice store_input, fff_weight_choice store_output) {
    size_t in = (size_t)tensors->shape.input_width, width = (size_t)tensors->shape.leaf_width;
    size_t out = (size_t)tensors->shape.output_width, leaves = (size_t)tensors->w1s->ne[2];
    float *nodes = numbers_of(tensors->nodes), *node_biases = numbers_of(tensors->node_biases);
    float *w1s = numbers_of(tensors->w1s), *b1s = numbers_of(tensors->b1s), *w2s = numbers_of(tensors->w2s);
    float *b2s = numbers_of(tensors->b2s), *rows = must_have(malloc(leaves * width * in * sizeof *rows));
    for (size_t neuron = 0; neuron < leaves * width; neuron++) {
        for (size_t i = 0; i < in; i++) {
            rows[neuron * in + i] = w1s[(neuron / width * in + i) * width + neuron % width];
        }
    }
    const fff_layer_desc desc = {.struct_size = sizeof desc,
                                 .input_width = in,
                                 .output_width = out,
                                 .depth = weights->depth,
                                 .trees = weights->trees,
                                 .activation = weights->activation,
                                 .routing = weights->routing,
                                 .input_weights = {nodes, in, 1},
                                 .biases = node_biases,
                                 .output_weights = {w2s, out, 1},
                                 .store_input = store_input,
                                 .store_output = store_output,
                                 .routes = weights->routes,
                                 .leaf_width = width,
                                 .leaf_weights = {rows, in, 1},
                                 .leaf_biases = b1s,
                                 .leaf_output_biases = {b2s, out, 1}};
    fff_layer *layer = NULL;
    must((int)fff_layer_create(&desc, &layer), "fff_layer_create");
    float *all[] = {nodes, node_biases, w1s, b1s, w2s, b2s, rows};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        free(all[i]);
    }
    return layer;
}

/* Whether ggml's layer of these weights has the memory and, on one thread and on two, the bits of a
 * direct layer. */
static bool same_as(const fff_ggml_weights *weights, const struct leaf_shape *shape, const fff_layer *expected) {
    struct example_layer example = {0};
    must(fff_ggml_layer_create(weights, &example.layer), "fff_ggml_layer_create");
    /* Exact routes of rows stored as given take nothing more; the direct layer is given float32. */
    bool same = weights->routes == FFF_ROUTES_EXACT ||
                fff_layer_memory(fff_ggml_layer_behind(example.layer)) == fff_layer_memory(expected);
    struct ggml_context *ctx = example_context(4 << 20);
    uint64_t seed = 2000;
    struct ggml_tensor *x = filled(ctx, shape->input_width, TOKENS, 1, 1, &seed);
    fff_ggml_operator *op = example_operator(&example, TOKENS, 2);
    struct ggml_tensor *y = example_node(ctx, op, x);
    struct ggml_cgraph *graph = ggml_new_graph(ctx);
    ggml_build_forward_expand(graph, y);
    float *wanted = must_have(malloc(ggml_nbytes(y)));
    const struct shape widths = {.input_width = shape->input_width, .output_width = shape->output_width};
    example_forward(expected, widths, TOKENS, x->data, wanted);
    same = same && y->ne[0] == shape->output_width && y->ne[1] == TOKENS;
    for (int threads = 1; threads <= 2; threads++) {
        memset(y->data, 0xff, ggml_nbytes(y));
        example_compute(graph, threads);
        must(fff_ggml_operator_status(op), "fff_ggml_operator_status");
        same = same && memcmp(wanted, y->data, ggml_nbytes(y)) == 0;
    }
    free(wanted);
    fff_ggml_operator_destroy(op);
    ggml_free(ctx);
    fff_ggml_layer_destroy(example.layer);
    return same;
}

static bool same_stored(const struct tensors *tensors, const fff_ggml_weights *weights, fff_weight_choice store_input,
                        fff_weight_choice store_output) {
    fff_layer *expected = direct_layer(tensors, weights, store_input, store_output);
    bool same = same_as(weights, &tensors->shape, expected);
    fff_layer_destroy(expected);
    return same;
}

/* ---- Bits -------------------------------------------------------------------------------------- */

static void test_shapes(void) {
    static const struct leaf_shape shapes[] = {
        {24, 8, 10, 3, 1, FFF_ACTIVATION_RELU, FFF_ROUTING_GREATER_EQUAL, true},
        {33, 1, 33, 5, 1, FFF_ACTIVATION_GELU, FFF_ROUTING_GREATER_EQUAL, true},
        {40, 7, 21, 2, 3, FFF_ACTIVATION_SILU, FFF_ROUTING_GREATER, true},
        {17, 5, 6, 4, 2, FFF_ACTIVATION_RELU2, FFF_ROUTING_GREATER_EQUAL, false},
        {19, 16, 9, 0, 1, FFF_ACTIVATION_GELU, FFF_ROUTING_GREATER_EQUAL, true},
        {19, 1, 9, 0, 4, FFF_ACTIVATION_IDENTITY, FFF_ROUTING_GREATER, true},
    };
    bool same = true;
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        struct tensors tensors = tensors_create(shapes[s], 2001 + s);
        fff_ggml_weights weights = weights_of(&tensors);
        same = same_stored(&tensors, &weights, FFF_CHOOSE_DEFAULT, FFF_CHOOSE_DEFAULT) && same;
        ggml_free(tensors.ctx);
    }
    example_check(same, "leaf layers of 6 shapes: the bits of the C layer, on 1 and 2 threads");
}

/* Each of the tensors that may be absent, and both routings, change the bits: what passes above has used them. */
static void test_each_matters(void) {
    struct tensors tensors = tensors_create(
        (struct leaf_shape){24, 8, 10, 3, 1, FFF_ACTIVATION_RELU, FFF_ROUTING_GREATER_EQUAL, true}, 2010);
    /* Every logit of the root is 0, where the routings differ. */
    memset(tensors.nodes->data, 0, tensors.nodes->nb[1]);
    memset(tensors.node_biases->data, 0, sizeof(float));
    const fff_ggml_weights good = weights_of(&tensors);
    fff_layer *expected = direct_layer(&tensors, &good, FFF_CHOOSE_DEFAULT, FFF_CHOOSE_DEFAULT);
    fff_ggml_weights changed[4] = {good, good, good, good};
    changed[0].biases = NULL;
    changed[1].leaf_biases = NULL;
    changed[2].leaf_output_biases = NULL;
    changed[3].routing = FFF_ROUTING_GREATER;
    bool differ = same_as(&good, &tensors.shape, expected);
    for (size_t i = 0; i < sizeof changed / sizeof *changed; i++) {
        differ = differ && !same_as(&changed[i], &tensors.shape, expected);
    }
    example_check(differ, "without node_biases, b1s or b2s, or with the other routing, a leaf layer has other bits");
    fff_layer_destroy(expected);
    ggml_free(tensors.ctx);
}

/* The layer is of the instruction set that is asked for, or is refused as libfff refuses it. */
static void test_instruction_sets(void) {
    struct tensors tensors = tensors_create(
        (struct leaf_shape){24, 8, 10, 3, 1, FFF_ACTIVATION_RELU, FFF_ROUTING_GREATER_EQUAL, true}, 2015);
    fff_ggml_weights weights = weights_of(&tensors);
    bool obeyed = true;
    for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
        fff_ggml_layer *layer = NULL;
        weights.isa = (fff_isa)isa;
        int status = fff_ggml_layer_create(&weights, &layer);
        obeyed = obeyed && status == (int)fff_isa_usable(weights.isa) && (layer != NULL) == (status == FFF_OK);
        obeyed = obeyed && (layer == NULL || fff_layer_isa(fff_ggml_layer_behind(layer)) == weights.isa);
        fff_ggml_layer_destroy(layer);
    }
    example_check(obeyed, "a layer of each instruction set, or none where it cannot be used");
    ggml_free(tensors.ctx);
}

/* Other layouts of the same numbers: node biases in one dimension, w1s a neuron after another, w2s a column after
 * another. */
static void test_layouts(void) {
    struct tensors tensors = tensors_create(
        (struct leaf_shape){24, 8, 10, 3, 1, FFF_ACTIVATION_RELU, FFF_ROUTING_GREATER_EQUAL, true}, 2020);
    const struct ggml_tensor *w1s = tensors.w1s;
    struct ggml_tensor *rows = ggml_new_tensor_3d(tensors.ctx, GGML_TYPE_F32, 24, 8, 8);
    struct ggml_tensor *columns = ggml_new_tensor_2d(tensors.ctx, GGML_TYPE_F32, 64, 10);
    for (size_t neuron = 0; neuron < 64; neuron++) {
        for (size_t i = 0; i < 24; i++) {
            ((float *)rows->data)[neuron * 24 + i] = ((const float *)w1s->data)[(neuron / 8 * 24 + i) * 8 + neuron % 8];
        }
        for (size_t i = 0; i < 10; i++) {
            ((float *)columns->data)[i * 64 + neuron] = ((const float *)tensors.w2s->data)[neuron * 10 + i];
        }
    }
    fff_ggml_weights weights = weights_of(&tensors);
    weights.biases = ggml_reshape_1d(tensors.ctx, tensors.node_biases, 7);
    weights.leaf_weights = ggml_permute(tensors.ctx, rows, 1, 0, 2, 3);
    columns = ggml_reshape_3d(tensors.ctx, columns, 8, 8, 10);               /* neuron, leaf, column */
    weights.output_weights = ggml_permute(tensors.ctx, columns, 1, 2, 0, 3); /* column, neuron, leaf */
    bool same = same_stored(&tensors, &weights, FFF_CHOOSE_DEFAULT, FFF_CHOOSE_DEFAULT);
    example_check(same, "leaf tensors in other layouts, read by their strides");
    ggml_free(tensors.ctx);
}

static struct ggml_tensor *copy_as(struct ggml_context *ctx, const struct ggml_tensor *from, enum ggml_type type) {
    struct ggml_tensor *made = ggml_new_tensor(ctx, type, GGML_MAX_DIMS, from->ne);
    ggml_quantize_chunk(type, from->data, made->data, 0, ggml_nrows(from), from->ne[0], NULL);
    return made;
}

/* Every stored type of one tensor type: `open` is what is stored where the choice is left open. */
static bool same_however_stored(const struct tensors *tensors, fff_weight_choice open_input,
                                fff_weight_choice open_output) {
    static const fff_weight_choice stores[][2] = {{FFF_CHOOSE_DEFAULT, FFF_CHOOSE_DEFAULT},
                                                  {FFF_CHOOSE_F32, FFF_CHOOSE_F32},
                                                  {FFF_CHOOSE_BF16, FFF_CHOOSE_I8},
                                                  {FFF_CHOOSE_I8, FFF_CHOOSE_F16}};
    bool same = true;
    for (size_t s = 0; s < sizeof stores / sizeof *stores; s++) {
        for (int routes = FFF_ROUTES_STORED; routes <= FFF_ROUTES_EXACT; routes++) {
            fff_ggml_weights weights = weights_of(tensors);
            weights.store_input = stores[s][0], weights.store_output = stores[s][1];
            weights.routes = (fff_routes)routes;
            same = same_stored(tensors, &weights, s == 0 ? open_input : stores[s][0],
                               s == 0 ? open_output : stores[s][1]) &&
                   same;
        }
    }
    return same;
}

static void test_types(void) {
    const struct leaf_shape shape = {32, 32, 64, 3, 1, FFF_ACTIVATION_RELU, FFF_ROUTING_GREATER_EQUAL, true};
    bool same = true;
    for (int t = 0; t < PLAIN * PLAIN; t++) {
        struct tensors tensors = tensors_create(shape, 2030);
        enum ggml_type first = plain[t / PLAIN], second = plain[t % PLAIN];
        tensors.nodes = copy_as(tensors.ctx, tensors.nodes, first);
        tensors.w1s = copy_as(tensors.ctx, tensors.w1s, first);
        tensors.w2s = copy_as(tensors.ctx, tensors.w2s, second);
        tensors.node_biases = copy_as(tensors.ctx, tensors.node_biases, second);
        tensors.b1s = copy_as(tensors.ctx, tensors.b1s, second);
        tensors.b2s = copy_as(tensors.ctx, tensors.b2s, second);
        static const fff_weight_choice stored[PLAIN] = {FFF_CHOOSE_F32, FFF_CHOOSE_F16, FFF_CHOOSE_BF16};
        same = same_however_stored(&tensors, stored[t / PLAIN], stored[t % PLAIN]) && same;
        ggml_free(tensors.ctx);
    }
    example_check(same, "leaf tensors of F32, F16 and BF16, stored as given and otherwise, both routes");

    struct leaf_shape wide = shape; /* of two blocks a side, so that it is plain which is which */
    wide.input_width = wide.leaf_width = 64;
    struct tensors tensors = tensors_create(wide, 2031);
    tensors.nodes = copy_as(tensors.ctx, tensors.nodes, GGML_TYPE_Q4_0);
    tensors.w1s = copy_as(tensors.ctx, tensors.w1s, GGML_TYPE_Q8_0);
    tensors.w2s = copy_as(tensors.ctx, tensors.w2s, GGML_TYPE_Q8_0);
    example_check(same_however_stored(&tensors, FFF_CHOOSE_I8, FFF_CHOOSE_I8),
                  "leaf tensors of Q8_0 and Q4_0: stored as int8, or as asked");
    ggml_free(tensors.ctx);
}

/* ---- Bad use ----------------------------------------------------------------------------------- */

static void expect(const fff_ggml_weights *weights, int expected, const char *what) {
    fff_ggml_layer *none = NULL;
    example_expect(fff_ggml_layer_create(weights, &none), expected, what);
    if (none != NULL) {
        example_check(false, what);
    }
}

#define EXPECT(expected, what, ...)                                                                                    \
    do {                                                                                                               \
        fff_ggml_weights bad = good;                                                                                   \
        __VA_ARGS__;                                                                                                   \
        expect(&bad, expected, what);                                                                                  \
    } while (0)

static void test_bad_shapes(void) {
    struct tensors tensors = tensors_create(
        (struct leaf_shape){24, 8, 10, 3, 1, FFF_ACTIVATION_RELU, FFF_ROUTING_GREATER_EQUAL, true}, 2040);
    struct ggml_context *ctx = tensors.ctx;
    const fff_ggml_weights good = weights_of(&tensors);
    enum { WRONG = FFF_GGML_ERROR_SHAPE };
#define F32(...) ggml_new_tensor_3d(ctx, GGML_TYPE_F32, __VA_ARGS__)
    EXPECT(WRONG, "another depth", bad.depth = 2);
    EXPECT(WRONG, "a depth out of range", bad.depth = 64);
    EXPECT(WRONG, "another number of trees", bad.trees = 2);
    EXPECT(WRONG, "no trees", bad.trees = 0);
    EXPECT(WRONG, "nodes of another width", bad.input_weights = F32(23, 7, 1));
    EXPECT(WRONG, "a node too many", bad.input_weights = F32(24, 8, 1));
    EXPECT(WRONG, "a node bias too many", bad.biases = F32(1, 8, 1));
    EXPECT(WRONG, "a node bias too few", bad.biases = F32(6, 1, 1));
    EXPECT(WRONG, "w1s of 7 leaves", bad.leaf_weights = F32(8, 24, 7));
    EXPECT(WRONG, "w1s without neurons", bad.leaf_weights = ggml_view_3d(ctx, tensors.w1s, 0, 24, 8, 32, 768, 0));
    EXPECT(WRONG, "b1s of another width", bad.leaf_biases = F32(7, 8, 1));
    EXPECT(WRONG, "b1s of 7 leaves", bad.leaf_biases = F32(8, 7, 1));
    EXPECT(WRONG, "w2s of another leaf width", bad.output_weights = F32(10, 7, 8));
    EXPECT(WRONG, "w2s of 7 leaves", bad.output_weights = F32(10, 8, 7));
    EXPECT(WRONG, "b2s of another width", bad.leaf_output_biases = F32(9, 8, 1));
    EXPECT(WRONG, "b2s of 7 leaves", bad.leaf_output_biases = F32(10, 7, 1));
#undef F32
    EXPECT(FFF_ERROR_NULL_POINTER, "no nodes", bad.input_weights = NULL);
    EXPECT(FFF_ERROR_NULL_POINTER, "no w2s", bad.output_weights = NULL);
    EXPECT(FFF_ERROR_NULL_POINTER, "b1s without w1s", bad.leaf_weights = NULL);
    example_check(example_all_expected(), "shapes of leaf tensors that disagree are refused");
    ggml_free(ctx);
}

static void test_bad_types(void) {
    struct tensors tensors = tensors_create(
        (struct leaf_shape){64, 64, 64, 1, 1, FFF_ACTIVATION_RELU, FFF_ROUTING_GREATER_EQUAL, true}, 2050);
    struct ggml_context *ctx = tensors.ctx;
    const fff_ggml_weights good = weights_of(&tensors);
    fff_bad_weight bad_weight = {0};
    EXPECT(FFF_GGML_ERROR_TYPE, "nodes of another type", bad.input_weights = copy_as(ctx, tensors.nodes, plain[1]));
    EXPECT(FFF_GGML_ERROR_TYPE, "w1s quantised, nodes not",
           bad.leaf_weights = copy_as(ctx, tensors.w1s, GGML_TYPE_Q8_0));
    EXPECT(FFF_GGML_ERROR_TYPE, "int8", bad.output_weights = ggml_new_tensor_3d(ctx, GGML_TYPE_I8, 64, 64, 2));
    EXPECT(FFF_GGML_ERROR_TYPE, "quantised b1s", bad.leaf_biases = copy_as(ctx, tensors.b1s, GGML_TYPE_Q8_0));
    struct ggml_tensor *w2s =
        ggml_view_3d(ctx, ggml_new_tensor_3d(ctx, GGML_TYPE_F32, 64, 65, 2), 64, 64, 2, 256, 65 * 256, 0);
    EXPECT(FFF_GGML_ERROR_STRIDE, "a gap between w2s' leaves", bad.output_weights = w2s);
    EXPECT(FFF_GGML_ERROR_STRIDE, "one leaf for all",
           bad.leaf_weights = ggml_view_3d(ctx, tensors.w1s, 64, 64, 2, 256, 0, 0));
    struct ggml_tensor *over = copy_as(ctx, tensors.w2s, GGML_TYPE_Q8_0);
    over->nb[2] /= 2;
    EXPECT(FFF_GGML_ERROR_STRIDE, "leaves of blocks over each other", bad.output_weights = over);
    struct ggml_tensor *apart = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, 65, 2);
    EXPECT(FFF_GGML_ERROR_STRIDE, "a gap in b2s", bad.leaf_output_biases = ggml_view_2d(ctx, apart, 64, 2, 260, 0));
    float *value = (float *)tensors.w1s->data + (64 + 5) * 64 + 7; /* input 5 of neuron 7 of leaf 1 */
    *value = 70000;
    EXPECT(FFF_ERROR_WEIGHT, "infinite in float16", bad.bad_weight = &bad_weight, bad.store_input = FFF_CHOOSE_F16);
    bool named = bad_weight.of_output == 2 && bad_weight.row == 64 + 7 && bad_weight.column == 5;
    example_check(example_all_expected() && named, "types and strides of leaf tensors that are not taken are refused");
    ggml_free(ctx);
}

int main(void) {
    test_shapes();
    test_each_matters();
    test_instruction_sets();
    test_layouts();
    test_types();
    test_bad_shapes();
    test_bad_types();
    return example_failures() > 0;
}
