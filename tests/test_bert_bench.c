/* What `fff bert --bench` makes of times: what is timed and compared in a round, and how it is told. Models and clock
 * are made up; the linker calls the functions named __wrap_ here in place of those that read the machine's. */
#include "tests/printed.h"
#include "tests/support.h"
#include "tools/bert/bench_ways.h"
#include "tools/models/store.h"
#include "tools/options.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

enum { ROUNDS = 3, SEQUENCES = 4, LENGTH = 2, WIDTH = 3, VALUES = SEQUENCES * LENGTH * WIDTH };

/* ---- Models and clock ------------------------------------------------------------------------------ */

static double now; /* seconds, by a clock that only computing moves */
static double encoder, decoder, lost;
static float computed[VALUES];
static const char *said; /* on stderr */

bool fff_bert_encode(const fff_bert *model, const fff_bert_batch *batch, float *hidden, fff_bert_watch *watch,
                     char *error, size_t error_size) {
    (void)model, (void)error, (void)error_size;
    assert_int_equal(batch->sequences, SEQUENCES);
    now += encoder;
    memcpy(hidden, computed, sizeof computed);
    watch->seconds[FFF_BERT_FEEDFORWARD] += 0.75 * encoder;
    return true;
}

bool fff_bert_decode(const fff_bert *model, size_t tokens, const float *hidden, float *logits) {
    (void)model, (void)hidden, (void)logits;
    assert_int_equal(tokens, LENGTH);
    now += decoder;
    return true;
}

size_t fff_bert_file_size(const fff_bert *model) {
    (void)model;
    return 1000000000;
}

size_t fff_bert_packed_size(const fff_bert *model) {
    (void)model;
    return 300000000;
}

void model_stores(const fff_bert *model, size_t layer, fff_weight_type *input, fff_weight_type *output) {
    (void)model, (void)layer;
    *input = *output = FFF_WEIGHT_F32;
}

bool model_store_differs(const fff_bert *model) {
    (void)model;
    return false;
}

int bench_fail(const char *text) {
    said = text;
    return 2;
}

int bench_disagrees(const char *text) {
    said = text;
    return 1;
}

/* Of the options' part: there are no options here. */
int usage_error(const struct command *command, const char *format, ...) {
    fail_msg("%s: %s", command->name, format);
    return 2;
}

struct stopwatch __wrap_stopwatch_start(size_t threads, size_t cpus);
struct timed __wrap_stopwatch_stop(const struct stopwatch *watch);
int __wrap_getrusage(int who, struct rusage *usage);

struct stopwatch __wrap_stopwatch_start(size_t threads, size_t cpus) {
    return (struct stopwatch){.threads = threads, .cpus = cpus, .wall = now};
}

struct timed __wrap_stopwatch_stop(const struct stopwatch *watch) {
    return (struct timed){now - watch->wall, lost};
}

int __wrap_getrusage(int who, struct rusage *usage) {
    assert_int_equal(who, RUSAGE_SELF);
    *usage = (struct rusage){.ru_maxrss = 1250000}; /* of 1024 bytes */
    return 0;
}

/* ---- A benchmark ----------------------------------------------------------------------------------- */

static float hidden[2][VALUES], checked[2][VALUES], words[LENGTH];

static struct bench make_bench(void) {
    struct bench bench = {.settings = {.length = LENGTH, .sequences = SEQUENCES, .rounds = ROUNDS},
                          .config = {.hidden_size = WIDTH, .layers = 1},
                          .way_count = 2,
                          .words = words};
    for (size_t i = 0; i < 2; i++) {
        struct way *way = &bench.ways[i];
        strcpy(way->name, i == 0 ? "kernels" : "masked");
        way->hidden = hidden[i];
        way->checked = checked[i];
        for (size_t v = 0; v < VALUES; v++) {
            hidden[i][v] = 1.0f + (float)v;
        }
    }
    return bench;
}

static void test_round(void **unused) {
    (void)unused;
    struct bench bench = make_bench();
    struct way *way = &bench.ways[0];
    for (size_t i = 0; i < VALUES; i++) {
        computed[i] = (float)i;
    }
    encoder = 8;
    decoder = 0.5;
    lost = 0;
    assert_int_equal(bench_run(&bench, way, SEQUENCES, 0), 0);
    assert_int_equal(bench_run(&bench, way, SEQUENCES, 1), 0);
    for (size_t round = 0; round < 2; round++) {
        assert_true(way->encoder[round] == 8 && way->clean[round]);
        assert_true(way->parts[round][FFF_BERT_FEEDFORWARD] == 6);
        assert_true(way->logits[round] == 0.5 * SEQUENCES); /* one sequence stands for all */
    }
    bench.words = NULL;
    lost = 0.5;
    assert_int_equal(bench_run(&bench, way, SEQUENCES, 2), 0);
    assert_true(way->logits[2] == 0 && !way->clean[2]);
    said = "";
    computed[VALUES - 1] += 1.0f / 65536;
    assert_int_equal(bench_run(&bench, way, SEQUENCES, 2), 1);
    assert_string_equal(said, "two rounds gave different bits");
}

/* ---- Telling --------------------------------------------------------------------------------------- */

/* The kernels take 1 second, the masked model 4, of which 2 are not feedforward's; logits 1 second each. A round that
 * was disturbed counts for nothing. */
static void test_ratios(void **unused) {
    (void)unused;
    struct bench bench = make_bench();
    for (size_t i = 0; i < 2; i++) {
        struct way *way = &bench.ways[i];
        for (size_t round = 0; round < ROUNDS; round++) {
            bool disturbed = i == 0 && round == 1;
            way->clean[round] = !disturbed;
            way->encoder[round] = disturbed ? 100 : i == 0 ? 1 : 4;
            way->logits[round] = 1;
            way->parts[round][FFF_BERT_FEEDFORWARD] = i == 0 ? 0.5 : 2;
        }
    }
    capture();
    int status = print_ways(&bench, SEQUENCES, (struct machine_load){0});
    expect_printed(
        "  kernels                     250.00 (250.00 to 250.00) 125000.00      0.0%      0.0%     25.0%    0.0%"
        "    50.0%\n"
        "  masked                     1000.00 (1000.00 to 1000.00) 500000.00      0.0%      0.0%     40.0%    0.0%"
        "    20.0%\n"
        "  masked: the encoder is 4.00 times faster (4.00 to 4.00); were feedforward free, 2.00 (200 % of "
        "it); with logits 2.50 times\n"
        "  The timed output: the same bits in every round; 4 of 4 sequences agree");
    assert_int_equal(status, 0);
    hidden[0][0] *= 1.5f;
    capture();
    status = print_ways(&bench, SEQUENCES, (struct machine_load){0});
    expect_printed("3 of 4 sequences agree");
    assert_int_equal(status, 1);
    assert_string_equal(said, "too few sequences agree");
}

static void test_memory(void **unused) {
    (void)unused;
    struct bench bench = make_bench();
    capture();
    print_memory_of_kernels(&bench);
    expect_printed("the file has 1000 MB, packed feedforward layers 300 MB; after a run by the kernels the peak is "
                   "1280 MB, 1.28 of the file\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round),
        cmocka_unit_test(test_ratios),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests_name("bert_bench", tests, NULL, NULL);
}
