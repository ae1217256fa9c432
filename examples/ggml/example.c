#include "example.h"

#include <ggml-cpu.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

void fill(float *values, size_t count, float scale, uint64_t *state) {
    for (size_t i = 0; i < count; i++) { /* xorshift64* (Marsaglia; Vigna) */
        *state ^= *state >> 12, *state ^= *state << 25, *state ^= *state >> 27;
        double unit = (double)((*state * UINT64_C(2685821657736338717)) >> 40) / (double)(1 << 23); /* 0 to 2 */
        values[i] = (float)(unit - 1) * scale;
    }
}

void must(int status, const char *what) {
    if (status != FFF_OK) {
        fprintf(stderr, "%s: %s\n", what, fff_ggml_status_text(status));
        abort();
    }
}

void *must_have(void *pointer) {
    must(pointer == NULL ? FFF_ERROR_OUT_OF_MEMORY : FFF_OK, "memory");
    return pointer;
}

static int failures;

void example_check(bool holds, const char *what) {
    printf("  %s  ggml: %s\n", holds ? "ok    " : "FAILED", what);
    fflush(stdout);
    failures += !holds;
}

int example_failures(void) {
    return failures;
}

static bool all_expected = true;

void example_expect(int status, int expected, const char *what) {
    if (status != expected) {
        printf("          %s: \"%s\", not \"%s\"\n", what, fff_ggml_status_text(status),
               fff_ggml_status_text(expected));
        all_expected = false;
    }
}

bool example_all_expected(void) {
    bool all = all_expected;
    all_expected = true;
    return all;
}

struct ggml_context *example_context(size_t bytes) {
    const struct ggml_init_params params = {.mem_size = bytes + 64 * ggml_tensor_overhead() + ggml_graph_overhead()};
    return must_have(ggml_init(params));
}

void example_compute(struct ggml_cgraph *graph, int threads) {
    struct ggml_cplan plan = ggml_graph_plan(graph, threads, NULL);
    plan.work_data = must_have(malloc(plan.work_size + 1));
    must(ggml_graph_compute(graph, &plan) == GGML_STATUS_SUCCESS ? FFF_OK : FFF_ERROR_OPTION, "ggml_graph_compute");
    free(plan.work_data);
}

struct example_layer example_create(struct shape shape, uint64_t seed) {
    size_t in = (size_t)shape.input_width, out = (size_t)shape.output_width;
    size_t rows = shape.trees * fff_nodes_per_tree(shape.depth);
    struct example_layer made = {.shape = shape, .ctx = example_context(rows * (in + out + 1) * sizeof(float))};
    made.input_weights = ggml_new_tensor_2d(made.ctx, GGML_TYPE_F32, shape.input_width, (int64_t)rows);
    made.output_weights = ggml_new_tensor_2d(made.ctx, GGML_TYPE_F32, (int64_t)rows, shape.output_width);
    made.biases = shape.biases ? ggml_new_tensor_1d(made.ctx, GGML_TYPE_F32, (int64_t)rows) : NULL;
    float *biases = shape.biases ? made.biases->data : NULL;
    fill(made.input_weights->data, rows * in, 1.7f / sqrtf((float)in), &seed);
    fill(made.output_weights->data, rows * out, 0.5f, &seed);
    fill(biases, shape.biases ? rows : 0, 0.1f, &seed);
    const fff_ggml_weights weights = example_weights(&made);
    must(fff_ggml_layer_create(&weights, &made.layer), "fff_ggml_layer_create");
    const fff_layer_desc desc = {.struct_size = sizeof desc,
                                 .input_width = in,
                                 .output_width = out,
                                 .depth = shape.depth,
                                 .trees = shape.trees,
                                 .activation = shape.activation,
                                 .input_weights = {made.input_weights->data, in, 1},
                                 .biases = biases,
                                 .output_weights = {made.output_weights->data, 1, rows}};
    must((int)fff_layer_create(&desc, &made.direct), "fff_layer_create");
    return made;
}

void example_free(struct example_layer *example) {
    fff_ggml_layer_destroy(example->layer);
    fff_layer_destroy(example->direct);
    ggml_free(example->ctx);
}

fff_ggml_weights example_weights(const struct example_layer *example) {
    return (fff_ggml_weights){.input_weights = example->input_weights,
                              .biases = example->biases,
                              .output_weights = example->output_weights,
                              .depth = example->shape.depth,
                              .trees = example->shape.trees,
                              .activation = example->shape.activation};
}

fff_ggml_operator *example_operator(const struct example_layer *example, int64_t tokens, int threads) {
    fff_ggml_operator *op = NULL;
    must(fff_ggml_operator_create(example->layer, tokens, threads, &op), "fff_ggml_operator_create");
    return op;
}

struct ggml_tensor *example_node(struct ggml_context *ctx, fff_ggml_operator *op, struct ggml_tensor *x) {
    struct ggml_tensor *y = NULL;
    must(fff_ggml_forward(ctx, op, x, &y), "fff_ggml_forward");
    return y;
}

void example_forward(const fff_layer *layer, struct shape shape, int64_t tokens, const float *input, float *output) {
    size_t size = 0, in = (size_t)shape.input_width, out = (size_t)shape.output_width;
    must((int)fff_workspace_size(layer, (size_t)tokens, 1, &size), "fff_workspace_size");
    void *workspace = must_have(malloc(size));
    must((int)fff_forward(layer, (size_t)tokens, input, in, output, out, workspace, size, NULL), "fff_forward");
    free(workspace);
}

/* ---- In float64 ------------------------------------------------------------------------------ */

/* A sum, a bound for its error in float32, and the sum of magnitudes. */
struct bounded {
    double value, error, magnitude;
};

static const double UNIT = 1.01 / (1 << 24); /* half a unit in the last place of 1, and room for products of such */

/* The logit of a row. */
static struct bounded logit_of(const struct example_layer *example, size_t row, const float *input) {
    size_t width = (size_t)example->shape.input_width;
    const float *weights = (const float *)example->input_weights->data + row * width;
    double bias = example->biases != NULL ? ((const float *)example->biases->data)[row] : 0;
    struct bounded z = {bias, 0, fabs(bias)};
    for (size_t i = 0; i < width; i++) {
        double product = (double)weights[i] * input[i];
        z.value += product;
        z.magnitude += fabs(product);
    }
    z.error = (double)(width + 2) * UNIT * z.magnitude;
    return z;
}

/* Adds column `column` of a row to an output: GELU's slope is below 1.13, and 4 units are granted to its evaluation. */
static void add(const struct example_layer *example, struct bounded z, size_t row, size_t rows, size_t column,
                struct bounded *sum) {
    double weight = ((const float *)example->output_weights->data)[column * rows + row];
    double activation = z.value / 2 * (1 + erf(z.value / sqrt(2)));
    double error = 1.13 * z.error + 8 * UNIT * (fabs(z.value) + z.error);
    sum->value += activation * weight;
    sum->error += error * fabs(weight);
    sum->magnitude += (fabs(activation) + error) * fabs(weight);
}

/* `count` rows' part in the output. */
static bool agrees(const struct example_layer *example, size_t count, const size_t *row, const struct bounded *logits,
                   const float *output) {
    size_t rows = (size_t)example->input_weights->ne[1];
    for (size_t column = 0; column < (size_t)example->shape.output_width; column++) {
        struct bounded sum = {0};
        for (size_t i = 0; i < count; i++) {
            add(example, logits[i], row[i], rows, column, &sum);
        }
        double bound = sum.error + (double)(count + 1) * UNIT * sum.magnitude;
        if (!(fabs(output[column] - sum.value) <= bound)) {
            return false;
        }
    }
    return true;
}

bool example_agrees(const struct example_layer *example, const float *input, const float *output, int *ties) {
    size_t nodes = fff_nodes_per_tree(example->shape.depth), count = 0;
    size_t length = example->shape.trees * (example->shape.depth + 1);
    size_t *path = must_have(malloc(length * sizeof *path));
    struct bounded *logits = must_have(malloc(length * sizeof *logits));
    bool tie = false;
    for (size_t tree = 0; tree < example->shape.trees; tree++) {
        for (size_t node = 0; node < nodes; count++) {
            path[count] = tree * nodes + node;
            struct bounded z = logits[count] = logit_of(example, path[count], input);
            bool leaf = node >= nodes / 2;
            tie = tie || (!leaf && fabs(z.value) <= z.error);
            node = 2 * node + 1 + (z.value > 0);
        }
    }
    *ties += tie;
    bool result = tie || agrees(example, count, path, logits, output);
    free(path);
    free(logits);
    return result;
}

bool example_agrees_dense(const struct example_layer *example, const float *input, const float *output) {
    size_t rows = (size_t)example->input_weights->ne[1];
    size_t *all = must_have(malloc(rows * sizeof *all));
    struct bounded *logits = must_have(malloc(rows * sizeof *logits));
    for (size_t row = 0; row < rows; row++) {
        all[row] = row;
        logits[row] = logit_of(example, row, input);
    }
    bool result = agrees(example, rows, all, logits, output);
    free(all);
    free(logits);
    return result;
}
