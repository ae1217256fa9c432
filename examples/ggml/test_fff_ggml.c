/* Tests of FFF nodes in ggml graphs: the bits of fff_forward(), whatever the threads and batches.
 *
 * FFF_TEST_SHORT=1 takes smaller layers and fewer rounds, for sanitizers. */
#include "example.h"

#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <ggml-cpu.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool short_run;

/* Whether y has the bits that the direct layer gives for its input, which must be contiguous. */
static bool same_bits(const struct example_layer *example, const struct ggml_tensor *y) {
    const struct ggml_tensor *x = y->src[0];
    float *expected = must_have(malloc(ggml_nbytes(y) + 1));
    if (ggml_nelements(y) > 0) {
        example_forward(example->direct, example->shape, ggml_nrows(x), x->data, expected);
    }
    bool same = memcmp(expected, y->data, ggml_nbytes(y)) == 0;
    free(expected);
    return same;
}

/* ---- A model: twice (norm, FFF, add) ---------------------------------------------------------- */

struct model {
    struct ggml_context *ctx;
    struct ggml_cgraph *graph;
    struct ggml_tensor *x, *fff[2];
};

static struct model make_model(fff_ggml_operator *const ops[2], int64_t width, int64_t tokens, uint64_t seed) {
    struct model made = {.ctx = example_context((size_t)(8 * width * tokens) * sizeof(float))};
    made.x = ggml_new_tensor_2d(made.ctx, GGML_TYPE_F32, width, tokens);
    fill(made.x->data, (size_t)(width * tokens), 1, &seed);
    struct ggml_tensor *h = made.x;
    for (int i = 0; i < 2; i++) {
        made.fff[i] = example_node(made.ctx, ops[i], ggml_norm(made.ctx, h, 1e-12f));
        h = ggml_add(made.ctx, h, made.fff[i]);
    }
    made.graph = ggml_new_graph(made.ctx);
    ggml_build_forward_expand(made.graph, h);
    return made;
}

static void test_threads_and_batches(const struct example_layer examples[2]) {
    static const int64_t batches[] = {1, 2, 5, 64, 300, 1000};
    fff_ggml_operator *ops[2] = {example_operator(&examples[0], 1000, 4), example_operator(&examples[1], 1000, 3)};
    bool same = true, agree = true;
    int ties = 0, compared = 0;
    for (size_t b = 0; b < sizeof batches / sizeof *batches; b++) {
        struct model model = make_model(ops, 768, batches[b], 100 + b);
        for (int threads = 1; threads <= 4; threads++) {
            for (int i = 0; i < 2; i++) {
                memset(model.fff[i]->data, 0xff, ggml_nbytes(model.fff[i]));
            }
            example_compute(model.graph, threads);
            for (int i = 0; i < 2; i++) {
                same = same && same_bits(&examples[i], model.fff[i]);
            }
        }
        for (int64_t t = 0; t < batches[b]; t += 1 + batches[b] / 8) {
            for (int i = 0; i < 2; i++, compared++) {
                const float *x = model.fff[i]->src[0]->data, *y = model.fff[i]->data;
                agree = agree && example_agrees(&examples[i], x + t * 768, y + t * 768, &ties);
            }
        }
        ggml_free(model.ctx);
    }
    example_check(same, "norm, FFF, add, twice: 1 to 4 threads, batches of 1 to 1000, the bits of fff_forward()");
    example_check(agree && ties < compared / 4, "... and the definition in float64, within its bound");
    for (int i = 0; i < 2; i++) {
        must(fff_ggml_operator_status(ops[i]), "status");
        fff_ggml_operator_destroy(ops[i]);
    }
}

/* The same graph again and again on threads that stay, in changing numbers: a step that a thread slept through must not
 * be confused with the next. Both nodes share one operator. */
static void test_repeated(const struct example_layer *example) {
    fff_ggml_operator *op = example_operator(example, 200, 4);
    fff_ggml_operator *const ops[2] = {op, op};
    struct ggml_threadpool_params params = ggml_threadpool_params_default(4);
    struct ggml_threadpool *pool = must_have(ggml_threadpool_new(&params));
    bool same = true;
    static const int64_t batches[] = {1, 7, 200};
    for (size_t b = 0; b < 3; b++) {
        struct model model = make_model(ops, 768, batches[b], 200 + b);
        for (int round = 0; round < (short_run ? 40 : 300); round++) {
            struct ggml_cplan plan = ggml_graph_plan(model.graph, 1 + round % 4, pool);
            plan.work_data = must_have(malloc(plan.work_size + 1));
            memset(model.fff[0]->data, 0xff, ggml_nbytes(model.fff[0]));
            memset(model.fff[1]->data, 0xff, ggml_nbytes(model.fff[1]));
            must(ggml_graph_compute(model.graph, &plan) == GGML_STATUS_SUCCESS ? FFF_OK : FFF_ERROR_OPTION, "compute");
            free(plan.work_data);
            same = same && same_bits(example, model.fff[0]) && same_bits(example, model.fff[1]);
        }
        ggml_free(model.ctx);
    }
    example_check(same, "one operator behind two nodes, the same graph again and again, threads changing from 1 to 4");
    ggml_threadpool_free(pool);
    fff_ggml_operator_destroy(op);
}

struct concurrent {
    const struct example_layer *example;
    uint64_t seed;
    bool same;
};

static void *compute_alone(void *argument) {
    struct concurrent *mine = argument;
    fff_ggml_operator *op = example_operator(mine->example, 150, 2);
    fff_ggml_operator *const ops[2] = {op, op};
    struct model model = make_model(ops, 768, 150, mine->seed);
    mine->same = true;
    for (int round = 0; round < (short_run ? 5 : 20); round++) {
        example_compute(model.graph, 2);
        mine->same = mine->same && same_bits(mine->example, model.fff[0]) && same_bits(mine->example, model.fff[1]);
    }
    ggml_free(model.ctx);
    fff_ggml_operator_destroy(op);
    return NULL;
}

static void test_concurrent(const struct example_layer *example) {
    enum { GRAPHS = 3 };
    pthread_t threads[GRAPHS];
    struct concurrent each[GRAPHS];
    bool same = true;
    for (int i = 0; i < GRAPHS; i++) {
        each[i] = (struct concurrent){example, 300 + (uint64_t)i, false};
        must(pthread_create(&threads[i], NULL, compute_alone, &each[i]) == 0 ? FFF_OK : FFF_ERROR_OPTION, "thread");
    }
    for (int i = 0; i < GRAPHS; i++) {
        pthread_join(threads[i], NULL);
        same = same && each[i].same;
    }
    example_check(same, "three graphs at once over one layer, each with its own operator");
}

/* As llama.cpp computes: a backend, and an allocator that reuses the memory of tensors that are done with. */
static void test_backend(const struct example_layer examples[2]) {
    enum { TOKENS = 96 };
    fff_ggml_operator *ops[2] = {example_operator(&examples[0], TOKENS, 2), example_operator(&examples[1], TOKENS, 2)};
    const struct ggml_init_params params = {.mem_size = 64 * ggml_tensor_overhead() + ggml_graph_overhead(),
                                            .no_alloc = true};
    struct ggml_context *ctx = must_have(ggml_init(params));
    struct ggml_tensor *x = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, 768, TOKENS), *h = x;
    ggml_set_input(x);
    for (int i = 0; i < 2; i++) {
        h = ggml_add(ctx, h, example_node(ctx, ops[i], ggml_norm(ctx, h, 1e-12f)));
    }
    ggml_set_output(h);
    struct ggml_cgraph *graph = ggml_new_graph(ctx);
    ggml_build_forward_expand(graph, h);
    ggml_backend_t cpu = must_have(ggml_backend_cpu_init());
    ggml_backend_cpu_set_n_threads(cpu, 2);
    ggml_gallocr_t allocator = must_have(ggml_gallocr_new(ggml_backend_get_default_buffer_type(cpu)));
    must(ggml_gallocr_alloc_graph(allocator, graph) ? FFF_OK : FFF_ERROR_OUT_OF_MEMORY, "ggml_gallocr_alloc_graph");
    struct model model = make_model(ops, 768, TOKENS, 400);
    ggml_backend_tensor_set(x, model.x->data, 0, ggml_nbytes(x));
    bool same = ggml_backend_graph_compute(cpu, graph) == GGML_STATUS_SUCCESS;
    example_compute(model.graph, 1);
    float *result = must_have(malloc(ggml_nbytes(h)));
    ggml_backend_tensor_get(h, result, 0, ggml_nbytes(h));
    same = same && memcmp(result, ggml_graph_node(model.graph, -1)->data, ggml_nbytes(h)) == 0;
    example_check(same, "through ggml-backend, with memory reused between nodes");
    free(result);
    ggml_free(model.ctx);
    ggml_gallocr_free(allocator);
    ggml_backend_free(cpu);
    ggml_free(ctx);
    fff_ggml_operator_destroy(ops[0]);
    fff_ggml_operator_destroy(ops[1]);
}

int main(void) {
    const char *variable = getenv("FFF_TEST_SHORT");
    short_run = variable != NULL && *variable != 0;
    const struct shape shape = {768, 768, short_run ? 9 : 11, 1, FFF_ACTIVATION_GELU, true};
    struct example_layer examples[2] = {example_create(shape, 1), example_create(shape, 2)};
    test_threads_and_batches(examples);
    test_repeated(&examples[0]);
    test_concurrent(&examples[0]);
    test_backend(examples);
    example_free(&examples[0]);
    example_free(&examples[1]);
    return example_failures() > 0;
}
