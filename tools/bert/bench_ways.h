/* What the parts of `fff bert --bench` share: a model in several ways, and their times. */
#ifndef FFF_TOOLS_BERT_BENCH_WAYS_H
#define FFF_TOOLS_BERT_BENCH_WAYS_H

#include "bert/bert.h"
#include "tools/bert/bench.h"
#include "tools/machine/timing.h"

enum { MOST_WAYS = 4 };

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

/* One line on stderr; EXIT_BAD_INPUT, or EXIT_FAILS where a check failed. */
int bench_fail(const char *text);
int bench_disagrees(const char *text);

/* ---- bench_run.c ---- */

/* One round of one way, timed. An exit status. */
int bench_run(struct bench *bench, struct way *way, size_t sequences, size_t round);
/* How many sequences of two ways agree within WAYS_TOLERANCE. */
#define WAYS_TOLERANCE 2e-5 /* relative to the largest value; a sequence with a route apart at a tie exceeds it */
size_t ways_agreeing(const struct bench *bench, size_t sequences, const struct way *a, const struct way *b);
/* The root mean square of the differences of two ways, of that of the second one's values. */
double ways_distance(const struct bench *bench, size_t sequences, const struct way *a, const struct way *b);

/* ---- bench_report.c ---- */

/* What the kernels' layers store; nothing where all is float32. */
void print_store_of_ways(const struct bench *bench);
/* What the kernels' model alone needs, before the others are opened. */
void print_memory_of_kernels(const struct bench *bench);
/* Times of all ways and ratios, of a batch whose rounds are done. EXIT_FAILS, and why, if too few sequences agree.
 */
int print_ways(const struct bench *bench, size_t sequences, struct machine_load load);

#endif
