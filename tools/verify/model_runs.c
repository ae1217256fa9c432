/* Whole runs of some sequences, and what their layers were given and returned. */
#include "tools/verify/model_part.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool part_out_of_memory(const struct part *part) {
    snprintf(part->error, part->error_size, "out of memory");
    return false;
}

static void free_record(struct record *record) {
    free(record->hidden);
    free(record->inputs);
    free(record->outputs);
    free(record->nodes);
    free(record->logits);
    free(record->parted);
}

/* Zeros for the part's tokens in so many layers, at least one; NULL if that is too much. */
static void *make_rows(const struct part *part, size_t layers, size_t columns, size_t size) {
    size_t rows, count;
    bool over = __builtin_mul_overflow(layers, part->tokens, &rows) || __builtin_mul_overflow(rows, columns, &count) ||
                __builtin_add_overflow(count, 1, &count);
    return over ? NULL : calloc(count, size);
}

static bool make_record(const struct part *part, struct record *record) {
    record->hidden = make_rows(part, 1, part->width, sizeof *record->hidden);
    record->inputs = make_rows(part, part->layers, part->width, sizeof *record->inputs);
    record->outputs = make_rows(part, part->layers, part->width, sizeof *record->outputs);
    record->nodes = make_rows(part, part->layers, part->path, sizeof *record->nodes);
    record->logits = make_rows(part, part->layers, part->path, sizeof *record->logits);
    record->parted = calloc(part->batch.sequences + 1, sizeof *record->parted);
    return (record->hidden != NULL && record->inputs != NULL && record->outputs != NULL && record->nodes != NULL &&
            record->logits != NULL && record->parted != NULL) ||
           part_out_of_memory(part);
}

struct recording {
    const struct part *part;
    struct record *record;
    struct record_f64 *exact;
};

static void note_layer(void *context, const fff_bert_seen *seen) {
    const struct recording *recording = context;
    const struct part *part = recording->part;
    size_t token = seen->layer * part->tokens + seen->first_token;
    memcpy(recording->record->inputs + token * part->width, seen->input, seen->tokens * part->width * sizeof(float));
    memcpy(recording->record->outputs + token * part->width, seen->output, seen->tokens * part->width * sizeof(float));
    if (part->path > 0 && seen->nodes != NULL) {
        size_t entries = seen->tokens * part->path;
        memcpy(recording->record->nodes + token * part->path, seen->nodes, entries * sizeof *seen->nodes);
        memcpy(recording->record->logits + token * part->path, seen->logits, entries * sizeof *seen->logits);
    }
}

static void note_layer_f64(void *context, const fff_bert_seen_f64 *seen) {
    const struct recording *recording = context;
    const struct part *part = recording->part;
    size_t token = seen->layer * part->tokens + seen->first_token;
    memcpy(recording->exact->outputs + token * part->width, seen->output,
           seen->tokens * part->width * sizeof *seen->output);
    if (part->path > 0 && seen->nodes != NULL) {
        memcpy(recording->exact->nodes + token * part->path, seen->nodes,
               seen->tokens * part->path * sizeof *seen->nodes);
    }
}

static bool run(const struct part *part, const fff_bert *model, struct record *record) {
    struct recording recording = {part, record, NULL};
    fff_bert_watch watch = {.feedforward = note_layer, .context = &recording, .routes = part->path > 0};
    return make_record(part, record) &&
           fff_bert_encode(model, &part->batch, record->hidden, &watch, part->error, part->error_size);
}

fff_bert_options model_check_options(const struct model_check *check, fff_isa isa, fff_bert_feedforward feedforward) {
    return (fff_bert_options){
        .isa = isa,
        .feedforward = feedforward,
        .sleef = FFF_SLEEF_ANY,
        .store_input = check->store.input,
        .store_output = check->store.output,
        .routes = check->store.routes,
    };
}

static bool run_by_kernels(const struct part *part, fff_isa isa, struct record *record) {
    const fff_bert_options options = model_check_options(part->check, isa, FFF_BERT_TREES);
    fff_bert *model = fff_bert_open(part->choice->directory, &options, part->error, part->error_size);
    bool ok = model != NULL && run(part, model, record);
    fff_bert_close(model);
    return ok;
}

static bool run_f64(struct part *part) {
    struct record_f64 *exact = &part->exact;
    struct recording recording = {part, NULL, exact};
    exact->hidden = make_rows(part, 1, part->width, sizeof *exact->hidden);
    exact->outputs = make_rows(part, part->layers, part->width, sizeof *exact->outputs);
    exact->nodes = make_rows(part, part->layers, part->path, sizeof *exact->nodes);
    if (exact->hidden == NULL || exact->outputs == NULL || exact->nodes == NULL) {
        return part_out_of_memory(part);
    }
    return fff_bert_encode_f64(part->masked, &part->batch, exact->hidden, note_layer_f64, &recording, part->error,
                               part->error_size);
}

bool part_run(struct part *part) {
    const struct model_verdict *verdict = part->verdict;
    bool ok = verdict->isas[0] == FFF_ISA_GENERIC || run_by_kernels(part, FFF_ISA_GENERIC, &part->generic);
    for (size_t i = 0; i < verdict->isa_count && ok; i++) {
        ok = run_by_kernels(part, verdict->isas[i], &part->runs[i]);
    }
    return ok && run(part, part->masked, &part->runs[verdict->isa_count]) && run_f64(part);
}

void part_free_runs(struct part *part) {
    for (size_t i = 0; i < MOST_RUNS; i++) {
        free_record(&part->runs[i]);
    }
    free_record(&part->generic);
    free(part->exact.hidden);
    free(part->exact.outputs);
    free(part->exact.nodes);
}
