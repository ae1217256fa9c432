/* How long an FFF node takes in a ggml graph, beside ggml's own dense layer of the same neurons.
 *
 *     bench_fff_ggml [THREADS [ROUNDS]]     1 and 11 by default
 *
 * Width 768, depth 11: 4095 neurons. The dense layers have one more, of zeros, for ggml's blocks. All are timed in turns, round by round, each on new tokens every time, on ggml
 * threads that stay. Every round's outputs are checked: an FFF's bit for bit, the dense layer's against float64 within a
 * bound, the quantised one's roughly. Exit status 1 if one is wrong. */
#include "example.h"

#include <ggml-cpu.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WIDTH = 768, DEPTH = 11, NEURONS = 4096, POOL = 4096, MOST_ROUNDS = 99, MOST_THREADS = 64 };

static const double LEAST_SECONDS = 0.003; /* of a time */

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* The way not taken: each of ggml's threads calls fff_forward() for a share of the tokens. */
struct split {
    const fff_layer *layer;
    void *workspaces[MOST_THREADS];
    size_t size;
};

static void compute_split(struct ggml_tensor *output, int thread, int threads, void *userdata) {
    struct split *split = userdata;
    size_t tokens = (size_t)output->ne[1];
    size_t first = tokens * (size_t)thread / (size_t)threads, next = tokens * ((size_t)thread + 1) / (size_t)threads;
    const float *input = output->src[0]->data;
    must((int)fff_forward(split->layer, next - first, input + first * WIDTH, WIDTH,
                          (float *)output->data + first * WIDTH, WIDTH, split->workspaces[thread], split->size, NULL),
         "fff_forward");
}

/* What is timed: a graph, or with none, fff_forward() on this thread. */
struct side {
    const char *name;
    enum { EXACT, DENSE, QUANTISED, NOTHING } check;
    struct ggml_cgraph *graph;
    struct ggml_tensor *x, *y;
    struct ggml_cplan plan;
    double times[MOST_ROUNDS]; /* seconds a call */
};

enum { FFF, SPLIT, DIRECT, DENSE_F32, DENSE_Q8, EMPTY, SIDES };

struct bench {
    struct example_layer example;
    const fff_layer *layer; /* the one behind the example's, for the FFF sides to share */
    struct ggml_context *ctx; /* of the dense layers' weights */
    struct ggml_tensor *biases, *dense[2], *quantised[2];
    int threads, rounds;
    struct ggml_threadpool *pool;
    struct split split;
    float *tokens, *expected; /* POOL of each */
    size_t next;              /* token */
    void *workspace;
    size_t workspace_size;
};

static struct ggml_tensor *dense(struct ggml_context *ctx, const struct bench *bench, struct ggml_tensor *const weights[2],
 struct ggml_tensor *x) {
    struct ggml_tensor *logits = ggml_add(ctx, ggml_mul_mat(ctx, weights[0], x), bench->biases);
    return ggml_mul_mat(ctx, weights[1], ggml_gelu_erf(ctx, logits));
}

static void make_side(struct bench *bench, struct ggml_context *ctx, int64_t batch, struct side *side, int which,
                      fff_ggml_operator *op) {
    static const char *const names[SIDES] = {"fff, all threads together", "fff, tokens split",
                                             "fff_forward(), 1 thread", "dense, F32",
                                             "dense, Q8_0",             "a graph of one empty row"};
    side->name = names[which];
    side->check = which < DENSE_F32 ? EXACT : which == DENSE_F32 ? DENSE : which == DENSE_Q8 ? QUANTISED : NOTHING;
    side->x = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, WIDTH, which == EMPTY ? 1 : batch);
    switch (which) {
    case FFF:
        side->y = example_node(ctx, op, side->x);
        break;
    case SPLIT:
        side->y = ggml_custom_4d(ctx, GGML_TYPE_F32, WIDTH, batch, 1, 1, &side->x, 1, compute_split, GGML_N_TASKS_MAX,
                                 &bench->split);
        break;
    case DIRECT:
        side->y = ggml_dup_tensor(ctx, side->x);
        return;
    case DENSE_F32:
        side->y = dense(ctx, bench, bench->dense, side->x);
        break;
    case DENSE_Q8:
        side->y = dense(ctx, bench, bench->quantised, side->x);
        break;
    default:
        side->y = ggml_scale(ctx, side->x, 1);
    }
    side->graph = ggml_new_graph(ctx);
    ggml_build_forward_expand(side->graph, side->y);
    side->plan = ggml_graph_plan(side->graph, bench->threads, bench->pool);
    side->plan.work_data = must_have(malloc(side->plan.work_size + 1));
}

/* One call on the next tokens; returns the first of them. */
static size_t call(struct bench *bench, struct side *side) {
    size_t batch = (size_t)side->x->ne[1], first = bench->next + batch <= POOL ? bench->next : 0;
    bench->next = first + batch;
    side->x->data = bench->tokens + first * WIDTH;
    if (side->graph == NULL) {
        must((int)fff_forward(bench->layer, batch, side->x->data, WIDTH, side->y->data, WIDTH,
                              bench->workspace, bench->workspace_size, NULL),
             "fff_forward");
    } else {
        must(ggml_graph_compute(side->graph, &side->plan) == GGML_STATUS_SUCCESS ? FFF_OK : FFF_ERROR_OPTION,
             "ggml_graph_compute");
    }
    return first;
}

static bool right(const struct bench *bench, const struct side *side, size_t first, const float *dense_output) {
    const float *output = side->y->data, *input = bench->tokens + first * WIDTH;
    double error = 0, sum = 0;
    switch (side->check) {
    case EXACT:
        return memcmp(output, bench->expected + first * WIDTH, ggml_nbytes(side->y)) == 0;
    case DENSE:
        return example_agrees_dense(&bench->example, input, output);
    case QUANTISED: /* against ggml's own, for the same token */
        for (size_t i = 0; i < WIDTH; i++) {
            error += pow(output[i] - dense_output[i], 2);
            sum += pow(dense_output[i], 2);
        }
        return error < 0.0025 * sum; /* 5 % in norm */
    default:
        return true;
    }
}

/* Times every side once, each round beginning with another one. Each first makes calls that are not timed, until all of
 * POOL has passed it: the first FFF after a dense layer would else fetch the weights into the caches for the next. */
static bool time_round(struct bench *bench, struct side *sides, int round, const size_t calls[SIDES]) {
    bool all_right = true;
    for (int i = 0; i < SIDES; i++) {
        int s = (i + round) % SIDES;
        size_t first = 0;
        for (int64_t tokens = 0; sides[s].check == EXACT && tokens < POOL; tokens += sides[s].x->ne[1]) {
            call(bench, &sides[s]);
        }
        call(bench, &sides[s]);
        double start = now();
        for (size_t c = 0; c < calls[s]; c++) {
            first = call(bench, &sides[s]);
        }
        sides[s].times[round] = (now() - start) / (double)calls[s];
        if (sides[s].check == QUANTISED) {
            bench->next = first; /* the F32 layer on the same tokens */
            call(bench, &sides[DENSE_F32]);
        }
        if (!right(bench, &sides[s], first, sides[DENSE_F32].y->data)) {
            printf("      %s: WRONG\n", sides[s].name);
            all_right = false;
        }
    }
    return all_right;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const double *values, int count) {
    double sorted[MOST_ROUNDS];
    memcpy(sorted, values, (size_t)count * sizeof *sorted);
    qsort(sorted, (size_t)count, sizeof *sorted, compare);
    return sorted[count / 2];
}

static bool run_batch(struct bench *bench, int64_t batch) {
    struct ggml_context *ctx = example_context(((size_t)batch + 1) * (6 * NEURONS + 2 * SIDES * WIDTH) * sizeof(float) +
                                               SIDES * ggml_graph_overhead());
    fff_ggml_operator *op = example_operator(&bench->example, batch, bench->threads);
    struct side *sides = must_have(calloc(SIDES, sizeof *sides));
    size_t calls[SIDES];
    for (int s = 0; s < SIDES; s++) {
        make_side(bench, ctx, batch, &sides[s], s, op);
        call(bench, &sides[s]); /* warm */
        double start = now();
        call(bench, &sides[s]);
        double wanted = LEAST_SECONDS / (now() - start);
        calls[s] = wanted < 1 ? 1 : wanted > 5000 ? 5000 : (size_t)wanted;
    }
    bool all_right = true;
    for (int round = 0; round < bench->rounds; round++) {
        all_right = time_round(bench, sides, round, calls) && all_right;
    }
    printf("    batch %lld\n", (long long)batch);
    for (int s = 0; s < SIDES; s++) {
        double ratios[MOST_ROUNDS];
        for (int round = 0; round < bench->rounds; round++) {
            ratios[round] = sides[DENSE_F32].times[round] / sides[s].times[round];
        }
        double per_token = median(sides[s].times, bench->rounds) / (s == EMPTY ? 1 : (double)batch) * 1e6;
        printf("      %-28s %9.2f us%s", sides[s].name, per_token, s == EMPTY ? "" : " a token");
        printf(s < DENSE_F32 ? "  %6.1f times dense F32's speed\n" : "\n", median(ratios, bench->rounds));
        free(sides[s].plan.work_data);
    }
    fflush(stdout);
    free(sides);
    fff_ggml_operator_destroy(op);
    ggml_free(ctx);
    return all_right;
}

/* The tree's weights with rows, or columns, of zeros up to NEURONS, as they are and quantised. */
static void make_dense_weights(struct bench *bench) {
    const struct example_layer *e = &bench->example;
    bench->ctx = example_context((size_t)NEURONS * (4 * WIDTH + 1) * sizeof(float));
    const struct ggml_tensor *from[3] = {e->input_weights, e->output_weights, e->biases};
    struct ggml_tensor *padded[3];
    for (int i = 0; i < 3; i++) {
        bool rows = i == 0;
        int64_t columns = rows ? WIDTH : NEURONS, count = rows ? NEURONS : from[i]->ne[1];
        padded[i] = ggml_new_tensor_2d(bench->ctx, GGML_TYPE_F32, columns, count);
        memset(padded[i]->data, 0, ggml_nbytes(padded[i]));
        for (int64_t row = 0; row < from[i]->ne[1]; row++) {
            memcpy((char *)padded[i]->data + row * padded[i]->nb[1],
                   (const char *)from[i]->data + row * from[i]->nb[1], from[i]->nb[1]);
        }
    }
    bench->biases = padded[2];
    for (int i = 0; i < 2; i++) {
        bench->dense[i] = padded[i];
        struct ggml_tensor *q = ggml_new_tensor(bench->ctx, GGML_TYPE_Q8_0, GGML_MAX_DIMS, padded[i]->ne);
        ggml_quantize_chunk(GGML_TYPE_Q8_0, padded[i]->data, q->data, 0, q->ne[1], q->ne[0], NULL);
        bench->quantised[i] = q;
    }
}

int main(int argc, char **argv) {
    struct bench bench = {.threads = argc > 1 ? atoi(argv[1]) : 1, .rounds = argc > 2 ? atoi(argv[2]) : 11};
    if (argc > 3 || bench.threads < 1 || bench.threads > MOST_THREADS || bench.rounds < 1 ||
 bench.rounds > MOST_ROUNDS) {
        fprintf(stderr, "usage: bench_fff_ggml [THREADS [ROUNDS]], 1 to %d and 1 to %d\n", MOST_THREADS, MOST_ROUNDS);
        return 2;
    }
    const struct shape shape = {WIDTH, WIDTH, DEPTH, 1, FFF_ACTIVATION_GELU, true};
    bench.example = example_create(shape, 1);
    bench.layer = fff_ggml_layer_behind(bench.example.layer);
    make_dense_weights(&bench);
    struct ggml_threadpool_params params = ggml_threadpool_params_default(bench.threads);
    bench.pool = must_have(ggml_threadpool_new(&params));
    bench.tokens = must_have(malloc(sizeof(float) * POOL * WIDTH));
    bench.expected = must_have(malloc(sizeof(float) * POOL * WIDTH));
    uint64_t seed = 2;
    fill(bench.tokens, (size_t)POOL * WIDTH, 1.7f, &seed);
    example_forward(bench.example.direct, shape, POOL, bench.tokens, bench.expected);
    must((int)fff_workspace_size(bench.layer, POOL, 1, &bench.workspace_size), "fff_workspace_size");
    bench.workspace = must_have(malloc(bench.workspace_size));
    bench.split = (struct split){.layer = bench.layer, .size = bench.workspace_size};
    for (int i = 0; i < bench.threads; i++) {
        bench.split.workspaces[i] = must_have(malloc(bench.workspace_size));
    }
    printf("    FFF 1x%d and dense layers of %d neurons, %d wide; %d threads of ggml %s (%s), libfff on %s;\n"
           "    medians of %d interleaved rounds\n",
           DEPTH, NEURONS, WIDTH, bench.threads, ggml_version(), ggml_cpu_has_avx512() ? "AVX-512" : "no AVX-512",
           fff_isa_name(fff_layer_isa(bench.layer)), bench.rounds);
    static const int64_t batches[] = {1, 2, 8, 64, 512, 2048};
    bool all_right = true;
    for (size_t b = 0; b < sizeof batches / sizeof *batches; b++) {
        all_right = run_batch(&bench, batches[b]) && all_right;
    }
    example_check(all_right, "every timed output was right");
    for (int i = 0; i < bench.threads; i++) {
        free(bench.split.workspaces[i]);
    }
    free(bench.workspace);
    free(bench.tokens);
    free(bench.expected);
    ggml_threadpool_free(bench.pool);
    ggml_free(bench.ctx);
    example_free(&bench.example);
    return !all_right;
}
