/* Running a model in one way, and comparing two. */
#include "tools/bert/bench_ways.h"

#include "tools/commands.h"
#include "tools/progress.h"

#include <math.h>
#include <string.h>

int bench_run(struct bench *bench, struct way *way, size_t sequences, size_t round) {
    const fff_bert_config *config = &bench->config;
    char error[256];
    const fff_bert_batch batch = {sequences, bench->settings.length, bench->ids, NULL};
    fff_bert_watch watch = {.feedforward = NULL};
    show_progress("%zu x %zu tokens: round %zu of %zu, %s", sequences, batch.length, round + 1, bench->settings.rounds,
                  way->name);
    struct stopwatch clock = stopwatch_start(1, 1);
    if (!fff_bert_encode(way->model, &batch, way->hidden, &watch, error, sizeof error)) {
        return bench_fail(error);
    }
    struct timed timed = stopwatch_stop(&clock);
    way->encoder[round] = timed.seconds;
    way->clean[round] = !was_disturbed(timed);
    memcpy(way->parts[round], watch.seconds, sizeof watch.seconds);
    way->logits[round] = 0;
    if (bench->words != NULL) {
        /* A sequence stands for all: the same matrix product each time. */
        clock = stopwatch_start(1, 1);
        fff_bert_decode(way->model, batch.length, way->hidden, bench->words);
        timed = stopwatch_stop(&clock);
        way->logits[round] = timed.seconds * (double)sequences;
        way->clean[round] = way->clean[round] && !was_disturbed(timed);
    }
    size_t values = sequences * batch.length * config->hidden_size;
    if (round == 0) {
        memcpy(way->checked, way->hidden, values * sizeof(float));
    } else if (memcmp(way->checked, way->hidden, values * sizeof(float)) != 0) {
        return bench_disagrees("two rounds gave different bits");
    }
    return EXIT_HOLDS;
}

size_t ways_agreeing(const struct bench *bench, size_t sequences, const struct way *a, const struct way *b) {
    size_t values = bench->settings.length * bench->config.hidden_size, agree = 0;
    for (size_t sequence = 0; sequence < sequences; sequence++) {
        double error = 0, largest = 0;
        for (size_t i = sequence * values; i < (sequence + 1) * values; i++) {
            double difference = fabs((double)a->hidden[i] - (double)b->hidden[i]);
            error = isnan(difference) ? INFINITY : fmax(error, difference);
            largest = fmax(largest, fabs((double)b->hidden[i]));
        }
        agree += isfinite(error) && error <= WAYS_TOLERANCE * largest;
    }
    return agree;
}

double ways_distance(const struct bench *bench, size_t sequences, const struct way *a, const struct way *b) {
    size_t values = sequences * bench->settings.length * bench->config.hidden_size;
    double squares = 0, differences = 0;
    for (size_t i = 0; i < values; i++) {
        double difference = (double)a->hidden[i] - (double)b->hidden[i];
        squares += (double)b->hidden[i] * (double)b->hidden[i];
        differences += difference * difference;
    }
    return differences == 0 ? 0 : sqrt(differences / squares); /* NaN stays */
}
