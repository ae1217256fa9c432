/* What `fff verify` checks of a layer that stores other types than float32, beside layers that store float32. */
#ifndef FFF_TOOLS_VERIFY_STORE_H
#define FFF_TOOLS_VERIFY_STORE_H

#include "tools/files/layer_data.h"

struct store_verdict {
    fff_weight_type input, output; /* as stored; of float32 everything below is zero */
    bool exact_routes;
    size_t tokens, nodes; /* all that paths have */
    /* Bits that are not those of the float32 layer of the stored numbers: must be none. Not compared of int8 rows. */
    size_t differing_routes;  /* nodes and logits */
    size_t differing_outputs; /* from the same nodes and logits */
    /* How far it is from the float32 layer of the given numbers: no proof, but what was lost. */
    size_t tokens_apart, nodes_apart;          /* another route; other nodes */
    size_t values;                             /* of outputs */
    double output_squares, difference_squares; /* sums, of the float32 outputs and of the differences from them */
    double difference_worst;
    /* Where routes are exact. */
    size_t deciding;     /* nodes with a child on the path */
    size_t float32_rows; /* those of them whose logit has the bits of the float32 row's, and not those of the stored
                            one's */
    size_t other_logits; /* logits with neither's bits, or a last level's that are not the stored row's: must be none */
};

bool stores_narrow(const struct store_verdict *verdict);
bool store_verdict_holds(const struct store_verdict *verdict);
/* Adds what was found of other tokens, or of another layer that stores the same types. */
void store_verdict_add(struct store_verdict *sum, const struct store_verdict *more);

/* A layer's results for all tokens. */
struct layer_results {
    uint32_t *nodes;
    float *logits, *output;
};

/* What a layer is held against. */
struct store_check {
    const struct layer_data *data;
    const struct layer_data *reference; /* for the dense definition: the data, or the stored numbers */
    struct layer_data stored;
    struct layer_results wide; /* the float32 layer's */
    bool *wide_entries;        /* where routes are exact: a flag for each entry of each path, else NULL */
};

/* Finds the numbers that are stored; close it also on failure. */
fff_status store_check_open(struct store_check *check, const struct layer_data *data);
/* Compares one instruction set's results: of the others the bits are the same, or that is said elsewhere. */
fff_status store_check_run(struct store_check *check, const struct layer_results *results,
                           struct store_verdict *verdict);
/* The token's part of wide_entries, or NULL. */
const bool *store_check_wide_entries(const struct store_check *check, size_t token);
void store_check_close(struct store_check *check);

#endif
