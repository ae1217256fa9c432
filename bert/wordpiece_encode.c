/* From text to ids, as Hugging Face's `tokenizers` goes: added tokens out of the raw text, the rest normalised, added
 * tokens out of that, the rest split into words, and those into pieces. */
#include "bert/wordpiece_tables.h"

#include "bert/characters.h"

#include <stdlib.h>

/* Ids as they come, at most `most`. */
struct encoding {
    const fff_tokenizer *tokenizer;
    const struct fff_report *report;
    int32_t *ids;
    size_t count, capacity, most;
    int32_t *found; /* for one word: pieces that may be first at each character, and pieces that may go on there */
    size_t found_capacity;
};

static bool is_full(const struct encoding *encoding) {
    return encoding->count >= encoding->most;
}

static bool emit(struct encoding *encoding, int32_t id) {
    if (is_full(encoding)) {
        return true;
    }
    if (encoding->count == encoding->capacity) {
        size_t capacity = encoding->capacity * 2 + 32;
        int32_t *ids = realloc(encoding->ids, capacity * sizeof *ids);
        if (ids == NULL) {
            return FFF_FAIL(encoding->report, "out of memory");
        }
        encoding->ids = ids;
        encoding->capacity = capacity;
    }
    encoding->ids[encoding->count++] = id;
    return true;
}

/* ---- Words ----------------------------------------------------------------------------------- */

/* One word: the longest piece, then the longest that goes on there; unknown as a whole if that comes to no end. */
static bool encode_word(struct encoding *encoding, const int32_t *points, size_t count) {
    const fff_tokenizer *tokenizer = encoding->tokenizer;
    if (count > tokenizer->longest_word) {
        return emit(encoding, tokenizer->unknown);
    }
    if (count > encoding->found_capacity) {
        int32_t *found =
            count <= SIZE_MAX / 4 / sizeof *found ? realloc(encoding->found, 2 * count * sizeof *found) : NULL;
        if (found == NULL) {
            return FFF_FAIL(encoding->report, "out of memory");
        }
        encoding->found = found;
        encoding->found_capacity = count;
    }
    int32_t *first = encoding->found, *inside = first + count;
    fff_matcher_run(&tokenizer->first, points, count, first);
    fff_matcher_run(&tokenizer->inside, points, count, inside);
    size_t ids_before = encoding->count;
    for (size_t at = 0; at < count;) {
        const struct fff_matcher *matcher = at == 0 ? &tokenizer->first : &tokenizer->inside;
        int32_t index = at == 0 ? first[0] : inside[at];
        if (index == FFF_NO_PATTERN) {
            encoding->count = ids_before;
            return emit(encoding, tokenizer->unknown);
        }
        if (!emit(encoding, matcher->patterns[index].value)) {
            return false;
        }
        at += matcher->patterns[index].count;
    }
    return true;
}

/* Normalised text between added tokens, word after word. */
static bool encode_words(struct encoding *encoding, const int32_t *points, size_t count) {
    enum fff_split split = encoding->tokenizer->split;
    for (size_t start = 0; start < count && !is_full(encoding);) {
        size_t end = start;
        while (end < count && (split == FFF_SPLIT_NONE || !fff_is_space(points[end])) &&
               (split != FFF_SPLIT_SPACE_AND_PUNCTUATION || !fff_is_punctuation(points[end]))) {
            end++;
        }
        if (end > start && !encode_word(encoding, points + start, end - start)) {
            return false;
        }
        if (end < count && !fff_is_space(points[end]) &&
            !encode_word(encoding, points + end, 1)) { /* punctuation is a word of its own */
            return false;
        }
        start = end + 1;
    }
    return true;
}

/* ---- Added tokens ---------------------------------------------------------------------------- */

/* A text with the runs of white space in it, each looked for once. */
struct spaced {
    const int32_t *points;
    size_t count;
    size_t run_end; /* of the last run that was looked for */
    size_t run_start;
};

/* Where the white space ends that begins at `start`. */
static size_t skip_space(struct spaced *text, size_t start) {
    if (start < text->run_start || start > text->run_end) {
        size_t end = start;
        while (end < text->count && fff_is_space(text->points[end])) {
            end++;
        }
        text->run_start = start;
        text->run_end = end;
    }
    return text->run_end;
}

static bool stands_alone(const struct spaced *text, size_t start, size_t end) {
    return (start == 0 || !fff_is_word(text->points[start - 1])) &&
           (end == text->count || !fff_is_word(text->points[end]));
}

/* Added tokens, and by `between` what is between them. The next token is looked for where the last one's content ends,
 * whether it was taken or, for want of standing alone, not; its white space may be part of the next one. */
static bool find_tokens(struct encoding *encoding, const struct fff_matcher *matcher, const int32_t *points,
                        size_t count, bool (*between)(struct encoding *encoding, const int32_t *points, size_t count)) {
    if (matcher->pattern_count == 0 || count == 0) {
        return count == 0 || between(encoding, points, count);
    }
    int32_t *found = malloc(count * sizeof *found);
    if (found == NULL) {
        return FFF_FAIL(encoding->report, "out of memory");
    }
    fff_matcher_run(matcher, points, count, found);
    struct spaced text = {.points = points, .count = count, .run_start = 1}; /* none yet */
    size_t done = 0;
    bool ok = true;
    for (size_t at = 0; at < count && ok && !is_full(encoding);) {
        if (found[at] == FFF_NO_PATTERN) {
            at++;
            continue;
        }
        const struct fff_pattern *pattern = &matcher->patterns[found[at]];
        const struct fff_token *token = &encoding->tokenizer->tokens[pattern->value];
        size_t start = at, end = at + pattern->count;
        at = end;
        if (token->rule.single_word && !stands_alone(&text, start, end)) {
            continue;
        }
        if (token->rule.takes_left_space) {
            start = start > done ? start : done;
            while (start > done && fff_is_space(points[start - 1])) {
                start--;
            }
        }
        end = token->rule.takes_right_space ? skip_space(&text, end) : end;
        ok = (done >= start || between(encoding, points + done, start - done)) &&
             (start >= end || emit(encoding, token->id)); /* nothing is left of white space that another has taken */
        done = end;
    }
    free(found);
    return ok && (is_full(encoding) || done >= count || between(encoding, points + done, count - done));
}

/* Raw text between added tokens. */
static bool encode_raw(struct encoding *encoding, const int32_t *points, size_t count) {
    const fff_tokenizer *tokenizer = encoding->tokenizer;
    struct fff_text text = {0};
    bool ok = fff_text_append_points(&text, points, count) || FFF_FAIL(encoding->report, "out of memory");
    ok = ok && fff_normalize(&text, tokenizer->steps, tokenizer->step_count, encoding->report) &&
         find_tokens(encoding, &tokenizer->normalized, text.data, text.count, encode_words);
    fff_text_free(&text);
    return ok;
}

/* ---- Texts ----------------------------------------------------------------------------------- */

static bool emit_all(struct encoding *encoding, const int32_t *ids, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (!emit(encoding, ids[i])) {
            return false;
        }
    }
    return true;
}

void fff_tokenizer_lower_texts(fff_tokenizer *tokenizer) {
    tokenizer->lower_texts = true;
}

void fff_tokenizer_any_length(fff_tokenizer *tokenizer) {
    tokenizer->most_ids = SIZE_MAX;
}

/* The characters that are encoded. */
static bool read_text(const fff_tokenizer *tokenizer, const char *text, size_t length, struct fff_text *points,
                      const struct fff_report *report) {
    static const struct fff_normalize_step lower = {.kind = FFF_NORMALIZE_LOWER};
    return (fff_text_append_utf8(points, text, length) || FFF_FAIL(report, "out of memory")) &&
           (!tokenizer->lower_texts || fff_normalize(points, &lower, 1, report));
}

bool fff_tokenizer_try_encode(const fff_tokenizer *tokenizer, const char *text, size_t length, size_t max_ids,
                              int32_t **ids, size_t *count, char *error, size_t error_size) {
    const struct fff_report report = {"tokenizer", error, error_size};
    size_t around = tokenizer->before_count + tokenizer->after_count;
    size_t most = max_ids < tokenizer->most_ids ? max_ids : tokenizer->most_ids;
    struct encoding encoding = {.tokenizer = tokenizer, .report = &report, .most = most > around ? most - around : 0};
    struct fff_text points = {0};
    encoding.most += tokenizer->before_count;
    bool ok = read_text(tokenizer, text, length, &points, &report);
    ok = ok && emit_all(&encoding, tokenizer->before, tokenizer->before_count) &&
         find_tokens(&encoding, &tokenizer->raw, points.data, points.count, encode_raw);
    encoding.most += tokenizer->after_count;
    ok = ok && emit_all(&encoding, tokenizer->after, tokenizer->after_count);
    fff_text_free(&points);
    free(encoding.found);
    if (!ok) {
        free(encoding.ids);
        return false;
    }
    *ids = encoding.ids;
    *count = encoding.count < most ? encoding.count : most;
    return true;
}

bool fff_tokenizer_encode(const fff_tokenizer *tokenizer, const char *text, size_t length, size_t max_ids,
                          int32_t **ids, size_t *count) {
    char unsaid[1];
    return fff_tokenizer_try_encode(tokenizer, text, length, max_ids, ids, count, unsaid, sizeof unsaid);
}
