/* One side of the benchmark: running it, how much of it makes a pass, and whether its output is right. */
#include "tools/bench/work.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    WARM_UPS = 3,      /* passes: some last-level caches keep only what is asked for twice */
    CHECKED_DENSE = 4, /* tokens of each dense result compared with float64; as many are timed at least */
    GROWTH = 8,        /* of the batch by which a side's time is estimated */
};
#define PASS_LEAST 1e-3 /* seconds: far above what reading the clocks takes */
#define PASS_MOST 0.1   /* unless one call takes longer */
#define WARM_MOST 0.2   /* passes that take longer warm up once */

const char *bench_side_name(const struct bench_side *side) {
    return side->is_dense ? dense_blas_way_name(side->way) : fff_isa_name(side->isa);
}

/* ---- Running one side ------------------------------------------------------------------------ */

fff_status bench_run_side(struct bench *bench, const struct racer *racer, size_t batch, size_t tokens) {
    struct bench_work *work = bench->work;
    const struct layer_data *data = &bench->data;
    fff_status status = FFF_OK;
    for (size_t first = 0; first < tokens && status == FFF_OK; first += batch) {
        float *output = work->output + first * data->output_width;
        if (racer->layer != NULL) {
            status = fff_forward(racer->layer, batch, data->input + first * data->input_width, data->input_width,
                                 output, data->output_width, work->workspace, work->workspace_size, racer->runner);
        } else {
            dense_blas_forward(&work->dense, racer->side->way, first, batch, output);
        }
    }
    return status;
}

/* Without the time that other programs took. */
static double time_call(struct bench *bench, const struct racer *racer, size_t tokens) {
    double seconds = 0;
    for (int i = 0; i < 2 && seconds < WARM_MOST; i++) { /* the second is warm */
        struct stopwatch watch = stopwatch_start(1, 1);
        (void)bench_run_side(bench, racer, tokens, tokens);
        struct timed timed = stopwatch_stop(&watch);
        seconds = timed.seconds * (1 - (racer->side->threads == 1 ? timed.lost : 0));
    }
    return seconds;
}

/* How long a call for a batch takes, found by ever larger ones; false, and a reason, if that is too long. */
static bool estimate(struct bench *bench, struct racer *racer, size_t batch, double *seconds) {
    double limit = (double)bench->settings.seconds / (1 + BENCH_LEAST_ROUNDS);
    size_t tokens = batch < CHECKED_DENSE ? batch : CHECKED_DENSE;
    for (;;) {
        double measured = time_call(bench, racer, tokens), whole = measured * ((double)batch / (double)tokens);
        size_t next = batch / GROWTH < tokens ? batch : tokens * GROWTH;
        if (tokens == batch ? measured > limit
                            : measured * ((double)next / (double)tokens) > (double)bench->settings.seconds) {
            snprintf(racer->side->left_out, BENCH_TEXT, "a batch %s %.2g s, and --seconds %zu is for %d of them",
                     tokens == batch ? "takes" : "would take about", whole, bench->settings.seconds,
                     1 + BENCH_LEAST_ROUNDS);
            return false;
        }
        if (tokens == batch) {
            *seconds = measured;
            return true;
        }
        tokens = next;
    }
}

bool bench_choose_pass(struct bench *bench, struct racer *racer, size_t batch) {
    double call = 0;
    if (!estimate(bench, racer, batch, &call)) {
        return false;
    }
    size_t calls = bench->data.batch / batch; /* all tokens */
    if (racer->layer == NULL) {
        size_t few = (CHECKED_DENSE + batch - 1) / batch; /* every token takes the same weights */
        calls = few < calls ? few : calls;
    }
    if (call * (double)calls > PASS_MOST) {
        calls = call < PASS_MOST ? (size_t)(PASS_MOST / call) : 1;
    }
    calls = calls > 0 ? calls : 1;
    double pass = call * (double)calls;
    racer->tokens = calls * batch;
    racer->repeats = pass > 0 && pass < PASS_LEAST ? (size_t)(PASS_LEAST / pass) + 1 : 1;
    racer->warm_ups = pass < WARM_MOST ? WARM_UPS : 1;
    return true;
}

/* ---- Checking -------------------------------------------------------------------------------- */

/* What the layers' outputs are compared with; whatever split computes it, it has the same bits. */
static fff_status compute_reference(struct bench *bench, size_t tokens) {
    struct bench_work *work = bench->work;
    const struct layer_data *data = &bench->data;
    size_t first = work->referenced;
    if (tokens <= first) {
        return FFF_OK;
    }
    work->referenced = tokens;
    return fff_forward(work->layers[bench->settings.isa_count - 1], tokens - first,
                       data->input + first * data->input_width, data->input_width,
                       work->reference + first * data->output_width, data->output_width, work->workspace,
                       work->workspace_size, NULL);
}

/* Whether a dense result agrees with float64, in some of its tokens, within the bound of any order of
 * summation. */
static bool dense_agrees(struct bench *bench, size_t tokens) {
    struct bench_work *work = bench->work;
    size_t checked = bench_affordable(bench, tokens < CHECKED_DENSE ? tokens : CHECKED_DENSE);
    uint32_t *roots = calloc(work->dense_data.trees, sizeof *roots);
    struct agreement agreement = {0};
    for (size_t token = 0; roots != NULL && token < checked; token++) {
        dense_f64_evaluate(work->dense_f64, token);
        dense_f64_check(work->dense_f64, roundings_of_any_order(&work->dense_data), roots, NULL,
                        work->output + token * bench->data.output_width, &agreement);
    }
    free(roots);
    return agreement.tokens == checked && agreement_holds(&agreement);
}

bool bench_output_is_right(struct bench *bench, const struct racer *racer, bool first_round) {
    struct bench_work *work = bench->work;
    size_t bytes = racer->tokens * bench->data.output_width * sizeof(float);
    if (racer->layer != NULL) {
        return compute_reference(bench, racer->tokens) == FFF_OK && memcmp(work->output, work->reference, bytes) == 0;
    }
    float *checked = work->checked[racer->side->way];
    if (!first_round) { /* the same every time, so one check is enough */
        return memcmp(work->output, checked, bytes) == 0;
    }
    memcpy(checked, work->output, bytes);
    return dense_agrees(bench, racer->tokens);
}
