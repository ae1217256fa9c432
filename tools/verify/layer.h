/* Everything that `fff verify` checks of one layer. */
#ifndef FFF_TOOLS_VERIFY_LAYER_H
#define FFF_TOOLS_VERIFY_LAYER_H

#include "tools/verify/file_results.h"
#include "tools/verify/store.h"

/* What one instruction set showed. */
struct verdict {
    fff_isa isa;
    size_t differing_values;     /* outputs, logits or nodes whose bits differ from generic's, or between splits */
    struct agreement dense;      /* against the dense float64 definition */
    struct agreement expected;   /* the file's own output and path against the definition; zero without them */
    struct file_comparison file; /* the same results against this instruction set's */
    size_t expected_mismatches;  /* tokens that went another way than the file's path, with no tie to allow it */
};

/* True if everything holds. */
int verdict_holds(const struct verdict *verdict);
int verdicts_hold(const struct verdict *verdicts, size_t count); /* all of them */

/* Adds what the same instruction set showed elsewhere. */
void verdict_add(struct verdict *sum, const struct verdict *more);

/* In how many ways each instruction set's run is split into batches. */
enum verify_splits { VERIFY_FEW_SPLITS, VERIFY_ALL_SPLITS };

/* Runs the layer on each of the `count` instruction sets, whole, token by token and in other splits,
 * through route and accumulate, and shared among tasks; compares all bits with generic's, and each
 * token with the dense definition of the numbers that it stores. *store, which may be NULL, tells how a layer of
 * narrow rows compares with float32 ones. A file's results are left out where it is made to store other types than the
 * file's. Returns FFF_OK with all verdicts filled, or why it could not. */
fff_status verify_layer(const struct layer_data *data, const fff_isa *isas, size_t count, enum verify_splits splits,
                        struct verdict *verdicts, struct store_verdict *store);

#endif
