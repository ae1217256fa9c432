/* Why the results of another program do not hold for a model. */
#include "tools/verify/report.h"

#include <string.h>

static void say_values(const struct model_verdict *verdict, const char *what, struct difference size,
                       const struct value_difference *at, json_t *why) {
    bool of_sequences = verdict->config.labels > 0 && strcmp(what, "logits") == 0;
    char where[64];
    if (relative(size) <= MODEL_TOLERANCE) {
        return;
    }
    if (of_sequences) {
        snprintf(where, sizeof where, "sequence %zu", at->row);
    } else {
        snprintf(where, sizeof where, "sequence %zu, token %zu", at->row / verdict->length, at->row % verdict->length);
    }
    add_sentence(why,
                 json_sprintf("the file's %s are off by %.2g of the largest value, where %.0e is allowed; the largest "
                              "difference is %.3g, at %s, column %zu: %.9g here, %.9g in the file",
                              what, relative(size), MODEL_TOLERANCE, at->difference, where, at->column, at->here,
                              at->there));
}

/* Of sequences where no route parts, against float64's. */
static void say_unproven(const char *what, struct difference size, json_t *why) {
    if (!isfinite(relative(size))) {
        add_sentence(why, json_sprintf("the %s hold a NaN or an infinity, here or in float64", what));
    } else if (relative(size) > MODEL_TOLERANCE) {
        add_sentence(why, json_sprintf("the %s of sequences where no route parts are off float64's by %.2g of the "
                                       "largest value, where %.0e is allowed",
                                       what, relative(size), MODEL_TOLERANCE));
    }
}

static void say_apart(const struct model_verdict *verdict, const struct end_to_end *run, json_t *why) {
    const struct route_apart *at = &run->first_apart;
    add_sentence(
        why, json_sprintf("%zu of %zu sequences hold a token that goes another way than in float64, first token %zu of "
                          "sequence %zu, in layer %zu, tree %zu, from level %zu on, by a logit of %.3g",
                          run->sequences_apart, verdict->sequences, at->token, at->sequence, at->layer, at->tree,
                          at->level, at->logit));
}

static bool model_kernels_hold(const struct model_verdict *verdict) {
    bool hold = true;
    for (size_t i = 0; i < verdict->isa_count; i++) {
        const struct end_to_end *run = &verdict->runs[i];
        hold = hold && run->differing_values == 0 && relative(run->steady_hidden) <= MODEL_TOLERANCE &&
               relative(run->steady_logits) <= MODEL_TOLERANCE;
    }
    for (size_t layer = 0; layer < verdict->config.layers; layer++) {
        hold = hold && kernels_hold(verdict->layers[layer].isas, verdict->isa_count);
    }
    return hold;
}

json_t *model_why(const struct model_verdict *verdict) {
    json_t *why = json_array();
    const struct end_to_end *run = &verdict->runs[0];
    char isas[LONGEST_LIST] = "";
    if (verdict->narrow) {
        return why; /* the file's results, and float64's, are of other weights */
    }
    list_isas(verdict->layers[0].isas, verdict->isa_count, isas);
    say_values(verdict, "hidden states", run->file_hidden, &run->file_hidden_at, why);
    say_values(verdict, "logits", run->file_logits, &run->file_logits_at, why);
    if (run->file_embedding > EMBEDDING_TOLERANCE) {
        add_sentence(
            why, json_sprintf("the file's embedding of sequence %zu is off by a cosine distance of %.2g, where %.0e is "
                              "allowed",
                              run->file_embedding_at, run->file_embedding, EMBEDDING_TOLERANCE));
    }
    bool file_differs = json_array_size(why) > 0;
    if (run->sequences_apart > 0) {
        say_apart(verdict, run, why);
    }
    say_unproven("hidden states", run->steady_hidden, why);
    say_unproven("logits", run->steady_logits, why);
    if (!file_differs) {
        return why;
    }
    if (!model_kernels_hold(verdict)) {
        add_sentence(why, json_string("the kernels do not hold by themselves either: see above"));
    } else if (run->sequences_apart > 0) {
        add_sentence(
            why, json_sprintf("the kernels agree among themselves, bit for bit (%s), and every layer with the exact "
                              "results within the proven bound; what follows a route that parts may differ",
                              isas));
    } else {
        add_sentence(
            why,
            json_sprintf("the kernels agree among themselves, bit for bit (%s), every layer with the exact results "
                         "within the proven bound, and the whole with float64's to %.2g of the largest value: the "
                         "file differs, not the library",
                         isas, relative(run->hidden)));
    }
    return why;
}
