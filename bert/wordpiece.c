/* A tokenizer's tables: filling them, and asking them. */
#include "bert/wordpiece.h"

#include "bert/wordpiece_tables.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_NORMALIZED = 1 << 24 };

/* ---- Pieces ---------------------------------------------------------------------------------- */

fff_tokenizer *fff_tokenizer_create(void) {
    fff_tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    if (tokenizer != NULL) {
        tokenizer->unknown = -1;
        tokenizer->most_ids = SIZE_MAX;
    }
    return tokenizer;
}

static int by_name(const void *left, const void *right) {
    const struct fff_piece *a = left, *b = right;
    return strcmp(a->name, b->name);
}

static int by_id(const void *left, const void *right) {
    const struct fff_piece *a = left, *b = right;
    return (a->id > b->id) - (a->id < b->id);
}

static struct fff_piece *find(const fff_tokenizer *tokenizer, const char *name) {
    const struct fff_piece wanted = {(char *)name, 0, 0};
    struct fff_piece *const *found = tfind(&wanted, &tokenizer->names, by_name);
    return found != NULL ? *found : NULL;
}

static struct fff_piece *piece_of(const fff_tokenizer *tokenizer, int32_t id) {
    const struct fff_piece wanted = {NULL, id, 0};
    struct fff_piece *const *found = tfind(&wanted, &tokenizer->ids, by_id);
    return found != NULL ? *found : NULL;
}

static void free_piece(struct fff_piece *piece) {
    if (piece != NULL) {
        free(piece->name);
        free(piece);
    }
}

static bool store_piece(fff_tokenizer *tokenizer, const struct fff_report *report, struct fff_piece *piece) {
    const struct fff_piece *same = piece_of(tokenizer, piece->id);
    if (same != NULL) {
        return FFF_FAIL(report, "pieces '%s' and '%s' both have id %d", same->name, piece->name, piece->id);
    }
    same = find(tokenizer, piece->name);
    if (same != NULL) {
        return FFF_FAIL(report, "piece '%s' has the ids %d and %d", piece->name, same->id, piece->id);
    }
    if (tokenizer->piece_count == tokenizer->piece_capacity) {
        size_t capacity = tokenizer->piece_capacity * 2 + 64;
        struct fff_piece **pieces = realloc(tokenizer->pieces, capacity * sizeof(struct fff_piece *));
        if (pieces == NULL) {
            return FFF_FAIL(report, "out of memory");
        }
        tokenizer->pieces = pieces;
        tokenizer->piece_capacity = capacity;
    }
    if (tsearch(piece, &tokenizer->names, by_name) == NULL || tsearch(piece, &tokenizer->ids, by_id) == NULL) {
        return FFF_FAIL(report, "out of memory");
    }
    tokenizer->pieces[tokenizer->piece_count++] = piece;
    tokenizer->id_count = (size_t)piece->id >= tokenizer->id_count ? (size_t)piece->id + 1 : tokenizer->id_count;
    return true;
}

static bool add_piece(fff_tokenizer *tokenizer, const struct fff_report *report, const char *name, long long id) {
    if (id < 0 || id > FFF_TOKENIZER_MAX_ID) {
        return FFF_FAIL(report, "piece '%s' has no id from 0 to %d", name, FFF_TOKENIZER_MAX_ID);
    }
    struct fff_piece *piece = malloc(sizeof *piece);
    if (piece == NULL) {
        return FFF_FAIL(report, "out of memory");
    }
    *piece = (struct fff_piece){strdup(name), (int32_t)id, -1};
    bool ok = piece->name != NULL ? store_piece(tokenizer, report, piece) : FFF_FAIL(report, "out of memory");
    if (!ok) {
        free_piece(piece);
    }
    return ok;
}

bool fff_tokenizer_add_piece(fff_tokenizer *tokenizer, const struct fff_report *report, const char *name,
                             long long id) {
    tokenizer->vocabulary_size++;
    return add_piece(tokenizer, report, name, id);
}

/* Patterns of the vocabulary: pieces as they are, or, inside, those with the prefix, without it. What has more
 * characters than a word may have is found nowhere, and left out. */
static bool match_pieces(const fff_tokenizer *tokenizer, bool inside, struct fff_matcher *matcher) {
    size_t prefix = inside ? strlen(tokenizer->continuing) : 0, total = 0, count = 0;
    struct fff_text points = {0};
    struct fff_pattern *patterns = malloc((tokenizer->piece_count + 1) * sizeof *patterns);
    for (size_t i = 0; i < tokenizer->piece_count; i++) {
        total += strlen(tokenizer->pieces[i]->name);
    }
    bool ok = patterns != NULL && fff_text_reserve(&points, total + 1); /* so that it stays where it is */
    for (size_t i = 0; i < tokenizer->piece_count && ok; i++) {
        const struct fff_piece *piece = tokenizer->pieces[i];
        if (inside && strncmp(piece->name, tokenizer->continuing, prefix) != 0) {
            continue;
        }
        size_t start = points.count;
        ok = fff_text_append_utf8(&points, piece->name + prefix, strlen(piece->name + prefix));
        size_t length = points.count - start;
        if (length == 0 || length > tokenizer->longest_word) {
            points.count = start;
        } else {
            patterns[count++] = (struct fff_pattern){points.data + start, length, piece->id};
        }
    }
    if (!ok) {
        free(patterns);
    }
    ok = ok && fff_matcher_create(matcher, patterns, count);
    fff_text_free(&points);
    return ok;
}

bool fff_tokenizer_end_vocabulary(fff_tokenizer *tokenizer, const struct fff_report *report) {
    return (match_pieces(tokenizer, false, &tokenizer->first) && match_pieces(tokenizer, true, &tokenizer->inside)) ||
           FFF_FAIL(report, "out of memory");
}

/* ---- Normalizer ------------------------------------------------------------------------------ */

struct fff_normalize_step *fff_tokenizer_add_step(fff_tokenizer *tokenizer, const struct fff_report *report,
                                                  enum fff_normalize_kind kind) {
    if (tokenizer->step_count == FFF_TOKENIZER_MAX_STEPS) {
        fff_report(report, "the normalizer has more than %d steps", FFF_TOKENIZER_MAX_STEPS);
        return NULL;
    }
    struct fff_normalize_step *step = &tokenizer->steps[tokenizer->step_count++];
    *step = (struct fff_normalize_step){.kind = kind};
    return step;
}

bool fff_tokenizer_add_bert_steps(fff_tokenizer *tokenizer, const struct fff_report *report,
                                  const struct fff_bert_normalizer *normalizer) {
    bool strip = normalizer->strip_as_lower ? normalizer->lower : normalizer->strip;
    const struct {
        bool wanted;
        enum fff_normalize_kind kind;
    } steps[] = {{normalizer->clean, FFF_NORMALIZE_CLEAN},
                 {normalizer->space_chinese, FFF_NORMALIZE_SPACE_CHINESE},
                 {strip, FFF_NORMALIZE_NFD},
                 {strip, FFF_NORMALIZE_DROP_NONSPACING},
                 {normalizer->lower, FFF_NORMALIZE_LOWER}};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        if (steps[i].wanted && fff_tokenizer_add_step(tokenizer, report, steps[i].kind) == NULL) {
            return false;
        }
    }
    return true;
}

/* ---- Added tokens ---------------------------------------------------------------------------- */

void fff_tokenizer_begin_tokens(fff_tokenizer *tokenizer) {
    tokenizer->next_id = (int32_t)tokenizer->vocabulary_size;
    for (size_t i = 0; i < tokenizer->token_count; i++) {
        int32_t id = tokenizer->tokens[i].id;
        tokenizer->next_id = id >= tokenizer->next_id ? id + 1 : tokenizer->next_id;
    }
}

bool fff_tokenizer_add_token(fff_tokenizer *tokenizer, const struct fff_report *report, const char *name, long long id,
                             struct fff_token_rule rule) {
    if (*name == '\0') {
        return true;
    }
    struct fff_piece *piece = find(tokenizer, name);
    int32_t own = piece != NULL ? piece->id : tokenizer->next_id;
    if (id >= 0 && id != own) {
        return FFF_FAIL(report, "added token '%s' has id %lld, and by the vocabulary %d", name, id, own);
    }
    if (piece == NULL) {
        if (!add_piece(tokenizer, report, name, own)) {
            return false;
        }
        piece = piece_of(tokenizer, own);
        tokenizer->next_id++;
    }
    if (piece->token < 0) {
        if (tokenizer->token_count == tokenizer->token_capacity) {
            size_t capacity = tokenizer->token_capacity * 2 + 16;
            struct fff_token *tokens = realloc(tokenizer->tokens, capacity * sizeof *tokens);
            if (tokens == NULL) {
                return FFF_FAIL(report, "out of memory");
            }
            tokenizer->tokens = tokens;
            tokenizer->token_capacity = capacity;
        }
        piece->token = (int32_t)tokenizer->token_count++;
    }
    tokenizer->tokens[piece->token] = (struct fff_token){rule, own};
    return true;
}

bool fff_tokenizer_has_token(const fff_tokenizer *tokenizer, const char *name) {
    const struct fff_piece *piece = find(tokenizer, name);
    return piece != NULL && piece->token >= 0;
}

/* The contents of the tokens that are to be found raw, or normalised, one after another; ends[i] is where that of
 * token i ends. */
static bool gather_tokens(const fff_tokenizer *tokenizer, const struct fff_report *report, bool normalized,
                          struct fff_text *points, size_t *ends) {
    for (size_t i = 0; i < tokenizer->token_count; i++) {
        const struct fff_token *token = &tokenizer->tokens[i];
        const char *name = piece_of(tokenizer, token->id)->name;
        struct fff_text content = {0};
        bool ok = true;
        if (token->rule.normalized == normalized) {
            ok = fff_text_append_utf8(&content, name, strlen(name)) || FFF_FAIL(report, "out of memory");
            ok = ok && (!normalized || fff_normalize(&content, tokenizer->steps, tokenizer->step_count, report));
            ok = ok &&
                 (fff_text_append_points(points, content.data, content.count) || FFF_FAIL(report, "out of memory"));
        }
        fff_text_free(&content);
        if (ok && points->count > MOST_NORMALIZED) {
            ok = FFF_FAIL(report, "the added tokens have more than %d characters once normalised", MOST_NORMALIZED);
        }
        if (!ok) {
            return false;
        }
        ends[i] = points->count;
    }
    return true;
}

/* Two tokens that normalise to the same: `tokenizers` finds one of them, by chance. */
static bool check_distinct(const fff_tokenizer *tokenizer, const struct fff_report *report,
                           const struct fff_matcher *matcher) {
    const char *names[2];
    for (size_t i = 0; matcher->twin > 0 && i < 2; i++) {
        names[i] = piece_of(tokenizer, tokenizer->tokens[matcher->patterns[matcher->twin - i].value].id)->name;
    }
    return matcher->twin == 0 ||
           FFF_FAIL(report, "added tokens '%s' and '%s' are the same once normalised", names[1], names[0]);
}

static bool match_tokens(const fff_tokenizer *tokenizer, const struct fff_report *report, bool normalized,
                         struct fff_matcher *matcher) {
    struct fff_text points = {0};
    size_t *ends = malloc((tokenizer->token_count + 1) * sizeof *ends);
    struct fff_pattern *patterns = malloc((tokenizer->token_count + 1) * sizeof *patterns);
    bool ok = (ends != NULL && patterns != NULL) || FFF_FAIL(report, "out of memory");
    ok = ok && gather_tokens(tokenizer, report, normalized, &points, ends);
    size_t count = 0, start = 0;
    for (size_t i = 0; i < tokenizer->token_count && ok; start = ends[i++]) {
        const struct fff_token *token = &tokenizer->tokens[i];
        if (token->rule.normalized != normalized) {
            continue;
        }
        ok = ends[i] > start ||
             FFF_FAIL(report, "added token '%s' is empty once normalised", piece_of(tokenizer, token->id)->name);
        if (ok) {
            patterns[count++] = (struct fff_pattern){points.data + start, ends[i] - start, (int32_t)i};
        }
    }
    if (ok) {
        ok = fff_matcher_create(matcher, patterns, count) || FFF_FAIL(report, "out of memory");
    } else {
        free(patterns);
    }
    free(ends);
    fff_text_free(&points);
    return ok && check_distinct(tokenizer, report, matcher);
}

bool fff_tokenizer_end_tokens(fff_tokenizer *tokenizer, const struct fff_report *report) {
    return match_tokens(tokenizer, report, false, &tokenizer->raw) &&
           match_tokens(tokenizer, report, true, &tokenizer->normalized);
}

bool fff_tokenizer_add_around(fff_tokenizer *tokenizer, const struct fff_report *report, bool before, long long id) {
    size_t *count = before ? &tokenizer->before_count : &tokenizer->after_count;
    if (id < 0 || id > INT32_MAX || piece_of(tokenizer, (int32_t)id) == NULL) {
        return FFF_FAIL(report, "the post_processor names a token that is not in the vocabulary");
    }
    if (*count == FFF_TOKENIZER_MAX_AROUND) {
        return FFF_FAIL(report, "more than %d tokens are to stand on a side of each text", FFF_TOKENIZER_MAX_AROUND);
    }
    (before ? tokenizer->before : tokenizer->after)[(*count)++] = (int32_t)id;
    return true;
}

/* ---- Asking, and the end --------------------------------------------------------------------- */

static void keep_piece(void *piece) {
    (void)piece; /* the list owns it */
}

void fff_tokenizer_close(fff_tokenizer *tokenizer) {
    if (tokenizer == NULL) {
        return;
    }
    tdestroy(tokenizer->names, keep_piece);
    tdestroy(tokenizer->ids, keep_piece);
    for (size_t i = 0; i < tokenizer->piece_count; i++) {
        free_piece(tokenizer->pieces[i]);
    }
    for (size_t i = 0; i < tokenizer->step_count; i++) {
        fff_normalize_step_free(&tokenizer->steps[i]);
    }
    fff_matcher_free(&tokenizer->first);
    fff_matcher_free(&tokenizer->inside);
    fff_matcher_free(&tokenizer->raw);
    fff_matcher_free(&tokenizer->normalized);
    free(tokenizer->pieces);
    free(tokenizer->continuing);
    free(tokenizer->tokens);
    free(tokenizer);
}

size_t fff_tokenizer_vocabulary(const fff_tokenizer *tokenizer) {
    return tokenizer->id_count;
}

const char *fff_tokenizer_piece(const fff_tokenizer *tokenizer, int32_t id) {
    const struct fff_piece *piece = piece_of(tokenizer, id);
    return piece != NULL ? piece->name : NULL;
}

int32_t fff_tokenizer_id(const fff_tokenizer *tokenizer, const char *piece) {
    const struct fff_piece *found = find(tokenizer, piece);
    return found != NULL ? found->id : -1;
}

int32_t fff_tokenizer_mask(const fff_tokenizer *tokenizer) {
    return tokenizer->mask;
}

int32_t fff_tokenizer_pad(const fff_tokenizer *tokenizer) {
    return tokenizer->pad;
}
