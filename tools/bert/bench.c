#include "tools/bert/bench.h"

#include "tools/bert/bench_ways.h"
#include "tools/commands.h"
#include "tools/machine/blas_kernels.h"
#include "tools/progress.h"
#include "tools/random.h"

#include <stdio.h>
#include <stdlib.h>

enum { LARGEST_TOKENS = 1 << 22 };

int bench_fail(const char *text) {
    end_progress();
    fprintf(stderr, "fff bert: %s\n", text);
    return EXIT_BAD_INPUT;
}

int bench_disagrees(const char *text) {
    (void)bench_fail(text);
    return EXIT_FAILS;
}

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
    return way->model != NULL || (bench_fail(error), false);
}

static bool reserve(struct bench *bench, size_t most_tokens) {
    size_t width = bench->config.hidden_size;
    bool words = bench->config.family == FFF_BERT_CRAMMED && bench->config.labels == 0;
    bool ok = true;
    for (size_t i = 0; i < bench->way_count; i++) {
        struct way *way = &bench->ways[i];
        way->hidden = allocate_matrix(most_tokens, width);
        way->checked = allocate_matrix(most_tokens, width);
        ok = ok && way->hidden != NULL && way->checked != NULL;
    }
    bench->ids = malloc(most_tokens * sizeof *bench->ids);
    if (words) {
        bench->words = allocate_matrix(bench->settings.length, bench->config.vocabulary);
    }
    uint64_t state = 1;
    for (size_t i = 0; i < most_tokens && bench->ids != NULL; i++) {
        bench->ids[i] = (int32_t)random_below(&state, bench->config.vocabulary);
    }
    return (ok && bench->ids != NULL && (bench->words != NULL || !words)) || (bench_fail("out of memory"), false);
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

static int time_batch(struct bench *bench, size_t sequences) {
    size_t rounds = bench->settings.rounds;
    struct load_watch watch = load_start();
    for (size_t round = 0; round <= rounds; round++) {
        for (size_t i = 0; i < bench->way_count; i++) {
            /* The first is done again, warm. */
            int status = bench_run(bench, &bench->ways[i], sequences, round > 0 ? round - 1 : 0);
            if (status != EXIT_HOLDS) {
                return status;
            }
        }
    }
    struct machine_load load = load_stop(&watch);
    end_progress();
    return print_ways(bench, sequences, load);
}

static int run_all(struct bench *bench) {
    struct way *kernels = &bench->ways[0];
    fff_isa isa = FFF_ISA_AUTO;
    (void)fff_isa_choose(bench->settings.isa, &isa); /* if it cannot be, opening the model says so */
    char name[sizeof kernels->name];
    snprintf(name, sizeof name, "kernels, %s", fff_isa_name(isa));
    add_way(bench, FFF_BERT_TREES, 0, name);
    if (!open_way(bench, kernels)) {
        return EXIT_BAD_INPUT;
    }
    bench->config = *fff_bert_configuration(kernels->model);
    if (!check_settings(&bench->settings, &bench->config)) {
        return EXIT_BAD_INPUT;
    }
    choose_dense_ways(bench);
    if (!reserve(bench, bench->settings.sequences * bench->settings.length)) {
        return EXIT_BAD_INPUT;
    }
    int status = bench_run(bench, kernels, 1, 0);
    if (status != EXIT_HOLDS) {
        return status;
    }
    end_progress();
    print_store_of_ways(bench);
    print_memory_of_kernels(bench);
    char shortcoming[256];
    if (blas_shortcoming(fff_blas(), shortcoming, sizeof shortcoming)) {
        puts(shortcoming);
    }
    for (size_t i = 1; i < bench->way_count; i++) {
        if (!open_way(bench, &bench->ways[i])) {
            return EXIT_BAD_INPUT;
        }
    }
    status = time_batch(bench, 1);
    return status == EXIT_HOLDS && bench->settings.sequences > 1 ? time_batch(bench, bench->settings.sequences)
                                                                 : status;
}

int bert_bench(const struct bert_bench *settings) {
    struct bench *bench = calloc(1, sizeof *bench);
    if (bench == NULL) {
        return bench_fail("out of memory");
    }
    bench->settings = *settings;
    int status = run_all(bench);
    for (size_t i = 0; i < bench->way_count; i++) {
        fff_bert_close(bench->ways[i].model);
        free(bench->ways[i].hidden);
        free(bench->ways[i].checked);
    }
    free(bench->ids);
    free(bench->words);
    free(bench);
    return status;
}
