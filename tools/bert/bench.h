/* How fast a whole model is, with fast feedforward layers and with dense ones. */
#ifndef FFF_TOOLS_BERT_BENCH_H
#define FFF_TOOLS_BERT_BENCH_H

#include "tools/files/layer_data.h"

#include <fff/fff.h>
#include <stddef.h>

struct bert_bench {
    const char *directory;
    fff_isa isa;
    size_t length;      /* tokens of a sequence; 0: as many as the model takes */
    size_t sequences;   /* of the large batch; the small one is 1 */
    size_t rounds;      /* timed; one more goes before to warm up */
    struct store store; /* of the kernels' layers */
};

/* Prints a table for each batch. An exit status; errors on stderr. */
int bert_bench(const struct bert_bench *bench);

#endif
