/* What `fff bench` makes of times: which rounds count, what is compared with what, and how it is told. Sides and clock
 * are made up; the linker calls the functions named __wrap_ here in place of those that read the machine's. */
#include "tests/printed.h"
#include "tests/support.h"
#include "tools/bench/report.h"
#include "tools/bench/work.h"
#include "tools/options.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of the options' part: there are no options here. */
int usage_error(const struct command *command, const char *format, ...) {
    fail_msg("%s: %s", command->name, format);
    return 2;
}

/* ---- Sides and clock ------------------------------------------------------------------------------- */

enum { TOKENS = 8, REPEATS = 3, ROUNDS = 5, BATCH = 4, ALL_ROUNDS = 2 * ROUNDS };

static double now;                     /* seconds, by a clock that only computing moves */
static double cost[DENSE_WAYS + 1];    /* seconds a token: of the dense ways, then of the layer */
static bool disturbed[1 + ALL_ROUNDS]; /* rounds in which the layer waits for a CPU; the first only warms up */
static size_t wrong;                   /* the round whose result of the layer is wrong; 0: none */
static size_t layer_rounds;            /* that the layer has begun */
static bool is_layer;                  /* what was computed last */

static double *cost_of(const struct racer *racer) {
    return &cost[racer->layer == NULL ? (size_t)racer->side->way : DENSE_WAYS];
}

const char *dense_blas_way_name(enum dense_blas_way way) {
    static const char *const names[DENSE_WAYS] = {"a", "b", "c", "d"};
    return names[way];
}

const char *bench_side_name(const struct bench_side *side) {
    return side->is_dense ? dense_blas_way_name(side->way) : fff_isa_name(side->isa);
}

bool bench_choose_pass(struct bench *bench, struct racer *racer, size_t batch) {
    assert_int_equal(batch, bench->settings.batches[0]);
    racer->tokens = TOKENS;
    racer->repeats = REPEATS;
    racer->warm_ups = 1;
    return true;
}

fff_status bench_run_side(struct bench *bench, const struct racer *racer, size_t batch, size_t tokens) {
    (void)bench;
    assert_int_equal(batch, BATCH);
    is_layer = racer->layer != NULL;
    bool waits = is_layer && layer_rounds <= ALL_ROUNDS && disturbed[layer_rounds];
    now += *cost_of(racer) * (double)tokens * (waits ? 50 : 1);
    return FFF_OK;
}

bool bench_output_is_right(struct bench *bench, const struct racer *racer, bool first_round) {
    (void)bench;
    assert_int_equal(first_round, layer_rounds == 0);
    layer_rounds += racer->layer != NULL;
    return racer->layer == NULL || wrong == 0 || layer_rounds != wrong;
}

struct stopwatch __wrap_stopwatch_start(size_t threads, size_t cpus);
struct timed __wrap_stopwatch_stop(const struct stopwatch *watch);
struct load_watch __wrap_load_start(void);
struct machine_load __wrap_load_stop(const struct load_watch *watch);

struct stopwatch __wrap_stopwatch_start(size_t threads, size_t cpus) {
    return (struct stopwatch){.threads = threads, .cpus = cpus, .wall = now};
}

struct timed __wrap_stopwatch_stop(const struct stopwatch *watch) {
    bool waited = is_layer && layer_rounds <= ALL_ROUNDS && disturbed[layer_rounds];
    return (struct timed){now - watch->wall, waited ? 0.5 : 0};
}

struct load_watch __wrap_load_start(void) {
    return (struct load_watch){0};
}

struct machine_load __wrap_load_stop(const struct load_watch *watch) {
    (void)watch;
    return (struct machine_load){0};
}

/* ---- Timing ---------------------------------------------------------------------------------------- */

static int race(struct bench_batch *result, char error[BENCH_TEXT]) {
    static float output[TOKENS];
    static char layer;
    static const struct fff_blas blas;
    struct bench_work work = {.output = output};
    struct bench bench = {
        .settings = {.batches = {BATCH}, .batch_count = 1, .threads = 1, .isas = {FFF_ISA_GENERIC}, .isa_count = 1},
        .data = {.output_width = 1},
        .blas = &blas,
        .work = &work,
    };
    bench.settings.rounds = ROUNDS;
    bench.settings.seconds = 3600;
    memcpy(&work.layers[0], &(char *){&layer}, sizeof work.layers[0]); /* never looked into */
    layer_rounds = 0;
    return bench_time(&bench, BATCH, result, error, BENCH_TEXT);
}

static void assert_about(double value, double expected) {
    if (!(fabs(value - expected) <= 1e-9 * expected)) {
        fail_msg("%g, not %g", value, expected);
    }
}

static void expect_all(struct spread spread, double expected) {
    assert_about(spread.least, expected);
    assert_about(spread.median, expected);
    assert_about(spread.most, expected);
}

/* The fastest dense way is what the layer is compared with: how many times as fast it is. Seconds are of a token. */
static void test_comparison(void **unused) {
    (void)unused;
    for (size_t best = 0; best < 2; best++) { /* of the two ways that suit several tokens */
        struct bench_batch result;
        char error[BENCH_TEXT] = "";
        cost[best] = 0.5;
        cost[1 - best] = 0.75;
        cost[DENSE_WAYS] = 0.125;
        assert_int_equal(race(&result, error), 0);
        assert_int_equal(result.side_count, 3);
        assert_int_equal(result.rounds, ROUNDS);
        assert_int_equal(result.best_dense, best);
        assert_false(result.busy);
        expect_all(result.sides[best].seconds, 0.5);
        expect_all(result.sides[1 - best].seconds, 0.75);
        expect_all(result.sides[2].seconds, 0.125);
        assert_true(result.sides[2].has_ratio && !result.sides[best].has_ratio);
        expect_all(result.sides[2].ratio, 4);
    }
}

/* A round in which the layer waited for a CPU is done again and counts for nothing. */
static void test_disturbed_rounds(void **unused) {
    (void)unused;
    struct bench_batch result;
    char error[BENCH_TEXT] = "";
    disturbed[2] = true;
    assert_int_equal(race(&result, error), 0);
    assert_int_equal(result.rounds, ROUNDS + 1);
    assert_int_equal(result.sides[0].clean, ROUNDS + 1);
    assert_int_equal(result.sides[2].clean, ROUNDS);
    assert_int_equal(result.sides[2].ratio_rounds, ROUNDS);
    expect_all(result.sides[2].seconds, 0.125);
    expect_all(result.sides[2].ratio, 4);
    assert_false(result.busy);
    for (size_t i = 1; i <= ALL_ROUNDS; i++) {
        disturbed[i] = true;
    }
    assert_int_equal(race(&result, error), 0);
    assert_int_equal(result.rounds, ROUNDS);
    assert_true(result.busy);
    assert_non_null(strstr(result.why, "waited for a CPU in 5 of 5 rounds"));
    assert_false(result.sides[2].has_ratio);
    expect_all(result.sides[2].seconds, 50 * 0.125);
    assert_about(result.sides[2].lost, 0.5);
    memset(disturbed, 0, sizeof disturbed);
}

static void test_wrong_result(void **unused) {
    (void)unused;
    for (wrong = 1; wrong < ROUNDS; wrong++) {
        struct bench_batch result;
        char error[BENCH_TEXT] = "";
        assert_int_equal(race(&result, error), 1);
        assert_string_equal(error, "a timed result is wrong: generic, batch 4, 1 threads");
    }
    wrong = 0;
}

/* ---- Telling --------------------------------------------------------------------------------------- */

static const struct bench told = {
    .settings = {.batches = {BATCH}, .batch_count = 1, .rounds = ROUNDS, .isas = {FFF_ISA_GENERIC}, .isa_count = 1}};
static const struct bench_batch told_batch = {
    .batch = BATCH,
    .rounds = ROUNDS,
    .sides = {{.is_dense = true, .threads = 1, .seconds = {8e-6, 9e-6, 10e-6}},
              {.isa = FFF_ISA_GENERIC,
               .threads = 1,
               .seconds = {1e-6, 1.5e-6, 2e-6},
               .has_ratio = true,
               .ratio = {5, 6, 7},
               .ratio_rounds = ROUNDS}},
    .side_count = 2,
    .best_dense = 0,
};
static const struct verdict right = {.isa = FFF_ISA_GENERIC, .dense = {.tokens = 1, .bound_used = 0.25}};

static void test_text(void **unused) {
    (void)unused;
    capture();
    print_bench_batch(&told, &told_batch);
    expect_printed("\nbatch 4\n"
                   "  dense, a                            9.00 us a token\n"
                   "  fff, generic                        1.50 us a token      6.0 times faster (5.0 to 7.0)\n");
}

static void test_verdicts(void **unused) {
    (void)unused;
    struct store_verdict store = {.tokens = 1};
    struct verdict verdict = right;
    capture();
    bool holds = print_bench_verdicts(&verdict, 1, &store);
    expect_printed("generic      0 differing bits, worst error 25.00% of the proven bound, 0 wrong routes, 0 ties\n");
    assert_true(holds);
    verdict.differing_values = 1;
    capture();
    holds = print_bench_verdicts(&verdict, 1, &store);
    expect_printed("FAILED\n");
    assert_false(holds);
    store.differing_outputs = 1;
    capture();
    holds = print_bench_verdicts(&right, 1, &store);
    expect_printed("FAILED\n");
    assert_false(holds);
}

static void expect_numbers(const json_t *side, const char *name, double p10, double median, double p90) {
    const json_t *spread = json_object_get(side, name);
    assert_about(json_number_value(json_object_get(spread, "p10")), p10);
    assert_about(json_number_value(json_object_get(spread, "median")), median);
    assert_about(json_number_value(json_object_get(spread, "p90")), p90);
}

static void test_json(void **unused) {
    (void)unused;
    const struct store_verdict store = {.tokens = 1};
    json_t *answer = bench_json(&told, &right, &store, 1, &told_batch, 1);
    assert_non_null(answer);
    assert_true(json_is_true(json_object_get(answer, "ok")));
    const json_t *sides = json_object_get(json_array_get(json_object_get(answer, "batches"), 0), "sides");
    const json_t *dense = json_array_get(sides, 0), *layer = json_array_get(sides, 1);
    expect_numbers(dense, "us_per_token", 8, 9, 10);
    expect_numbers(layer, "us_per_token", 1, 1.5, 2);
    expect_numbers(layer, "times_faster", 5, 6, 7);
    assert_true(json_is_null(json_object_get(dense, "times_faster")));
    assert_true(json_is_true(json_object_get(dense, "best_dense")));
    assert_true(json_is_false(json_object_get(layer, "best_dense")));
    json_decref(answer);
    struct verdict verdict = right;
    verdict.differing_values = 1;
    answer = bench_json(&told, &verdict, &store, 1, &told_batch, 1);
    assert_true(json_is_false(json_object_get(answer, "ok")));
    assert_true(json_is_false(json_object_get(json_object_get(answer, "verified"), "ok")));
    json_decref(answer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_comparison), cmocka_unit_test(test_disturbed_rounds), cmocka_unit_test(test_wrong_result),
        cmocka_unit_test(test_text),       cmocka_unit_test(test_verdicts),         cmocka_unit_test(test_json),
    };
    return cmocka_run_group_tests_name("bench_times", tests, NULL, NULL);
}
