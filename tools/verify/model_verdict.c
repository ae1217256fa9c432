/* Whether what was found of a model holds. */
#include "tools/verify/model.h"

#include <stdlib.h>

double relative(struct difference difference) {
    return difference.largest_error > 0 ? difference.largest_error / difference.largest_value : 0;
}

bool model_layer_holds(const struct model_verdict *verdict, size_t layer) {
    const struct layer_verdicts *of = &verdict->layers[layer];
    return verdicts_hold(of->isas, verdict->isa_count) && store_verdict_holds(&of->store);
}

bool model_run_holds(const struct model_verdict *verdict, size_t run) {
    const struct end_to_end *of = &verdict->runs[run];
    if (verdict->narrow && run < verdict->isa_count) {
        return of->differing_values == 0; /* what narrow weights lose is told, and no fault */
    }
    return of->differing_values == 0 && relative(of->steady_hidden) <= MODEL_TOLERANCE &&
           relative(of->steady_logits) <= MODEL_TOLERANCE && relative(of->file_hidden) <= MODEL_TOLERANCE &&
           relative(of->file_logits) <= MODEL_TOLERANCE && of->file_embedding <= EMBEDDING_TOLERANCE;
}

bool model_verdict_holds(const struct model_verdict *verdict) {
    bool holds = true;
    for (size_t i = 0; i <= verdict->isa_count; i++) {
        holds = holds && model_run_holds(verdict, i);
    }
    for (size_t i = 0; i < verdict->config.layers; i++) {
        holds = holds && model_layer_holds(verdict, i);
    }
    return holds;
}

void model_verdict_free(struct model_verdict *verdict) {
    free(verdict->layers);
    for (size_t i = 0; i < MOST_RUNS; i++) {
        free(verdict->runs[i].layers);
        free(verdict->runs[i].layer_flips);
    }
    *verdict = (struct model_verdict){0};
}
