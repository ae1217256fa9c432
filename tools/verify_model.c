#include "tools/verify_model.h"

#include "bert/reference_f64.h"
#include "tools/best.h"
#include "tools/model_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS_AT_ONCE = 256, TOKENS_DECODED = 64 };

/* What one run of a part of the input showed: matrices of tokens x width, one a layer. */
struct record {
    float *hidden;           /* tokens x width */
    float *inputs, *outputs; /* of each layer's feedforward */
    uint32_t *nodes;         /* layers x tokens x path, which is 0 for trees of depth 0 */
    float *logits;           /* likewise */
};
struct record_f64 {
    double *hidden, *outputs;
    uint32_t *nodes;
};

/* What another program computed from the whole input; values are NULL where it did not. */
struct file_results {
    fff_floats hidden, logits, embedding;
};

/* Some sequences of the input, on which everything is run before the next. */
struct part {
    const struct model_input_choice *choice;
    const struct model_check *check;
    const fff_bert *masked; /* the dense model, open throughout */
    const struct file_results *file;
    struct model_verdict *verdict;
    fff_bert_batch batch;
    size_t first; /* sequence */
    size_t tokens, width, path, layers;
    size_t checked; /* tokens, from the first, whose layers are checked one by one */
    struct record runs[MOST_RUNS];
    struct record generic; /* where it is not among them */
    struct record_f64 exact;
    char *error;
    size_t error_size;
};

double relative(struct difference difference) {
    return difference.largest_error > 0 ? difference.largest_error / difference.largest_value : 0;
}

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

/* ---- Whether it holds ------------------------------------------------------------------------ */

bool model_layer_holds(const struct model_verdict *verdict, size_t layer) {
    const struct layer_verdicts *of = &verdict->layers[layer];
    return verdicts_hold(of->isas, verdict->isa_count) && store_verdict_holds(&of->store);
}

bool model_run_holds(const struct model_verdict *verdict, size_t run) {
    const struct end_to_end *of = &verdict->runs[run];
    if (verdict->narrow && run < verdict->isa_count) {
        return of->differing_values == 0; /* what narrow weights lose is told, and no fault */
    }
    return of->differing_values == 0 && relative(of->steady) <= MODEL_TOLERANCE &&
           relative(of->file_hidden) <= MODEL_TOLERANCE && relative(of->file_logits) <= MODEL_TOLERANCE &&
           of->file_embedding <= EMBEDDING_TOLERANCE;
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

/* ---- Running --------------------------------------------------------------------------------- */

static bool out_of_memory(const struct part *part) {
    snprintf(part->error, part->error_size, "out of memory");
    return false;
}

static void free_record(struct record *record) {
    free(record->hidden);
    free(record->inputs);
    free(record->outputs);
    free(record->nodes);
    free(record->logits);
}

static bool make_record(const struct part *part, struct record *record) {
    size_t values = part->tokens * part->width, entries = part->layers * part->tokens * part->path;
    record->hidden = calloc(values, sizeof *record->hidden);
    record->inputs = calloc(part->layers * values, sizeof *record->inputs);
    record->outputs = calloc(part->layers * values, sizeof *record->outputs);
    record->nodes = calloc(entries + 1, sizeof *record->nodes);
    record->logits = calloc(entries + 1, sizeof *record->logits);
    return (record->hidden != NULL && record->inputs != NULL && record->outputs != NULL && record->nodes != NULL &&
            record->logits != NULL) ||
           out_of_memory(part);
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

static fff_bert_options options_of(const struct model_check *check, fff_isa isa, fff_bert_feedforward feedforward) {
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
    const fff_bert_options options = options_of(part->check, isa, FFF_BERT_TREES);
    fff_bert *model = fff_bert_open(part->choice->directory, &options, part->error, part->error_size);
    bool ok = model != NULL && run(part, model, record);
    fff_bert_close(model);
    return ok;
}

static bool run_f64(struct part *part) {
    struct record_f64 *exact = &part->exact;
    struct recording recording = {part, NULL, exact};
    size_t values = part->tokens * part->width;
    exact->hidden = calloc(values, sizeof *exact->hidden);
    exact->outputs = calloc(part->layers * values, sizeof *exact->outputs);
    exact->nodes = calloc(part->layers * part->tokens * part->path + 1, sizeof *exact->nodes);
    if (exact->hidden == NULL || exact->outputs == NULL || exact->nodes == NULL) {
        return out_of_memory(part);
    }
    return fff_bert_encode_f64(part->masked, &part->batch, exact->hidden, note_layer_f64, &recording, part->error,
                               part->error_size);
}

/* ---- Layer by layer -------------------------------------------------------------------------- */

/* The largest difference between two outputs of the tokens whose paths agree. */
static double largest_difference(const struct part *part, const float *output, const uint32_t *nodes,
                                 const float *other_output, const uint32_t *other_nodes) {
    double largest = 0;
    for (size_t token = 0; token < part->checked; token++) {
        size_t entry = token * part->path, first = token * part->width;
        bool same = memcmp(nodes + entry, other_nodes + entry, part->path * sizeof *nodes) == 0;
        for (size_t i = first; i < first + part->width && same; i++) {
            double difference = fabs((double)output[i] - (double)other_output[i]);
            largest = difference > largest ? difference : largest; /* fmax() here crashes gcc 12 for AArch64 */
        }
    }
    return largest;
}

/* One layer in all ways, on the input recorded in the first run. The masked result takes the place of a layer file's:
 * another program's, to be held against the definition. */
static bool check_layer(const struct part *part, size_t layer) {
    const struct record *record = &part->runs[0];
    const fff_layer_desc desc = fff_bert_layer_desc(part->masked, layer);
    size_t values = part->tokens * part->width, entries = part->tokens * part->path; /* of a layer in the record */
    struct layer_data data;
    struct verdict verdicts[FFF_ISA_COUNT];
    struct store_verdict store;
    if (layer_data_copy(&data, &desc, part->checked, record->inputs + layer * values) != 0) {
        return out_of_memory(part);
    }
    uint32_t *nodes = calloc(entries + 1, sizeof *nodes);
    float *logits = calloc(entries + 1, sizeof *logits);
    data.expected_output = calloc(values, sizeof *data.expected_output);
    fff_status status = FFF_ERROR_OUT_OF_MEMORY;
    if (nodes != NULL && logits != NULL && data.expected_output != NULL) {
        status = fff_bert_feedforward_alone(part->masked, layer, part->checked, data.input, data.expected_output,
                                            part->path > 0 ? nodes : NULL, part->path > 0 ? logits : NULL);
    }
    if (status == FFF_OK) {
        struct layer_verdicts *sum = &part->verdict->layers[layer];
        double difference = largest_difference(part, record->outputs + layer * values, record->nodes + layer * entries,
                                               data.expected_output, nodes);
        sum->masked_difference = fmax(sum->masked_difference, difference);
        if (stored_input_type(&data) == FFF_WEIGHT_I8 || stored_output_type(&data) == FFF_WEIGHT_I8) {
            free(data.expected_output); /* int8 has another definition than the masked layer's */
            data.expected_output = NULL;
        }
        bool paths = part->path > 0 && data.expected_output != NULL;
        data.expected_path = paths ? (int32_t *)nodes : NULL; /* the same bits */
        status =
            verify_layer(&data, part->verdict->isas, part->verdict->isa_count, VERIFY_FEW_SPLITS, verdicts, &store);
        data.expected_path = NULL;
    }
    if (status == FFF_OK) {
        store_verdict_add(&part->verdict->layers[layer].store, &store);
    }
    for (size_t i = 0; i < part->verdict->isa_count && status == FFF_OK; i++) {
        verdict_add(&part->verdict->layers[layer].isas[i], &verdicts[i]);
    }
    layer_data_free(&data);
    free(nodes);
    free(logits);
    if (status != FFF_OK) {
        snprintf(part->error, part->error_size, "%s: layer %zu: %s", part->choice->directory, layer,
                 fff_status_text(status));
    }
    return status == FFF_OK;
}

/* ---- End to end ------------------------------------------------------------------------------ */

static void compare(double value, double expected, struct difference *difference) {
    double error = fabs(value - expected);
    difference->largest_error = isnan(error) ? INFINITY : fmax(difference->largest_error, error);
    difference->largest_value = fmax(difference->largest_value, fabs(expected));
}

/* Where a run parts from float64 in some token of a layer: the entry of its path, or 0 if it does not. */
static size_t entry_apart(const struct part *part, size_t run, size_t token) {
    const uint32_t *nodes = part->runs[run].nodes + token * part->path;
    const uint32_t *exact = part->exact.nodes + token * part->path;
    for (size_t entry = 1; entry < part->path; entry++) {
        if (nodes[entry] != exact[entry]) {
            return entry;
        }
    }
    return 0;
}

/* In how many tokens of a layer, among some sequence's, a run went another way than float64. The first goes to *first;
 * the largest of the logits where they first parted to *largest. */
static size_t flips_of(const struct part *part, size_t run, size_t layer, size_t sequence, struct route_apart *first,
                       double *largest) {
    size_t flips = 0, levels = part->verdict->config.depth + 1;
    for (size_t i = 0; i < part->batch.length; i++) {
        size_t token = layer * part->tokens + sequence * part->batch.length + i;
        size_t entry = entry_apart(part, run, token);
        if (entry == 0) {
            continue;
        }
        double logit = (double)part->runs[run].logits[token * part->path + entry - 1]; /* of the node before */
        if (flips++ == 0) {
            *first = (struct route_apart){part->first + sequence, i, layer, entry / levels, entry % levels, logit};
        }
        *largest = fmax(*largest, fabs(logit));
    }
    return flips;
}

static bool same_bits(const void *a, const void *b) {
    return memcmp(a, b, sizeof(float)) == 0;
}

static void compare_bits(const struct part *part, size_t run) {
    const struct record *record = &part->runs[run];
    const struct record *generic = part->generic.hidden != NULL ? &part->generic : &part->runs[0];
    size_t values = part->tokens * part->width, *differing = &part->verdict->runs[run].differing_values;
    for (size_t i = 0; i < values; i++) {
        *differing += !same_bits(record->hidden + i, generic->hidden + i);
    }
    for (size_t i = 0; i < part->layers * values; i++) {
        *differing += !same_bits(record->outputs + i, generic->outputs + i);
    }
    for (size_t i = 0; i < part->layers * part->tokens * part->path; i++) {
        *differing += record->nodes[i] != generic->nodes[i];
        *differing += !same_bits(record->logits + i, generic->logits + i);
    }
}

/* Padding is compared too where a file has results for it, but not with float64's run: nothing reads it. */
static bool is_token(const struct part *part, size_t token) {
    return part->batch.mask == NULL || part->batch.mask[token] != 0;
}

static void compare_run(const struct part *part, size_t run) {
    struct end_to_end *of = &part->verdict->runs[run];
    size_t length = part->batch.length, width = part->width;
    for (size_t sequence = 0; sequence < part->batch.sequences; sequence++) {
        bool steady = true;
        for (size_t layer = 0; layer < part->layers; layer++) {
            double largest = 0;
            struct route_apart first = {0};
            size_t flips = flips_of(part, run, layer, sequence, &first, &largest);
            of->layer_flips[layer] += flips;
            if (flips > 0 && steady) {
                if (of->sequences_apart++ == 0) {
                    of->first_apart = first;
                }
                of->largest_flip = fmax(of->largest_flip, largest);
                steady = false;
            }
        }
        for (size_t token = sequence * length; token < (sequence + 1) * length; token++) {
            for (size_t i = token * width; i < (token + 1) * width && is_token(part, token); i++) {
                double value = (double)part->runs[run].hidden[i], exact = part->exact.hidden[i];
                compare(value, exact, &of->hidden);
                if (steady) {
                    compare(value, exact, &of->steady);
                }
                for (size_t layer = 0; layer < part->layers; layer++) {
                    size_t at = layer * part->tokens * width + i;
                    compare((double)part->runs[run].outputs[at], part->exact.outputs[at], &of->layers[layer]);
                }
            }
        }
    }
}

static void compare_prediction(const float *logits, const double *exact, size_t count, struct end_to_end *of) {
    size_t ours[BEST] = {0}, theirs[BEST] = {0}, most = count < BEST ? count : BEST, shared = 0;
    best_of(logits, count, ours);
    best_of_f64(exact, count, theirs);
    for (size_t i = 0; i < most * most; i++) {
        shared += ours[i / most] == theirs[i % most];
    }
    of->predictions++;
    of->top1 += ours[0] == theirs[0];
    of->top5 += shared == most;
    for (size_t i = 0; i < count; i++) {
        compare((double)logits[i], exact[i], &of->logits);
    }
}

/* A row of logits of each run against float64's and the file's, in which it has that number. */
static void compare_logits(const struct part *part, size_t run, const float *logits, const double *exact, size_t count,
                           bool is_prediction, const float *file, size_t row) {
    struct end_to_end *of = &part->verdict->runs[run];
    if (is_prediction) {
        compare_prediction(logits, exact, count, of);
    }
    for (size_t i = 0; i < count && file != NULL; i++) {
        compare((double)logits[i], (double)file[i], &of->file_logits);
        compare_value(&of->file_logits_at, row, i, logits[i], file[i]);
    }
}

/* The values of a tensor of the input's file that belong to this part: rows of `count`, from row `first`. */
static const float *file_rows(const fff_floats *floats, size_t first, size_t count) {
    return floats->values != NULL ? floats->values + first * count : NULL;
}

static bool check_predictions(const struct part *part) {
    size_t count = part->verdict->config.vocabulary, first = part->first * part->batch.length;
    float *logits = malloc(TOKENS_DECODED * count * sizeof *logits);
    double *exact = malloc(TOKENS_DECODED * count * sizeof *exact);
    bool ok = logits != NULL && exact != NULL;
    for (size_t at = 0; at < part->tokens && ok; at += TOKENS_DECODED) {
        size_t tokens = part->tokens - at < TOKENS_DECODED ? part->tokens - at : TOKENS_DECODED;
        ok = fff_bert_decode_f64(part->masked, tokens, part->exact.hidden + at * part->width, exact);
        for (size_t run = 0; run <= part->verdict->isa_count && ok; run++) {
            ok = fff_bert_decode(part->masked, tokens, part->runs[run].hidden + at * part->width, logits);
            for (size_t token = 0; token < tokens && ok; token++) {
                compare_logits(part, run, logits + token * count, exact + token * count, count,
                               is_token(part, at + token), file_rows(&part->file->logits, first + at + token, count),
                               first + at + token);
            }
        }
    }
    free(logits);
    free(exact);
    return ok || out_of_memory(part);
}

static bool check_classes(const struct part *part) {
    size_t count = part->verdict->config.labels, sequences = part->batch.sequences, length = part->batch.length;
    float *logits = malloc(sequences * count * sizeof *logits);
    double *exact = malloc(sequences * count * sizeof *exact);
    bool ok = logits != NULL && exact != NULL &&
              fff_bert_classify_f64(part->masked, sequences, length, part->exact.hidden, exact);
    for (size_t run = 0; run <= part->verdict->isa_count && ok; run++) {
        ok = fff_bert_classify(part->masked, sequences, length, part->runs[run].hidden, logits);
        for (size_t i = 0; i < sequences && ok; i++) {
            compare_logits(part, run, logits + i * count, exact + i * count, count, true,
                           file_rows(&part->file->logits, part->first + i, count), part->first + i);
        }
    }
    free(logits);
    free(exact);
    return ok || out_of_memory(part);
}

static bool check_logits(const struct part *part) {
    return part->verdict->config.labels > 0 ? check_classes(part)
           : part->verdict->has_logits      ? check_predictions(part)
                                            : true;
}

static void check_file_hidden(const struct part *part) {
    size_t first = part->first * part->batch.length;
    const float *values = file_rows(&part->file->hidden, first, part->width);
    for (size_t run = 0; run <= part->verdict->isa_count && values != NULL; run++) {
        struct end_to_end *of = &part->verdict->runs[run];
        for (size_t i = 0; i < part->tokens * part->width; i++) {
            float hidden = part->runs[run].hidden[i];
            compare((double)hidden, (double)values[i], &of->file_hidden);
            compare_value(&of->file_hidden_at, first + i / part->width, i % part->width, hidden, values[i]);
        }
    }
}

static double cosine_distance(const float *a, const float *b, size_t count) {
    double product = 0, squares_a = 0, squares_b = 0;
    for (size_t i = 0; i < count; i++) {
        product += (double)a[i] * (double)b[i];
        squares_a += (double)a[i] * (double)a[i];
        squares_b += (double)b[i] * (double)b[i];
    }
    double distance = 1 - product / sqrt(squares_a * squares_b);
    return isnan(distance) ? INFINITY : distance;
}

static bool check_embeddings(const struct part *part) {
    const float *values = file_rows(&part->file->embedding, part->first, part->width);
    if (values == NULL) {
        return true;
    }
    float *embeddings = malloc(part->batch.sequences * part->width * sizeof *embeddings);
    for (size_t run = 0; run <= part->verdict->isa_count && embeddings != NULL; run++) {
        struct end_to_end *of = &part->verdict->runs[run];
        fff_bert_pool(part->masked, &part->batch, part->runs[run].hidden, embeddings);
        for (size_t i = 0; i < part->batch.sequences; i++) {
            double distance = cosine_distance(embeddings + i * part->width, values + i * part->width, part->width);
            if (distance > of->file_embedding) {
                of->file_embedding = distance;
                of->file_embedding_at = part->first + i;
            }
        }
    }
    free(embeddings);
    return embeddings != NULL || out_of_memory(part);
}

/* ---- All of it ------------------------------------------------------------------------------- */

static bool run_everything(struct part *part) {
    struct model_verdict *verdict = part->verdict;
    bool ok = verdict->isas[0] == FFF_ISA_GENERIC || run_by_kernels(part, FFF_ISA_GENERIC, &part->generic);
    for (size_t i = 0; i < verdict->isa_count && ok; i++) {
        ok = run_by_kernels(part, verdict->isas[i], &part->runs[i]);
    }
    ok = ok && run(part, part->masked, &part->runs[verdict->isa_count]) && run_f64(part);
    for (size_t layer = 0; layer < part->layers && part->checked > 0 && ok; layer++) {
        ok = check_layer(part, layer);
    }
    for (size_t i = 0; i <= verdict->isa_count && ok; i++) {
        compare_run(part, i);
        if (i < verdict->isa_count) {
            compare_bits(part, i);
        }
    }
    if (ok) {
        check_file_hidden(part);
        ok = check_logits(part) && check_embeddings(part);
    }
    for (size_t i = 0; i < MOST_RUNS; i++) {
        free_record(&part->runs[i]);
    }
    free_record(&part->generic);
    free(part->exact.hidden);
    free(part->exact.outputs);
    free(part->exact.nodes);
    return ok;
}

static void free_results(struct file_results *file) {
    free(file->hidden.owned);
    free(file->logits.owned);
    free(file->embedding.owned);
}

/* The results in the file, which must have the shapes that this model gives them; the leading dimensions may be one. */
static bool read_results(const struct model_input *input, const fff_bert_config *config, struct file_results *file,
                         char *error, size_t error_size) {
    size_t sequences = input->batch.sequences, tokens = sequences * input->batch.length;
    bool words = config->labels == 0;
    const struct {
        const char *name;
        const fff_tensor *tensor;
        size_t rows, columns;
        fff_floats *floats;
    } results[] = {
        {"hidden", input->hidden, tokens, config->hidden_size, &file->hidden},
        {"logits", input->logits, words ? tokens : sequences, words ? config->vocabulary : config->labels,
         &file->logits},
        {"embedding", input->embedding, sequences, config->hidden_size, &file->embedding},
    };
    for (size_t i = 0; i < sizeof results / sizeof *results; i++) {
        const fff_tensor *tensor = results[i].tensor;
        if (tensor == NULL) {
            continue;
        }
        bool fits = tensor->rank >= 2 && tensor->shape[tensor->rank - 1] == results[i].columns &&
                    tensor->count == results[i].rows * results[i].columns;
        if (!fits || !fff_tensor_floats(tensor, results[i].floats)) {
            snprintf(error, error_size, "%s: tensor '%s' has %zu elements of %s where the model gives %zu x %zu",
                     input->source, results[i].name, tensor->count, tensor->type_name, results[i].rows,
                     results[i].columns);
            return false;
        }
    }
    return true;
}

static bool prepare(const struct model_input_choice *choice, const fff_bert *masked, struct model_verdict *verdict,
                    struct model_input *input, struct file_results *file, char *error, size_t error_size) {
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
    verdict->has_file_results = input->hidden != NULL || input->logits != NULL || input->embedding != NULL;
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
    return ok && read_results(input, &verdict->config, file, error, error_size);
}

bool verify_model(const struct model_input_choice *choice, const struct model_check *check,
                  struct model_verdict *verdict, char *error, size_t error_size) {
    struct model_input input = {0};
    struct file_results file = {0};
    const fff_bert_options options = options_of(check, check->isas[0], FFF_BERT_MASKED);
    *verdict = (struct model_verdict){.isa_count = check->isa_count};
    memcpy(verdict->isas, check->isas, check->isa_count * sizeof *check->isas);
    fff_bert *masked = fff_bert_open(choice->directory, &options, error, error_size);
    bool ok = masked != NULL && prepare(choice, masked, verdict, &input, &file, error, error_size);
    const fff_bert_config *config = &verdict->config;
    size_t at_once = ok && input.batch.length > 0 ? TOKENS_AT_ONCE / input.batch.length : 0;
    at_once = at_once > 0 ? at_once : 1;
    /* An empty input goes through too, for its error. */
    for (size_t first = 0; ok && (first == 0 || first < input.batch.sequences); first += at_once) {
        size_t sequences = input.batch.sequences - first < at_once ? input.batch.sequences - first : at_once;
        size_t token = first * input.batch.length;
        struct part part = {
            .choice = choice,
            .check = check,
            .masked = masked,
            .file = &file,
            .verdict = verdict,
            .batch = {sequences, input.batch.length, input.ids + token, input.mask != NULL ? input.mask + token : NULL},
            .first = first,
            .tokens = sequences * input.batch.length,
            .width = config->hidden_size,
            .path = config->depth > 0 ? config->trees * (config->depth + 1) : 0,
            .layers = config->layers,
            .checked = smaller(sequences * input.batch.length, check->layer_tokens - verdict->layer_tokens),
            .error = error,
            .error_size = error_size,
        };
        ok = run_everything(&part);
        verdict->layer_tokens += part.checked;
        for (size_t i = 0; i < part.checked; i++) {
            verdict->layer_padding += !is_token(&part, i);
        }
    }
    fff_bert_close(masked);
    free_results(&file);
    model_input_free(&input);
    if (!ok) {
        model_verdict_free(verdict);
    }
    return ok;
}

void model_verdict_free(struct model_verdict *verdict) {
    free(verdict->layers);
    for (size_t i = 0; i < MOST_RUNS; i++) {
        free(verdict->runs[i].layers);
        free(verdict->runs[i].layer_flips);
    }
    *verdict = (struct model_verdict){0};
}
