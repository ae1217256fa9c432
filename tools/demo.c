/* fff demo: a layer of UltraFastBERT's shape, made, verified and timed against the dense layer. */
#include "tools/commands.h"
#include "tools/demo_model.h"
#include "tools/dense_blas.h"
#include "tools/threads.h"
#include "tools/timing.h"
#include "tools/verify_layer.h"

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    WIDTH = 768,
    DEPTH = 11,
    TOKENS = 512,
    ROUNDS = 9,        /* the first warms up and is not counted */
    AGAIN_THREADS = 4, /* calls that are timed together */
    WARM_UP = 3,       /* passes: some last-level caches keep only what is asked for twice */
    CHECKED_DENSE = 4, /* tokens of each dense result compared with float64 */
    MOST_SIDES = FFF_ISA_COUNT + DENSE_WAYS,
};
static const uint64_t SEED = 2311;
static const size_t BATCHES[] = {1, 8, 64, 512};
enum { BATCH_COUNT = sizeof BATCHES / sizeof *BATCHES };

/* One thing that is timed: the layer on an instruction set, or a way of computing the dense one. */
struct side {
    fff_layer *layer; /* NULL: dense */
    enum dense_blas_way way;
    float *checked; /* dense: a result that agrees with float64, for the batch size at hand */
    double seconds_per_token[ROUNDS];
};

struct demo {
    struct layer_data data;
    struct layer_data dense_data; /* the same weights as 4095 trees of depth 0; owns nothing */
    struct dense_blas dense;
    struct dense_f64 *dense_f64;
    float *verified; /* the verified output of all tokens */
    float *output;
    void *workspace;
    size_t workspace_size;
    struct side sides[MOST_SIDES];
    size_t side_count;
};

/* The counted rounds. */
static struct spread counted(const double *values) {
    return spread_of(values + 1, ROUNDS - 1);
}

static double median(const double *values) {
    return counted(values).median;
}

/* Moving to another core in the middle would lose the caches. */
static void stay_on_this_core(void) {
    int core = sched_getcpu();
    cpu_set_t one;
    CPU_ZERO(&one);
    if (core >= 0) {
        CPU_SET((size_t)core, &one);
        (void)sched_setaffinity(0, sizeof one, &one);
    }
}

static void demo_free(struct demo *demo) {
    for (size_t i = 0; i < demo->side_count; i++) {
        fff_layer_destroy(demo->sides[i].layer);
        free(demo->sides[i].checked);
    }
    dense_f64_destroy(demo->dense_f64);
    dense_blas_free(&demo->dense);
    free(demo->verified);
    free(demo->output);
    free(demo->workspace);
    layer_data_free(&demo->data);
}

/* Everything that the timed part needs. */
static fff_status prepare(struct demo *demo, const fff_isa *isas, size_t isa_count) {
    for (size_t i = 0; i < isa_count; i++) {
        fff_layer_desc desc = layer_data_desc(&demo->data, isas[i]);
        fff_status status = fff_layer_create(&desc, &demo->sides[i].layer);
        if (status != FFF_OK) {
            return status;
        }
        demo->side_count++;
    }
    fff_status status = fff_workspace_size(demo->sides[0].layer, TOKENS, 1, &demo->workspace_size);
    if (status != FFF_OK) {
        return status;
    }
    demo->verified = malloc((size_t)TOKENS * WIDTH * sizeof(float));
    demo->output = malloc((size_t)TOKENS * WIDTH * sizeof(float));
    demo->workspace = malloc(demo->workspace_size);
    demo->dense_data = demo->data;
    demo->dense_data.depth = 0;
    demo->dense_data.trees = demo->data.rows;
    demo->dense_f64 = dense_f64_create(&demo->dense_data);
    if (demo->verified == NULL || demo->output == NULL || demo->workspace == NULL || demo->dense_f64 == NULL ||
        dense_blas_prepare(&demo->dense, &demo->data, TOKENS) != 0) {
        return FFF_ERROR_OUT_OF_MEMORY;
    }
    for (int way = 0; dense_blas_version() != NULL && way < DENSE_WAYS; way++) {
        float *checked = malloc((size_t)TOKENS * WIDTH * sizeof(float));
        if (checked == NULL) {
            return FFF_ERROR_OUT_OF_MEMORY;
        }
        demo->sides[demo->side_count++] = (struct side){.way = (enum dense_blas_way)way, .checked = checked};
    }
    return fff_forward(demo->sides[0].layer, TOKENS, demo->data.input, WIDTH, demo->verified, WIDTH, demo->workspace,
                       demo->workspace_size, NULL);
}

/* Whether a dense result agrees with float64, in some of its tokens, within the bound of any order of
 * summation. */
static bool dense_agrees(struct demo *demo) {
    uint32_t *roots = calloc(demo->dense_data.trees, sizeof *roots);
    struct agreement agreement = {0};
    for (size_t token = 0; roots != NULL && token < CHECKED_DENSE; token++) {
        dense_f64_evaluate(demo->dense_f64, token);
        dense_f64_check(demo->dense_f64, roundings_of_any_order(&demo->dense_data), roots, NULL,
                        demo->output + token * WIDTH, &agreement);
    }
    free(roots);
    return agreement.tokens == CHECKED_DENSE && agreement_holds(&agreement);
}

/* Whether what a side has just computed for `tokens` tokens is right. */
static bool output_is_right(struct demo *demo, struct side *side, size_t tokens, bool first_round) {
    size_t bytes = tokens * WIDTH * sizeof(float);
    if (side->layer != NULL) {
        return memcmp(demo->output, demo->verified, bytes) == 0;
    }
    if (!first_round) { /* the same every time, so one check is enough */
        return memcmp(demo->output, side->checked, bytes) == 0;
    }
    memcpy(side->checked, demo->output, bytes);
    return dense_agrees(demo);
}

/* One side's result for the first `tokens` tokens, `batch` at a time. */
static fff_status run_side(struct demo *demo, const struct side *side, size_t batch, size_t tokens) {
    fff_status status = FFF_OK;
    for (size_t first = 0; first < tokens && status == FFF_OK; first += batch) {
        float *output = demo->output + first * WIDTH;
        if (side->layer != NULL) {
            status = fff_forward(side->layer, batch, demo->data.input + first * WIDTH, WIDTH, output, WIDTH,
                                 demo->workspace, demo->workspace_size, NULL);
        } else {
            dense_blas_forward(&demo->dense, side->way, first, batch, output);
        }
    }
    return status;
}

/* Times one side at one batch size; false if what it computed is wrong. */
static bool time_side(struct demo *demo, struct side *side, size_t batch, size_t round) {
    /* The dense layer is slow enough for few tokens to be timed well. */
    size_t tokens = side->layer != NULL ? TOKENS : batch > CHECKED_DENSE ? batch : CHECKED_DENSE;
    for (int again = 0; again < WARM_UP; again++) { /* brings this side's weights back into the caches */
        (void)run_side(demo, side, batch, tokens);
    }
    memset(demo->output, 0xff, tokens * WIDTH * sizeof(float));
    double start = seconds_now();
    fff_status status = run_side(demo, side, batch, tokens);
    side->seconds_per_token[round] = (seconds_now() - start) / (double)tokens;
    return status == FFF_OK && output_is_right(demo, side, tokens, round == 0);
}

/* Is it worth timing? OpenBLAS's matrix-vector product is for one token. */
static bool takes_part(const struct side *side, size_t batch) {
    bool gemv = side->way == DENSE_GEMV || side->way == DENSE_GEMV_NODE_MAJOR;
    return side->layer != NULL || batch == 1 || !gemv;
}

/* All sides in turn, round after round, so that whatever slows the machine slows them alike. */
static bool time_batch(struct demo *demo, size_t batch) {
    for (size_t round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < demo->side_count; i++) {
            struct side *side = &demo->sides[i];
            if (takes_part(side, batch) && !time_side(demo, side, batch, round)) {
                fprintf(stderr, "fff demo: a timed result is wrong: %s, batch %zu\n",
                        side->layer != NULL ? fff_isa_name(fff_layer_isa(side->layer)) : dense_blas_way_name(side->way),
                        batch);
                return false;
            }
        }
    }
    return true;
}

static void print_batch(const struct demo *demo, size_t batch) {
    const struct side *dense = NULL;
    printf("\nbatch %zu\n", batch);
    for (size_t i = 0; i < demo->side_count; i++) {
        const struct side *side = &demo->sides[i];
        bool faster = side->layer == NULL && takes_part(side, batch) &&
                      (dense == NULL || median(side->seconds_per_token) < median(dense->seconds_per_token));
        dense = faster ? side : dense;
    }
    if (dense != NULL) {
        printf("  dense, %-22s %10.2f us a token\n", dense_blas_way_name(dense->way),
               1e6 * median(dense->seconds_per_token));
    }
    for (size_t i = 0; i < demo->side_count && demo->sides[i].layer != NULL; i++) {
        const struct side *side = &demo->sides[i];
        printf("  fff, %-24s %10.2f us a token", fff_isa_name(fff_layer_isa(side->layer)),
               1e6 * median(side->seconds_per_token));
        if (dense != NULL) {
            double ratios[ROUNDS];
            for (size_t round = 0; round < ROUNDS; round++) {
                ratios[round] = dense->seconds_per_token[round] / side->seconds_per_token[round];
            }
            struct spread ratio = counted(ratios);
            printf("  %7.1f times faster (%.1f to %.1f)", ratio.median, ratio.least, ratio.most);
        }
        puts("");
    }
    fflush(stdout);
}

/* What the threads are timed with. */
struct shared_run {
    const fff_layer *layer;
    void *workspace;
    size_t workspace_size;
    const fff_runner *runner; /* NULL: the calling thread alone */
};

/* All tokens at once, `times` times. */
static fff_status run_shared(struct demo *demo, const struct shared_run *run, size_t times) {
    fff_status status = FFF_OK;
    for (size_t again = 0; again < times && status == FFF_OK; again++) {
        status = fff_forward(run->layer, TOKENS, demo->data.input, WIDTH, demo->output, WIDTH, run->workspace,
                             run->workspace_size, run->runner);
    }
    return status;
}

/* The best instruction set on all CPUs that this process may use, against one; false if a result is wrong. */
static bool time_threads(struct demo *demo, const struct side *side, size_t threads) {
    void *pool = thread_pool_create(threads);
    if (pool == NULL) {
        puts("\nNo threads are timed: built without pthreadpool (install libpthreadpool-dev).");
        return true;
    }
    const fff_runner runner = thread_pool_runner(pool);
    size_t size = 0;
    fff_status status = fff_workspace_size(side->layer, TOKENS, threads, &size);
    void *workspace = malloc(size);
    size_t bytes = (size_t)TOKENS * WIDTH * sizeof(float);
    double seconds[2][ROUNDS] = {{0}}, ratios[ROUNDS] = {0};
    bool right = status == FFF_OK && workspace != NULL;
    for (size_t round = 0; right && round < ROUNDS; round++) {
        for (int shared = 0; right && shared < 2; shared++) {
            const struct shared_run timed = {side->layer, workspace, size, shared != 0 ? &runner : NULL};
            (void)run_shared(demo, &timed, WARM_UP); /* and wakes the threads */
            memset(demo->output, 0xff, bytes);
            double start = seconds_now();
            status = run_shared(demo, &timed, AGAIN_THREADS);
            seconds[shared][round] = (seconds_now() - start) / (double)TOKENS / AGAIN_THREADS;
            right = status == FFF_OK && memcmp(demo->output, demo->verified, bytes) == 0;
        }
        ratios[round] = right ? seconds[0][round] / seconds[1][round] : 0;
    }
    if (right) {
        struct spread ratio = counted(ratios);
        printf("\nbatch %d on %zu threads\n  fff, %-24s %10.2f us a token  %7.2f times one thread (%.2f to %.2f)\n",
               TOKENS, threads, fff_isa_name(fff_layer_isa(side->layer)), 1e6 * median(seconds[1]), ratio.median,
               ratio.least, ratio.most);
    } else {
        fputs("fff demo: a result by threads is wrong\n", stderr);
    }
    free(workspace);
    thread_pool_destroy(pool);
    return right;
}

static int run(struct demo *demo, const cpu_set_t *cpus) {
    fff_isa isas[FFF_ISA_COUNT];
    struct verdict verdicts[FFF_ISA_COUNT];
    size_t isa_count = usable_isas(isas);
    bool ok = true;

    printf("A fast feedforward layer, 1 tree of depth %d, %d wide: %zu neurons, %d used by each token.\n\n", DEPTH,
           WIDTH, fff_nodes_per_tree(DEPTH), DEPTH + 1);
    printf("Verifying %d tokens on every instruction set, alone and in batches, against the dense\n"
           "definition in float64 ...\n",
           TOKENS);
    fflush(stdout);
    fff_status status = verify_layer(&demo->data, isas, isa_count, VERIFY_ALL_SPLITS, verdicts);
    for (size_t i = 0; i < isa_count && status == FFF_OK; i++) {
        printf("  %-12s %zu differing bits, worst error %.2f%% of the proven bound, %zu wrong routes, %zu ties\n",
               fff_isa_name(isas[i]), verdicts[i].differing_values, 100 * verdicts[i].dense.bound_used,
               verdicts[i].dense.route_mismatches, verdicts[i].dense.ties);
        ok = ok && verdict_holds(&verdicts[i]);
    }
    if (status == FFF_OK && !ok) {
        puts("FAILED");
        return EXIT_FAILS;
    }
    if (status == FFF_OK) {
        status = prepare(demo, isas, isa_count);
    }
    if (status != FFF_OK) {
        fprintf(stderr, "fff demo: %s\n", fff_status_text(status));
        return EXIT_BAD_INPUT;
    }

    const char *blas = dense_blas_version();
    printf("\nTiming on one core, %d rounds, medians; the dense layer of the same %zu neurons by %s ...\n", ROUNDS - 1,
           demo->data.rows, blas != NULL ? blas : "nothing: built without OpenBLAS (install libopenblas-dev)");
    fflush(stdout);
    for (size_t i = 0; i < BATCH_COUNT; i++) {
        if (!time_batch(demo, BATCHES[i])) {
            return EXIT_FAILS;
        }
        print_batch(demo, BATCHES[i]);
    }
    size_t threads = (size_t)CPU_COUNT(cpus);
    (void)sched_setaffinity(0, sizeof *cpus, cpus);
    if (threads > 1 && !time_threads(demo, &demo->sides[isa_count - 1], threads)) {
        return EXIT_FAILS;
    }
    puts("\nEvery timed output was checked: the layer's bit for bit against the verified ones, the dense layer's\n"
         "against a result that agrees with float64 within its bound.");
    return EXIT_HOLDS;
}

static int run_command(int argc, char **argv) {
    struct operands operands;
    int exit_status;
    if (!read_options(&demo_command, argc, argv, NULL, &operands, &exit_status)) {
        return exit_status;
    }
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    (void)sched_getaffinity(0, sizeof cpus, &cpus);
    stay_on_this_core();
    struct demo *demo = calloc(1, sizeof *demo);
    if (demo == NULL || layer_data_make(&demo->data, WIDTH, DEPTH, 1, TOKENS, SEED) != 0) {
        fprintf(stderr, "fff demo: %s\n", fff_status_text(FFF_ERROR_OUT_OF_MEMORY));
        free(demo);
        return EXIT_BAD_INPUT;
    }
    int status = run(demo, &cpus);
    demo_free(demo);
    free(demo);
#if FFF_HAVE_MODELS
    if (status == EXIT_HOLDS) {
        stay_on_this_core();
        status = demo_model();
    }
#endif
    return status;
}

const struct command demo_command = {
    .name = "demo",
    .summary = "make, verify and time a 1x11 layer, 768 wide, and a model",
    .text = "Makes, verifies and times a layer and a model of UltraFastBERT's shape.",
    .run = run_command,
};
