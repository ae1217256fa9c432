#include "tools/bert/bench.h"

#include "bert/bert.h"
#include "tools/commands.h"
#include "tools/layer_options.h"
#include "tools/machine/blas_kernels.h"
#include "tools/machine/timing.h"
#include "tools/models/store.h"
#include "tools/progress.h"
#include "tools/random.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { MOST_WAYS = 4, LARGEST_TOKENS = 1 << 22 };
#define TOLERANCE 2e-5 /* relative to the largest value; a sequence with a route apart at a tie exceeds it */

/* One way to compute the feedforward layers. */
struct way {
    char name[48];
    fff_bert_options options;
    fff_bert *model;
    float *hidden;  /* of the last round */
    float *checked; /* of the first */
    double encoder[MOST_TIMES], parts[MOST_TIMES][FFF_BERT_PARTS];
    double logits[MOST_TIMES];
    bool clean[MOST_TIMES]; /* nobody disturbed the round */
};

struct bench {
    struct bert_bench settings;
    fff_bert_config config;
    struct way ways[MOST_WAYS];
    size_t way_count;
    int32_t *ids;
    float *words; /* logits of a sequence */
};

static int fail(const char *text) {
    end_progress();
    fprintf(stderr, "fff bert: %s\n", text);
    return EXIT_BAD_INPUT;
}

/* ---- Running --------------------------------------------------------------------------------- */

/* One round of one way, timed. Whether it could be run. */
static bool run(struct bench *bench, struct way *way, size_t sequences, size_t round) {
    const fff_bert_config *config = &bench->config;
    char error[256];
    const fff_bert_batch batch = {sequences, bench->settings.length, bench->ids, NULL};
    fff_bert_watch watch = {.feedforward = NULL};
    show_progress("%zu x %zu tokens: round %zu of %zu, %s", sequences, batch.length, round + 1, bench->settings.rounds,
                  way->name);
    struct stopwatch clock = stopwatch_start(1);
    if (!fff_bert_encode(way->model, &batch, way->hidden, &watch, error, sizeof error)) {
        fail(error);
        return false;
    }
    struct timed timed = stopwatch_stop(&clock);
    way->encoder[round] = timed.seconds;
    way->clean[round] = !was_disturbed(timed);
    memcpy(way->parts[round], watch.seconds, sizeof watch.seconds);
    way->logits[round] = 0;
    if (bench->words != NULL) {
        /* A sequence stands for all: the same matrix product each time. */
        clock = stopwatch_start(1);
        fff_bert_decode(way->model, batch.length, way->hidden, bench->words);
        timed = stopwatch_stop(&clock);
        way->logits[round] = timed.seconds * (double)sequences;
        way->clean[round] = way->clean[round] && !was_disturbed(timed);
    }
    size_t values = sequences * batch.length * config->hidden_size;
    if (round == 0) {
        memcpy(way->checked, way->hidden, values * sizeof(float));
    } else if (memcmp(way->checked, way->hidden, values * sizeof(float)) != 0) {
        fail("two rounds gave different bits");
        return false;
    }
    return true;
}

/* How many sequences of two ways agree within the tolerance. */
static size_t agreeing(const struct bench *bench, size_t sequences, const struct way *a, const struct way *b) {
    size_t values = bench->settings.length * bench->config.hidden_size, agree = 0;
    for (size_t sequence = 0; sequence < sequences; sequence++) {
        double error = 0, largest = 0;
        for (size_t i = sequence * values; i < (sequence + 1) * values; i++) {
            double difference = fabs((double)a->hidden[i] - (double)b->hidden[i]);
            error = difference <= error ? error : difference; /* NaN stays */
            largest = fmax(largest, fabs((double)b->hidden[i]));
        }
        agree += error <= TOLERANCE * largest;
    }
    return agree;
}

/* The root mean square of the differences of two ways, of that of the second one's values. */
static double distance(const struct bench *bench, size_t sequences, const struct way *a, const struct way *b) {
    size_t values = sequences * bench->settings.length * bench->config.hidden_size;
    double squares = 0, differences = 0;
    for (size_t i = 0; i < values; i++) {
        double difference = (double)a->hidden[i] - (double)b->hidden[i];
        squares += (double)b->hidden[i] * (double)b->hidden[i];
        differences += difference * difference;
    }
    return differences > 0 ? sqrt(differences / squares) : 0;
}

/* ---- Reporting ------------------------------------------------------------------------------- */

/* Of the rounds that nobody disturbed, or of all if there are none; `stride` values lie between those of two rounds. */
static struct spread of_rounds(const struct way *way, size_t rounds, const double *values, size_t stride) {
    double kept[MOST_TIMES] = {0};
    size_t count = 0, clean = 0;
    for (size_t i = 0; i < rounds; i++) {
        clean += way->clean[i];
    }
    for (size_t i = 0; i < rounds; i++) {
        if (way->clean[i] || clean == 0) {
            kept[count++] = values[i * stride];
        }
    }
    return spread_of(kept, count);
}

static double median_part(const struct way *way, size_t rounds, int part) {
    return of_rounds(way, rounds, &way->parts[0][part], FFF_BERT_PARTS).median;
}

static void print_way(const struct bench *bench, size_t sequences, const struct way *way) {
    size_t rounds = bench->settings.rounds;
    struct spread encoder = of_rounds(way, rounds, way->encoder, 1);
    double logits = of_rounds(way, rounds, way->logits, 1).median, all = encoder.median + logits;
    double per_sequence = 1e3 / (double)sequences;
    printf("  %-24s %9.2f (%.2f to %.2f) %9.2f %8.1f%% %8.1f%% %8.1f%% %6.1f%%", way->name,
           encoder.median * per_sequence, encoder.least * per_sequence, encoder.most * per_sequence,
           1e6 * encoder.median / (double)(sequences * bench->settings.length),
           100 * median_part(way, rounds, FFF_BERT_PROJECTIONS) / all,
           100 * median_part(way, rounds, FFF_BERT_ATTENTION) / all,
           100 * median_part(way, rounds, FFF_BERT_FEEDFORWARD) / all,
           100 * median_part(way, rounds, FFF_BERT_REST) / all);
    printf(" %7.1f%%\n", 100 * logits / all);
}

/* Each ratio is of two times of the same round, in which nobody disturbed either. None, and why, if the machine was
 * busy. */
static void print_ratio(const struct bench *bench, const struct way *fast, const struct way *dense,
                        struct machine_load load) {
    double ratios[MOST_TIMES] = {0}, ceilings[MOST_TIMES] = {0}, whole[MOST_TIMES] = {0};
    size_t rounds = bench->settings.rounds, clean = 0;
    for (size_t i = 0; i < rounds; i++) {
        if (fast->clean[i] && dense->clean[i]) {
            double rest = dense->encoder[i] - dense->parts[i][FFF_BERT_FEEDFORWARD];
            ratios[clean] = dense->encoder[i] / fast->encoder[i];
            ceilings[clean] = dense->encoder[i] / rest;
            whole[clean++] = (dense->encoder[i] + dense->logits[i]) / (fast->encoder[i] + fast->logits[i]);
        }
    }
    struct spread ratio = {0, 0, 0};
    char why[256];
    if (clean > 0) {
        ratio = spread_of(ratios, clean);
    }
    if (is_busy(clean, rounds, ratio, load, why, sizeof why)) {
        printf("  %s: the machine is busy: %s; these figures are not to be believed\n", dense->name, why);
        return;
    }
    double ceiling = spread_of(ceilings, clean).median;
    printf("  %s: the encoder is %.2f times faster (%.2f to %.2f); were feedforward free, %.2f (%.0f %% of it)",
           dense->name, ratio.median, ratio.least, ratio.most, ceiling, 100 * ratio.median / ceiling);
    if (bench->words != NULL) {
        printf("; with logits %.2f times", spread_of(whole, clean).median);
    }
    puts("");
}

static bool time_batch(struct bench *bench, size_t sequences) {
    size_t rounds = bench->settings.rounds;
    struct load_watch watch = load_start();
    for (size_t round = 0; round <= rounds; round++) {
        for (size_t i = 0; i < bench->way_count; i++) {
            /* The first is done again, warm. */
            if (!run(bench, &bench->ways[i], sequences, round > 0 ? round - 1 : 0)) {
                return false;
            }
        }
    }
    struct machine_load load = load_stop(&watch);
    const struct way *fast = &bench->ways[0], *masked = &bench->ways[1];
    end_progress();
    printf("\n%zu x %zu tokens, %zu rounds, one thread\n", sequences, bench->settings.length, rounds);
    printf("  %-24s %9s %-16s %7s %9s %9s %9s %7s %8s\n", "feedforward", "encoder", "ms a sequence", "us/token",
           "projections", "attention", "feedfwd", "rest", "logits");
    for (size_t i = 0; i < bench->way_count; i++) {
        print_way(bench, sequences, &bench->ways[i]);
    }
    for (size_t i = 1; i < bench->way_count; i++) {
        print_ratio(bench, fast, &bench->ways[i], load);
    }
    if (model_store_differs(fast->model)) {
        printf("  The timed output: the same bits in every round; from the masked dense model's, with the file's "
               "weights,\n"
               "  hidden states differ by %.2g of their root mean square.\n",
               distance(bench, sequences, fast, masked));
        return true;
    }
    size_t agree = agreeing(bench, sequences, fast, masked);
    printf("  The timed output: the same bits in every round; %zu of %zu sequences agree with the masked dense model\n"
           "  within %g of the largest value; in the others a route parts at a tie, if `fff verify` holds.\n",
           agree, sequences, TOLERANCE);
    return 10 * agree >= 9 * sequences || (fail("too few sequences agree"), false);
}

/* ---- All of it ------------------------------------------------------------------------------- */

static void add_way(struct bench *bench, fff_bert_feedforward feedforward, size_t neurons, const char *name) {
    struct way *way = &bench->ways[bench->way_count++];
    snprintf(way->name, sizeof way->name, "%s", name);
    way->options = (fff_bert_options){
        .isa = bench->settings.isa,
        .feedforward = feedforward,
        .neurons = neurons,
        .store_input = bench->settings.store.input,
        .store_output = bench->settings.store.output,
        .routes = bench->settings.store.routes,
    };
}

/* All but the first, which the kernels are. */
static void choose_dense_ways(struct bench *bench) {
    const fff_bert_config *config = &bench->config;
    char name[sizeof bench->ways[0].name];
    size_t usual = 4 * config->hidden_size; /* a transformer's usual choice */
    add_way(bench, FFF_BERT_MASKED, 0, "dense with mask");
    snprintf(name, sizeof name, "dense, %zu neurons", config->neurons);
    add_way(bench, FFF_BERT_DENSE, 0, name);
    if (usual < config->neurons) {
        snprintf(name, sizeof name, "dense, %zu neurons", usual);
        add_way(bench, FFF_BERT_DENSE, usual, name);
    }
}

static bool open_way(const struct bench *bench, struct way *way) {
    char error[512];
    way->model = fff_bert_open(bench->settings.directory, &way->options, error, sizeof error);
    return way->model != NULL || (fail(error), false);
}

/* Nothing where all is float32. */
static void print_store(const struct bench *bench) {
    const fff_bert *model = bench->ways[0].model;
    fff_weight_type input, output, other_input, other_output;
    char text[STORE_TEXT];
    model_stores(model, 0, &input, &output);
    for (size_t layer = 1; layer < bench->config.layers; layer++) {
        model_stores(model, layer, &other_input, &other_output);
        if (other_input != input || other_output != output) {
            puts("The kernels' layers store: several types");
            return;
        }
    }
    if (input != FFF_WEIGHT_F32 || output != FFF_WEIGHT_F32) {
        printf("The kernels' layers store: %s\n",
               describe_store(input, output, bench->settings.store.routes == FFF_ROUTES_EXACT, text));
    }
}

/* What the kernels' model alone needs, before the others are opened. */
static void print_memory(const struct bench *bench) {
    struct rusage usage;
    const fff_bert *model = bench->ways[0].model;
    double file = (double)fff_bert_file_size(model);
    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        double peak = 1024.0 * (double)usage.ru_maxrss;
        printf(
            "Memory: the file has %.0f MB, packed feedforward layers %.0f MB; after a run by the kernels the peak is "
            "%.0f MB, %.2f of the file\n",
            file / 1e6, (double)fff_bert_packed_size(model) / 1e6, peak / 1e6, peak / file);
    }
}

static bool reserve(struct bench *bench, size_t most_tokens) {
    size_t values = most_tokens * bench->config.hidden_size;
    bool words = bench->config.family == FFF_BERT_CRAMMED && bench->config.labels == 0;
    bool ok = true;
    for (size_t i = 0; i < bench->way_count; i++) {
        struct way *way = &bench->ways[i];
        way->hidden = malloc(values * sizeof *way->hidden);
        way->checked = malloc(values * sizeof *way->checked);
        ok = ok && way->hidden != NULL && way->checked != NULL;
    }
    bench->ids = malloc(most_tokens * sizeof *bench->ids);
    if (words) {
        bench->words = malloc(bench->settings.length * bench->config.vocabulary * sizeof *bench->words);
    }
    uint64_t state = 1;
    for (size_t i = 0; i < most_tokens && bench->ids != NULL; i++) {
        bench->ids[i] = (int32_t)random_below(&state, bench->config.vocabulary);
    }
    return (ok && bench->ids != NULL && (bench->words != NULL || !words)) || (fail("out of memory"), false);
}

static bool check_settings(struct bert_bench *settings, const fff_bert_config *config) {
    if (settings->length == 0) {
        settings->length = config->max_length;
    }
    if (settings->length > config->max_length) {
        fprintf(stderr, "fff bert: sequences of %zu tokens are longer than the model's %zu\n", settings->length,
                config->max_length);
        return false;
    }
    if (settings->rounds == 0 || settings->rounds > MOST_TIMES || settings->sequences == 0 ||
        settings->sequences > LARGEST_TOKENS / settings->length) {
        fprintf(stderr, "fff bert: from 1 to %d rounds, and up to %zu sequences of that length\n", MOST_TIMES,
                LARGEST_TOKENS / settings->length);
        return false;
    }
    return true;
}

static bool run_all(struct bench *bench) {
    struct way *kernels = &bench->ways[0];
    fff_isa isa = FFF_ISA_AUTO;
    (void)fff_isa_choose(bench->settings.isa, &isa); /* if it cannot be, opening the model says so */
    char name[sizeof kernels->name];
    snprintf(name, sizeof name, "kernels, %s", fff_isa_name(isa));
    add_way(bench, FFF_BERT_TREES, 0, name);
    if (!open_way(bench, kernels)) {
        return false;
    }
    bench->config = *fff_bert_configuration(kernels->model);
    if (!check_settings(&bench->settings, &bench->config)) {
        return false;
    }
    choose_dense_ways(bench);
    if (!reserve(bench, bench->settings.sequences * bench->settings.length) || !run(bench, kernels, 1, 0)) {
        return false;
    }
    end_progress();
    print_store(bench);
    print_memory(bench);
    char shortcoming[256];
    if (blas_shortcoming(fff_blas(), shortcoming, sizeof shortcoming)) {
        puts(shortcoming);
    }
    for (size_t i = 1; i < bench->way_count; i++) {
        if (!open_way(bench, &bench->ways[i])) {
            return false;
        }
    }
    return time_batch(bench, 1) && (bench->settings.sequences == 1 || time_batch(bench, bench->settings.sequences));
}

int bert_bench(const struct bert_bench *settings) {
    struct bench *bench = calloc(1, sizeof *bench);
    if (bench == NULL) {
        return fail("out of memory");
    }
    bench->settings = *settings;
    bool ok = run_all(bench);
    for (size_t i = 0; i < bench->way_count; i++) {
        fff_bert_close(bench->ways[i].model);
        free(bench->ways[i].hidden);
        free(bench->ways[i].checked);
    }
    free(bench->ids);
    free(bench->words);
    free(bench);
    return ok ? EXIT_HOLDS : EXIT_BAD_INPUT;
}
