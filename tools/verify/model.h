/* Everything that `fff verify` checks of a whole model.
 *
 * It is run by the kernels on each instruction set, densely with a mask in float32, and so in float64. Two questions
 * are answered apart. Layer by layer: does each feedforward, given the very same input, compute the dense definition
 * within the proven bound? End to end: how far apart are the results of whole runs, in which a route that turns at a
 * tie changes all that follows? Only the first can be proven. */
#ifndef FFF_TOOLS_VERIFY_MODEL_H
#define FFF_TOOLS_VERIFY_MODEL_H

#include "tools/models/input.h"
#include "tools/verify/layer.h"

#include <math.h>

/* What results of other programs, and sequences without a route apart, must agree within: relative to the largest
 * value; and embeddings, in cosine distance. */
#define MODEL_TOLERANCE 2e-5
#define EMBEDDING_TOLERANCE 1e-5

/* One layer's feedforward, on the input that it has in a run by the kernels. */
struct layer_verdicts {
    struct verdict isas[FFF_ISA_COUNT]; /* `expected` holds the masked dense float32 one */
    struct store_verdict store;
    double masked_difference; /* the largest between kernels and masked dense, where the path is the same */
};

/* A value compared, relative to the largest: take the larger of several. */
struct difference {
    double largest_error, largest_value;
};
double relative(struct difference difference); /* 0 if nothing was compared */

/* Where a token first went another way than in float64. */
struct route_apart {
    size_t sequence, token, layer, tree, level;
    double logit; /* the run's, which decided */
};

/* A whole run against the one in float64. */
struct end_to_end {
    struct difference hidden, logits;
    /* The same in sequences where no route parts from float64's. */
    struct difference steady_hidden, steady_logits;
    struct difference *layers;      /* of each layer's feedforward */
    size_t *layer_flips;            /* tokens of each layer that went another way */
    size_t sequences_apart;         /* with a token, in some layer, that went another way */
    struct route_apart first_apart; /* in the first such sequence, in its first such layer */
    double largest_flip;            /* of the logits at which they first parted, within a sequence's first such layer */
    size_t predictions, top1, top5; /* tokens, or sequences of a classifier; same best, same set of five best */
    size_t differing_values;        /* of all values whose bits differ from generic's */
    struct difference file_hidden, file_logits;             /* against the file's results */
    struct value_difference file_hidden_at, file_logits_at; /* rows are tokens of the padded input; or sequences */
    double file_embedding;                                  /* largest cosine distance */
    size_t file_embedding_at;                               /* sequence */
};

enum { MOST_RUNS = FFF_ISA_COUNT + 1 };

struct model_verdict {
    fff_bert_config config;
    size_t sequences, length, tokens; /* tokens without padding */
    size_t layer_tokens;              /* of all, padding included: those whose layers were checked one by one */
    size_t layer_padding;             /* of these */
    bool has_logits;
    bool has_file_hidden, has_file_logits, has_file_embedding;
    char source[256]; /* of the input */
    size_t isa_count;
    fff_isa isas[FFF_ISA_COUNT];
    bool narrow; /* layers store other weights than the file's: whole runs are then far from float64's */
    struct layer_verdicts *layers;
    struct end_to_end runs[MOST_RUNS]; /* by the kernels on isas[i], then the masked one */
};

/* What a model is checked for. */
struct model_check {
    const fff_isa *isas;
    size_t isa_count, layer_tokens;
    struct store store; /* of the kernels' layers */
};

/* Whether all of one instruction set (or of the masked run: isa_count), or of everything holds. */
bool model_layer_holds(const struct model_verdict *verdict, size_t layer);
bool model_run_holds(const struct model_verdict *verdict, size_t run);
bool model_verdict_holds(const struct model_verdict *verdict);

/* The first `layer_tokens` of the input are checked layer by layer, all of it end to end. Any SLEEF is taken. False
 * with one line in `error` and nothing to free, if it could not be run. Limits OpenBLAS to one thread, for the whole
 * process. */
bool verify_model(const struct model_input_choice *choice, const struct model_check *check,
                  struct model_verdict *verdict, char *error, size_t error_size);
void model_verdict_free(struct model_verdict *verdict);

#endif
