/* What a benchmark found, for people and for programs. */
#ifndef FFF_TOOLS_BENCH_REPORT_H
#define FFF_TOOLS_BENCH_REPORT_H

#include "tools/bench/bench.h"

#include <jansson.h>

/* "A fast feedforward layer, 1 tree of depth 11, ...". */
void print_bench_shape(const struct bench *bench);

/* A line for each instruction set. Whether all hold. */
bool print_bench_verdicts(const struct verdict *verdicts, size_t count, const struct store_verdict *store);

/* What is timed, and the notes. */
void print_bench_head(const struct bench *bench);
void print_bench_batch(const struct bench *bench, const struct bench_batch *batch);
/* What was checked. */
void print_bench_end(void);

/* The whole in one object, as docs/benchmarks.md describes it. NULL when out of memory. */
json_t *bench_json(const struct bench *bench, const struct verdict *verdicts, const struct store_verdict *store,
                   size_t verified, const struct bench_batch *batches, size_t count);

#endif
