#include "tools/verify/model.h"

#include "tools/models/store.h"
#include "tools/verify/model_part.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS_AT_ONCE = 256 };

static bool check_part(struct part *part) {
    struct model_verdict *verdict = part->verdict;
    bool ok = part_run(part);
    for (size_t layer = 0; layer < part->layers && part->checked > 0 && ok; layer++) {
        ok = part_check_layer(part, layer);
    }
    for (size_t i = 0; i <= verdict->isa_count && ok; i++) {
        part_compare_run(part, i);
        if (i < verdict->isa_count) {
            part_compare_bits(part, i);
        }
    }
    if (ok) {
        part_check_file_hidden(part);
        ok = part_check_logits(part) && part_check_embeddings(part);
    }
    for (size_t i = 0; i < part->checked; i++) {
        verdict->layer_padding += !part_has_token(part, i);
    }
    verdict->layer_tokens += part->checked;
    part_free_runs(part);
    return ok;
}

/* The sequences from `first` on, as many as are run at once. */
static struct part make_part(const struct model_input *input, const struct model_check *check,
                             struct model_verdict *verdict, size_t first) {
    const fff_bert_config *config = &verdict->config;
    size_t length = input->batch.length, left = input->batch.sequences - first, token = first * length;
    size_t at_once = length > 0 && length < TOKENS_AT_ONCE ? TOKENS_AT_ONCE / length : 1;
    size_t sequences = left < at_once ? left : at_once;
    size_t to_check = check->layer_tokens - verdict->layer_tokens;
    return (struct part){
        .check = check,
        .verdict = verdict,
        .batch = {sequences, length, input->ids + token, input->mask != NULL ? input->mask + token : NULL},
        .first = first,
        .tokens = sequences * length,
        .width = config->hidden_size,
        .path = config->depth > 0 ? config->trees * (config->depth + 1) : 0,
        .layers = config->layers,
        .checked = sequences * length < to_check ? sequences * length : to_check,
    };
}

static bool prepare(const struct model_input_choice *choice, const fff_bert *masked, struct model_verdict *verdict,
                    struct model_input *input, struct other_results *file, char *error, size_t error_size) {
    verdict->config = *fff_bert_configuration(masked);
    verdict->narrow = model_store_differs(masked);
    verdict->has_logits = verdict->config.labels > 0 || fff_bert_predicts_words(masked);
    if (!model_input_load(choice, &verdict->config, input, error, error_size)) {
        return false;
    }
    size_t layers = verdict->config.layers, count = input->batch.sequences * input->batch.length;
    snprintf(verdict->source, sizeof verdict->source, "%s", input->source);
    verdict->sequences = input->batch.sequences;
    verdict->length = input->batch.length;
    verdict->tokens = input->mask == NULL ? count : 0;
    for (size_t i = 0; i < count && input->mask != NULL; i++) {
        if (input->mask[i] != 0) {
            verdict->tokens++;
        }
    }
    if (verdict->tokens == 0 && count > 0) {
        snprintf(error, error_size, "%s: tensor 'attention_mask' is all 0: there is no token to compare",
                 input->source);
        return false;
    }
    verdict->has_file_hidden = input->hidden != NULL;
    verdict->has_file_logits = input->logits != NULL;
    verdict->has_file_embedding = input->embedding != NULL;
    if (input->logits != NULL && !verdict->has_logits) {
        snprintf(error, error_size, "%s: tensor 'logits' is there, and the model has no head that gives any",
                 input->source);
        return false;
    }
    verdict->layers = calloc(layers, sizeof *verdict->layers);
    bool ok = verdict->layers != NULL;
    for (size_t i = 0; i <= verdict->isa_count && ok; i++) {
        verdict->runs[i].layers = calloc(layers, sizeof *verdict->runs[i].layers);
        verdict->runs[i].layer_flips = calloc(layers, sizeof *verdict->runs[i].layer_flips);
        ok = verdict->runs[i].layers != NULL && verdict->runs[i].layer_flips != NULL;
    }
    if (!ok) {
        snprintf(error, error_size, "out of memory");
    }
    return ok && other_results_read(input, &verdict->config, file, error, error_size);
}

bool verify_model(const struct model_input_choice *choice, const struct model_check *check,
                  struct model_verdict *verdict, char *error, size_t error_size) {
    struct model_input input = {0};
    struct other_results file = {0};
    const fff_bert_options options = model_check_options(check, check->isas[0], FFF_BERT_MASKED);
    *verdict = (struct model_verdict){.isa_count = check->isa_count};
    memcpy(verdict->isas, check->isas, check->isa_count * sizeof *check->isas);
    fff_bert *masked = fff_bert_open(choice->directory, &options, error, error_size);
    bool ok = masked != NULL && prepare(choice, masked, verdict, &input, &file, error, error_size);
    size_t first = 0;
    bool more = true; /* an empty input goes through too, for its error */
    while (ok && more) {
        struct part part = make_part(&input, check, verdict, first);
        part.choice = choice;
        part.masked = masked;
        part.file = &file;
        part.error = error;
        part.error_size = error_size;
        ok = check_part(&part);
        first += part.batch.sequences;
        more = first < input.batch.sequences;
    }
    fff_bert_close(masked);
    other_results_free(&file);
    model_input_free(&input);
    if (!ok) {
        model_verdict_free(verdict);
    }
    return ok;
}
