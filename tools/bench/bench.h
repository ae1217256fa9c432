/* How fast a layer of some shape is, beside the dense layer of the same neurons. */
#ifndef FFF_TOOLS_BENCH_BENCH_H
#define FFF_TOOLS_BENCH_BENCH_H

#include "tools/bench/dense_blas.h"
#include "tools/machine/timing.h"
#include "tools/verify/layer.h"

#include <stdbool.h>

enum {
    BENCH_BATCHES = 32,
    BENCH_NOTES = 4,
    BENCH_TEXT = 256,
    BENCH_SIDES = FFF_ISA_COUNT + DENSE_WAYS + 2, /* and with threads, and one thread again beside them */
    BENCH_LEAST_ROUNDS = 3,
    BENCH_MOST_ROUNDS = MOST_TIMES / 2,
};

struct bench_settings {
    size_t input_width, output_width, depth, trees;
    fff_activation activation;
    struct store store;
    size_t batches[BENCH_BATCHES], batch_count;
    size_t threads; /* each batch also on so many; 1: no */
    fff_isa isas[FFF_ISA_COUNT];
    size_t isa_count; /* in order of preference, the best one last */
    size_t rounds;    /* undisturbed ones that are wanted */
    size_t seconds;   /* about as much time for each side of a batch, if rounds are slow */
    uint64_t seed;
    bool dense; /* beside it */
};

/* A way of computing a batch, and its time. */
struct bench_side {
    bool is_dense;
    enum dense_blas_way way; /* dense */
    fff_isa isa;             /* else */
    size_t threads;
    char left_out[BENCH_TEXT]; /* why it was not timed, or empty */
    size_t clean;              /* rounds that nobody disturbed */
    struct spread seconds;     /* a token; of the clean rounds, or of all if there are none */
    double lost;               /* the median round's share */
    bool has_ratio;            /* else there is nothing to compare with, or it is not to be believed */
    struct spread ratio;       /* times as fast as the best dense side, or as one thread */
    size_t ratio_rounds;       /* rounds in which both were clean */
};

struct bench_batch {
    size_t batch, rounds; /* rounds that were timed */
    struct bench_side sides[BENCH_SIDES];
    size_t side_count;
    size_t best_dense; /* an index, or BENCH_SIDES */
    struct machine_load load;
    bool busy;
    char why[BENCH_TEXT]; /* it is taken for busy */
};

struct bench {
    struct bench_settings settings;
    struct layer_data data;              /* with as many tokens as are timed */
    size_t path_length;                  /* neurons that a token uses */
    const struct fff_blas *blas;         /* NULL: the dense side is left out */
    char notes[BENCH_NOTES][BENCH_TEXT]; /* UTF-8; what is left out or to be known, one sentence each */
    size_t note_count;
    size_t cpus; /* that this process may use */
    struct bench_work *work;
};

/* Makes seeded weights and inputs, after a look at what they and everything timed need of memory: what does not fit is
 * left out, with a note. False, with one line in `error`, if the layer itself cannot be; close it then, too. */
bool bench_open(struct bench *bench, const struct bench_settings *settings, char *error, size_t error_size);

/* Compares the first `tokens` tokens (0: as many as take about a second), on every instruction set, with the dense
 * definition: one verdict for each; *store as verify_layer() has it. */
fff_status bench_verify(struct bench *bench, size_t tokens, enum verify_splits splits, struct verdict *verdicts,
                        struct store_verdict *store, size_t *verified);

/* Makes the layers. Call it once, before bench_time(). */
bool bench_prepare(struct bench *bench, char *error, size_t error_size);

/* Times a batch size of the settings. An exit status; EXIT_FAILS, with one line in
 * `error`, if a timed output is wrong. */
int bench_time(struct bench *bench, size_t batch, struct bench_batch *result, char *error, size_t error_size);

void bench_close(struct bench *bench);

#endif
