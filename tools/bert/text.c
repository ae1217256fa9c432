#include "tools/bert/text.h"

#include "bert/report.h"
#include "tools/commands.h"
#include "tools/models/best.h"
#include "tools/models/tokenizer.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a text is run with. */
struct session {
    fff_bert *model;
    fff_tokenizer *tokenizer;
    int32_t *ids;
    size_t count;
    float *hidden, *scores;
};

static int fail(const char *text) {
    fprintf(stderr, "fff bert: %s\n", text);
    return EXIT_BAD_INPUT;
}

/* ---- Answers --------------------------------------------------------------------------------- */

/* A piece, or the label, with that index. */
static void print_name(const fff_tokenizer *tokenizer, size_t index) {
    const char *piece = tokenizer != NULL ? fff_tokenizer_piece(tokenizer, (int32_t)index) : NULL;
    if (piece != NULL) {
        char shown[256];
        fff_escape(shown, sizeof shown, piece, strlen(piece));
        printf("  %-20s", shown);
    } else {
        printf("  %-20zu", index);
    }
}

static bool are_finite(const float *values, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(values[i])) {
            return false;
        }
    }
    return true;
}

/* The title, and the largest of some logits with the probability that softmax gives them. False, and nothing is
 * printed, where one is no number or infinite. */
static bool print_best(const char *title, const fff_tokenizer *tokenizer, const float *logits, size_t count) {
    size_t best[BEST] = {0}, found = count < BEST ? count : BEST;
    double sum = 0;
    if (!are_finite(logits, count)) {
        return false;
    }
    best_of(logits, count, best);
    for (size_t i = 0; i < count; i++) {
        sum += exp((double)logits[i] - (double)logits[best[0]]);
    }
    fputs(title, stdout);
    for (size_t i = 0; i < found; i++) {
        print_name(tokenizer, best[i]);
        printf(" logit %10.5f  probability %.4f\n", (double)logits[best[i]],
               exp((double)logits[best[i]] - (double)logits[best[0]]) / sum);
    }
    return true;
}

/* Among some ids of a text. */
static size_t count_masks(const fff_tokenizer *tokenizer, const int32_t *ids, size_t count) {
    int32_t mask = fff_tokenizer_mask(tokenizer);
    size_t masks = 0;
    for (size_t i = 0; i < count; i++) {
        masks += ids[i] == mask;
    }
    return masks;
}

static bool predicts_masks(const struct session *s) {
    return fff_bert_predicts_words(s->model) && fff_bert_configuration(s->model)->labels == 0;
}

static int print_masks(const struct session *s) {
    const fff_bert_config *config = fff_bert_configuration(s->model);
    int32_t mask = fff_tokenizer_mask(s->tokenizer);
    for (size_t i = 0; i < s->count; i++) {
        if (s->ids[i] == mask) {
            if (!fff_bert_decode(s->model, 1, s->hidden + i * config->hidden_size, s->scores)) {
                return fail("out of memory");
            }
            char title[32];
            snprintf(title, sizeof title, "token %zu:\n", i);
            if (!print_best(title, s->tokenizer, s->scores, config->vocabulary)) {
                return fail("the logits hold a NaN or an infinity");
            }
        }
    }
    return EXIT_HOLDS;
}

static int print_answer(const struct session *s) {
    const fff_bert_config *config = fff_bert_configuration(s->model);
    if (config->labels > 0) {
        if (!fff_bert_classify(s->model, 1, s->count, s->hidden, s->scores)) {
            return fail("out of memory");
        }
        return print_best("", NULL, s->scores, config->labels) ? EXIT_HOLDS
                                                               : fail("the logits hold a NaN or an infinity");
    }
    if (predicts_masks(s) && count_masks(s->tokenizer, s->ids, s->count) > 0) {
        return print_masks(s);
    }
    if (config->family == FFF_BERT_CRAMMED) { /* trained for words, not for embeddings */
        return fail("nothing is masked: put [MASK] where a word is to be predicted");
    }
    const fff_bert_batch batch = {1, s->count, s->ids, NULL};
    fff_bert_pool(s->model, &batch, s->hidden, s->scores);
    if (!are_finite(s->scores, config->hidden_size)) {
        return fail("the embedding holds a NaN or an infinity");
    }
    for (size_t i = 0; i < config->hidden_size; i++) {
        printf("%s%.9g", i > 0 ? " " : "", (double)s->scores[i]);
    }
    puts("");
    return EXIT_HOLDS;
}

/* ---- Running a text -------------------------------------------------------------------------- */

/* The text with the other spelling of the mask, [MASK] or <mask>, turned into the model's own. To free(). */
static char *with_own_mask(const fff_tokenizer *tokenizer, const char *text) {
    static const char *const spellings[] = {"[MASK]", "<mask>"};
    const char *own = fff_tokenizer_piece(tokenizer, fff_tokenizer_mask(tokenizer));
    size_t length = strlen(text), used = 0;
    char *copy = malloc(length + 1); /* both spellings are six bytes */
    while (copy != NULL && *text != '\0') {
        size_t spelling = 0;
        while (spelling < 2 && strncmp(text, spellings[spelling], 6) != 0) {
            spelling++;
        }
        bool replace = spelling < 2 && own != NULL && strlen(own) == 6;
        size_t step = replace ? 6 : 1;
        memcpy(copy + used, replace ? own : text, step);
        used += step;
        text += step;
    }
    if (copy != NULL) {
        copy[used] = '\0';
    }
    return copy;
}

/* The text's ids, cut to what the model takes; no mask that is to be predicted may be cut off. */
static bool read_ids(struct session *s, const char *text, char *error, size_t error_size) {
    size_t length = strlen(text), most = fff_bert_configuration(s->model)->text_length, whole_count = 0;
    if (!fff_tokenizer_try_encode(s->tokenizer, text, length, most, &s->ids, &s->count, error, error_size)) {
        return false;
    }
    if (!predicts_masks(s)) {
        return true;
    }
    int32_t *whole = NULL;
    fff_tokenizer_any_length(s->tokenizer);
    bool ok = fff_tokenizer_try_encode(s->tokenizer, text, length, SIZE_MAX, &whole, &whole_count, error, error_size);
    if (ok && count_masks(s->tokenizer, whole, whole_count) > count_masks(s->tokenizer, s->ids, s->count)) {
        snprintf(error, error_size, "a mask lies behind the %zu tokens that the model takes", s->count);
        ok = false;
    }
    free(whole);
    return ok;
}

static int encode(const struct bert_text *request, struct session *s) {
    char error[512];
    const fff_bert_options options = {
        .isa = request->isa,
        .feedforward = request->feedforward,
        .store_input = request->store.input,
        .store_output = request->store.output,
        .routes = request->store.routes,
    };
    s->model = fff_bert_open(request->directory, &options, error, sizeof error);
    s->tokenizer = s->model != NULL
                       ? model_tokenizer(request->directory, fff_bert_configuration(s->model), error, sizeof error)
                       : NULL;
    if (s->tokenizer == NULL) {
        return fail(error);
    }
    const fff_bert_config *config = fff_bert_configuration(s->model);
    size_t scores = config->vocabulary + config->labels + config->hidden_size;
    char *text = with_own_mask(s->tokenizer, request->text);
    snprintf(error, sizeof error, "out of memory");
    bool ok = text != NULL && read_ids(s, text, error, sizeof error);
    free(text);
    if (!ok) {
        return fail(error);
    }
    s->hidden = allocate_matrix(s->count + 1, config->hidden_size);
    s->scores = allocate_matrix(scores, 1);
    if (s->hidden == NULL || s->scores == NULL) {
        return fail("out of memory");
    }
    const fff_bert_batch batch = {1, s->count, s->ids, NULL};
    return fff_bert_encode(s->model, &batch, s->hidden, NULL, error, sizeof error) ? print_answer(s) : fail(error);
}

int bert_text(const struct bert_text *request) {
    struct session session = {0};
    int status = encode(request, &session);
    fff_bert_close(session.model);
    fff_tokenizer_close(session.tokenizer);
    free(session.ids);
    free(session.hidden);
    free(session.scores);
    return status;
}
