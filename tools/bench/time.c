/* Timing a batch: all sides in turn, round after round, so that whatever slows the machine slows them alike. */
#include "tools/bench/work.h"
#include "tools/commands.h"
#include "tools/machine/threads.h"
#include "tools/progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct race {
    struct bench *bench;
    size_t batch;
    struct racer racers[BENCH_SIDES];
    size_t count, rounds;
    size_t base; /* whose time the others are compared with, or `count` */
};

/* ---- Rounds ---------------------------------------------------------------------------------- */

/* One side once, after passes that bring its weights back into the caches. False if a result is wrong. */
static bool time_side(struct race *race, struct racer *racer, bool first_round) {
    struct bench *bench = race->bench;
    for (size_t i = 0; i < racer->warm_ups; i++) { /* and wakes the threads */
        (void)bench_run_side(bench, racer, race->batch, racer->tokens);
    }
    memset(bench->work->output, 0xff, racer->tokens * bench->data.output_width * sizeof(float));
    fff_status status = FFF_OK;
    struct stopwatch watch = stopwatch_start(racer->side->threads, bench->cpus);
    for (size_t i = 0; i < racer->repeats && status == FFF_OK; i++) {
        status = bench_run_side(bench, racer, race->batch, racer->tokens);
    }
    struct timed timed = stopwatch_stop(&watch);
    if (!first_round) {
        racer->seconds[race->rounds] = timed.seconds / ((double)racer->tokens * (double)racer->repeats);
        racer->lost[race->rounds] = timed.lost;
        racer->clean[race->rounds] = !was_disturbed(timed);
    }
    return status == FFF_OK && bench_output_is_right(bench, racer, first_round);
}

static size_t clean_rounds(const struct race *race, const struct racer *a, const struct racer *b) {
    size_t count = 0;
    for (size_t i = 0; i < race->rounds; i++) {
        count += a->clean[i] && b->clean[i];
    }
    return count;
}

/* The rounds of the side that was disturbed most. */
static size_t fewest_clean(const struct race *race) {
    size_t fewest = race->rounds;
    for (size_t i = 0; i < race->count; i++) {
        size_t clean = clean_rounds(race, &race->racers[i], &race->racers[i]);
        fewest = clean < fewest ? clean : fewest;
    }
    return fewest;
}

/* Disturbed rounds are done again, up to as many more; not if half of them are: that machine is busy. */
static bool is_enough(const struct race *race, double elapsed) {
    const struct bench_settings *s = &race->bench->settings;
    size_t clean = fewest_clean(race);
    if (race->rounds >= BENCH_LEAST_ROUNDS && elapsed > (double)s->seconds * (double)race->count) {
        return true;
    }
    return race->rounds >= s->rounds &&
           (clean >= s->rounds || 2 * clean < race->rounds || race->rounds >= 2 * s->rounds);
}

/* False if a result is wrong. */
static bool run_race(struct race *race, char *error, size_t error_size) {
    double start = seconds_now();
    race->rounds = 0;
    for (bool first = true; first || !is_enough(race, seconds_now() - start); first = false) {
        for (size_t i = 0; i < race->count; i++) {
            struct racer *racer = &race->racers[i];
            const struct bench_side *side = racer->side;
            show_progress("batch %zu: round %zu of %zu, %s%s%s", race->batch, race->rounds + 1,
                          race->bench->settings.rounds, side->is_dense ? "dense, " : "", bench_side_name(side),
                          side->threads > 1 ? ", with threads" : "");
            if (!time_side(race, racer, first)) {
                snprintf(error, error_size, "a timed result is wrong: %s%s, batch %zu, %zu threads",
                         side->is_dense ? "dense, " : "", bench_side_name(side), race->batch, side->threads);
                return false;
            }
        }
        race->rounds += first ? 0 : 1;
    }
    return true;
}

/* ---- What it says ---------------------------------------------------------------------------- */

/* Of the clean rounds, or of all. */
static void sum_up_side(const struct race *race, const struct racer *racer) {
    double values[MOST_TIMES] = {0};
    size_t count = 0;
    racer->side->clean = clean_rounds(race, racer, racer);
    for (size_t i = 0; i < race->rounds; i++) {
        if (racer->clean[i] || racer->side->clean == 0) {
            values[count++] = racer->seconds[i];
        }
    }
    racer->side->seconds = spread_of(values, count);
    racer->side->lost = spread_of(racer->lost, race->rounds).median;
}

static void sum_up_ratio(const struct race *race, const struct racer *racer, const struct racer *base) {
    double ratios[MOST_TIMES] = {0};
    size_t count = 0;
    for (size_t i = 0; i < race->rounds; i++) {
        if (racer->clean[i] && base->clean[i]) {
            ratios[count++] = base->seconds[i] / racer->seconds[i];
        }
    }
    racer->side->ratio_rounds = count;
    racer->side->has_ratio = count > 0;
    if (count > 0) {
        racer->side->ratio = spread_of(ratios, count);
    }
}

/* Whether a side's times are to be believed. */
static void judge(const struct race *race, const struct racer *racer, struct bench_batch *result) {
    const struct bench_side *side = racer->side;
    bool compared = race->base < race->count;
    result->busy = result->busy || is_busy(compared ? side->ratio_rounds : side->clean, race->rounds,
                                           side->has_ratio ? side->ratio : side->seconds, result->load, result->why,
                                           sizeof result->why);
}

/* Compares all with the base. */
static void sum_up(struct race *race, struct bench_batch *result, const struct load_watch *watch) {
    result->load = load_stop(watch);
    result->rounds = race->rounds;
    for (size_t i = 0; i < race->count; i++) {
        sum_up_side(race, &race->racers[i]);
    }
    race->base = race->count;
    for (size_t i = 0; i < race->count; i++) {
        const struct bench_side *side = race->racers[i].side;
        bool may_be = side->is_dense || (race->count == 2 && race->racers[1].side->threads > 1 && i == 0);
        if (may_be &&
            (race->base == race->count || side->seconds.median < race->racers[race->base].side->seconds.median)) {
            race->base = i;
        }
    }
    for (size_t i = 0; i < race->count; i++) {
        struct racer *racer = &race->racers[i];
        if (i != race->base && !racer->side->is_dense) {
            if (race->base < race->count) {
                sum_up_ratio(race, racer, &race->racers[race->base]);
            }
            judge(race, racer, result);
        }
    }
}

/* ---- A batch --------------------------------------------------------------------------------- */

/* Enters a side, if there is time for it. */
static void enter(struct race *race, struct bench_side *side, const fff_layer *layer, const fff_runner *runner) {
    struct racer *racer = &race->racers[race->count];
    *racer = (struct racer){.side = side, .layer = layer, .runner = runner};
    show_progress("batch %zu: estimating %s%s", race->batch, side->is_dense ? "dense, " : "", bench_side_name(side));
    race->count += bench_choose_pass(race->bench, racer, race->batch) ? 1 : 0;
}

/* Is it worth timing? OpenBLAS's matrix-vector product is for one token. */
static bool suits(enum dense_blas_way way, size_t batch) {
    return batch == 1 || (way != DENSE_GEMV && way != DENSE_GEMV_NODE_MAJOR);
}

static bool race_one_thread(struct race *race, struct bench_batch *result, char *error, size_t error_size) {
    struct bench *bench = race->bench;
    for (int way = 0; bench->blas != NULL && way < DENSE_WAYS; way++) {
        if (suits((enum dense_blas_way)way, race->batch)) {
            struct bench_side *side = &result->sides[result->side_count++];
            *side = (struct bench_side){.is_dense = true, .way = (enum dense_blas_way)way, .threads = 1};
            enter(race, side, NULL, NULL);
        }
    }
    for (size_t i = 0; i < bench->settings.isa_count; i++) {
        struct bench_side *side = &result->sides[result->side_count++];
        *side = (struct bench_side){.isa = bench->settings.isas[i], .threads = 1};
        enter(race, side, bench->work->layers[i], NULL);
    }
    struct load_watch watch = load_start();
    if (race->count > 0 && !run_race(race, error, error_size)) {
        return false;
    }
    result->best_dense = BENCH_SIDES;
    if (race->count > 0) {
        sum_up(race, result, &watch);
        if (race->base < race->count) {
            result->best_dense = (size_t)(race->racers[race->base].side - result->sides);
        }
    }
    return true;
}

/* The best instruction set on several threads against one, on all CPUs that are allowed. */
static bool race_threads(struct race *race, struct bench_batch *result, char *error, size_t error_size) {
    struct bench *bench = race->bench;
    size_t best = bench->settings.isa_count - 1;
    struct bench_side alone = {.isa = bench->settings.isas[best], .threads = 1};
    struct bench_side *side = &result->sides[result->side_count++];
    *side = (struct bench_side){.isa = alone.isa, .threads = bench->settings.threads};
    allow_cores(&bench->work->cores);
    void *pool = thread_pool_create(side->threads);
    bool ok = true;
    if (pool == NULL) {
        snprintf(side->left_out, BENCH_TEXT,
                 "no threads: this fff was built without pthreadpool, or they cannot start");
    } else {
        const fff_runner runner = thread_pool_runner(pool);
        struct bench_batch threaded = {.batch = race->batch};
        race->count = 0;
        enter(race, &alone, bench->work->layers[best], NULL);
        enter(race, side, bench->work->layers[best], &runner);
        struct load_watch watch = load_start();
        ok = race->count < 2 || run_race(race, error, error_size);
        if (ok && race->count == 2) {
            sum_up(race, &threaded, &watch);
        } else if (ok && side->left_out[0] == '\0') {
            memcpy(side->left_out, alone.left_out, sizeof side->left_out);
        }
        if (threaded.busy && !result->busy) {
            result->busy = true;
            memcpy(result->why, threaded.why, sizeof result->why);
        }
    }
    thread_pool_destroy(pool);
    cpu_set_t all;
    stay_on_this_core(&all);
    return ok;
}

int bench_time(struct bench *bench, size_t batch, struct bench_batch *result, char *error, size_t error_size) {
    struct race *race = calloc(1, sizeof *race);
    *result = (struct bench_batch){.batch = batch};
    if (race == NULL) {
        snprintf(error, error_size, "%s", fff_status_text(FFF_ERROR_OUT_OF_MEMORY));
        return EXIT_BAD_INPUT;
    }
    race->bench = bench;
    race->batch = batch;
    bool ok = race_one_thread(race, result, error, error_size);
    if (ok && bench->settings.threads > 1) {
        ok = race_threads(race, result, error, error_size);
    }
    for (size_t i = 0; i < result->side_count && result->busy; i++) {
        result->sides[i].has_ratio = false; /* nobody is to quote it */
    }
    free(race);
    end_progress();
    return ok ? EXIT_HOLDS : EXIT_FAILS;
}
