/* What the parts of the benchmark share. */
#ifndef FFF_TOOLS_BENCH_WORK_H
#define FFF_TOOLS_BENCH_WORK_H

#include "tools/bench/bench.h"
#include "tools/machine/cores.h"

struct bench_work {
    fff_layer *layers[FFF_ISA_COUNT]; /* as the settings' instruction sets */
    struct layer_data dense_data;     /* the same weights as trees of depth 0; owns nothing */
    struct dense_blas dense;
    struct dense_f64 *dense_f64;
    float *reference; /* the best instruction set's output of the first `referenced` tokens */
    size_t referenced;
    float *output;              /* of what is timed */
    float *checked[DENSE_WAYS]; /* a result of each way that agrees with float64, for the batch size at hand */
    void *workspace;
    size_t workspace_size;
    cpu_set_t cores; /* that were allowed */
};

/* A side while it is timed. */
struct racer {
    struct bench_side *side;
    const fff_layer *layer; /* NULL: dense */
    const fff_runner *runner;
    size_t tokens, repeats, warm_ups; /* of a pass: so many of the input's tokens, so many times over */
    double seconds[MOST_TIMES];       /* a token */
    double lost[MOST_TIMES];
    bool clean[MOST_TIMES];
};

/* plan.c: sets settings.isas and settings.dense to what fits into memory, and says what does not. */
bool bench_plan(struct bench *bench, char *error, size_t error_size);

/* side.c: the first `tokens` tokens, `batch` at a time. */
fff_status bench_run_side(struct bench *bench, const struct racer *racer, size_t batch, size_t tokens);
/* Sets how much a side computes in a pass. False if it takes too long to be timed: its `left_out` says so. */
bool bench_choose_pass(struct bench *bench, struct racer *racer, size_t batch);
/* Whether what a side has just computed is right. */
bool bench_output_is_right(struct bench *bench, const struct racer *racer, bool first_round);
const char *bench_side_name(const struct bench_side *side);

/* Appends a note. */
void bench_note(struct bench *bench, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* How many tokens float64 evaluates in about a second, from 1 to `most`. */
size_t bench_affordable(const struct bench *bench, size_t most);

#endif
