/* End to end: predictions of words or classes, and their logits. */
#include "tools/models/best.h"
#include "tools/verify/model_part.h"

#include <stdlib.h>

enum { TOKENS_DECODED = 64, FLOATS = sizeof(double) / sizeof(float) };

static void compare_prediction(const float *logits, const double *exact, size_t count, bool parted,
                               struct end_to_end *of) {
    size_t ours[BEST] = {0}, theirs[BEST] = {0}, most = count < BEST ? count : BEST, shared = 0;
    best_of(logits, count, ours);
    best_of_f64(exact, count, theirs);
    for (size_t i = 0; i < most; i++) {
        for (size_t j = 0; j < most; j++) {
            shared += ours[i] == theirs[j];
        }
    }
    of->predictions++;
    of->top1 += ours[0] == theirs[0];
    of->top5 += shared == most;
    for (size_t i = 0; i < count; i++) {
        compare_numbers((double)logits[i], exact[i], &of->logits);
        if (!parted) {
            compare_numbers((double)logits[i], exact[i], &of->steady_logits);
        }
    }
}

/* A row of logits of a sequence, by each run, against float64's and the file's, in which it has that number. */
static void compare_logits(const struct part *part, size_t run, size_t sequence, const float *logits,
                           const double *exact, size_t count, bool is_prediction, const float *file, size_t row) {
    struct end_to_end *of = &part->verdict->runs[run];
    if (is_prediction) {
        compare_prediction(logits, exact, count, part->runs[run].parted[sequence], of);
    }
    for (size_t i = 0; i < count && file != NULL; i++) {
        compare_numbers((double)logits[i], (double)file[i], &of->file_logits);
        compare_value(&of->file_logits_at, row, i, logits[i], file[i]);
    }
}

static bool check_predictions(const struct part *part) {
    size_t count = part->verdict->config.vocabulary, first = part->first * part->batch.length;
    float *logits = allocate_matrix(TOKENS_DECODED, count);
    double *exact = allocate_matrix(TOKENS_DECODED * FLOATS, count);
    bool ok = logits != NULL && exact != NULL;
    for (size_t at = 0; at < part->tokens && ok; at += TOKENS_DECODED) {
        size_t tokens = part->tokens - at < TOKENS_DECODED ? part->tokens - at : TOKENS_DECODED;
        ok = fff_bert_decode_f64(part->masked, tokens, part->exact.hidden + at * part->width, exact);
        for (size_t run = 0; run <= part->verdict->isa_count && ok; run++) {
            ok = fff_bert_decode(part->masked, tokens, part->runs[run].hidden + at * part->width, logits);
            for (size_t token = 0; token < tokens && ok; token++) {
                compare_logits(part, run, (at + token) / part->batch.length, logits + token * count,
                               exact + token * count, count, part_has_token(part, at + token),
                               other_results_rows(&part->file->logits, first + at + token, count), first + at + token);
            }
        }
    }
    free(logits);
    free(exact);
    return ok || part_out_of_memory(part);
}

static bool check_classes(const struct part *part) {
    size_t count = part->verdict->config.labels, sequences = part->batch.sequences, length = part->batch.length;
    float *logits = allocate_matrix(sequences, count);
    double *exact = allocate_matrix(sequences * FLOATS, count);
    bool ok = logits != NULL && exact != NULL &&
              fff_bert_classify_f64(part->masked, sequences, length, part->exact.hidden, exact);
    for (size_t run = 0; run <= part->verdict->isa_count && ok; run++) {
        ok = fff_bert_classify(part->masked, sequences, length, part->runs[run].hidden, logits);
        for (size_t i = 0; i < sequences && ok; i++) {
            compare_logits(part, run, i, logits + i * count, exact + i * count, count, true,
                           other_results_rows(&part->file->logits, part->first + i, count), part->first + i);
        }
    }
    free(logits);
    free(exact);
    return ok || part_out_of_memory(part);
}

bool part_check_logits(const struct part *part) {
    return part->verdict->config.labels > 0 ? check_classes(part)
           : part->verdict->has_logits      ? check_predictions(part)
                                            : true;
}
