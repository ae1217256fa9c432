/* What the parts of the benchmark share. */
#ifndef FFF_TOOLS_LAYER_BENCH_WORK_H
#define FFF_TOOLS_LAYER_BENCH_WORK_H

#include "tools/cores.h"
#include "tools/layer_bench.h"

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

/* layer_bench_plan.c: sets settings.isas and settings.dense to what fits into memory, and says what does not. */
bool bench_plan(struct bench *bench, char *error, size_t error_size);

/* Appends a note. */
void bench_note(struct bench *bench, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* How many tokens float64 evaluates in about a second, from 1 to `most`. */
size_t bench_affordable(const struct bench *bench, size_t most);

#endif
