/* Reading tokenizers from files: which file it is, and vocab.txt. */
#include "bert/wordpiece_read.h"

#include "bert/characters.h"
#include "bert/file.h"
#include "bert/wordpiece_json.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum { LARGEST_FILE = 1 << 25 };

/* ---- vocab.txt ------------------------------------------------------------------------------- */

/* Cuts white space from a line's end; false if the line is no UTF-8. */
static bool trim(const char *line, size_t *length) {
    size_t kept = 0;
    for (size_t at = 0; at < *length;) {
        utf8proc_int32_t point;
        size_t left = *length - at < 4 ? *length - at : 4;
        utf8proc_ssize_t used = utf8proc_iterate((const utf8proc_uint8_t *)line + at, (utf8proc_ssize_t)left, &point);
        if (used <= 0) {
            return false;
        }
        at += (size_t)used;
        kept = fff_is_space(point) ? kept : at;
    }
    *length = kept;
    return true;
}

/* False, with a message, if the file is of another kind that people take for a vocabulary: a page that a server sent in
 * its place, or what Git LFS leaves. */
static bool check_kind(const struct fff_report *report, const char *bytes, size_t length) {
    const char *kind = fff_file_kind(bytes, length);
    static const char *const texts[] = {"a text", "a JSON text" /* as "[PAD]" begins */, "empty"};
    bool text = kind == NULL;
    for (size_t i = 0; i < sizeof texts / sizeof *texts && !text; i++) {
        text = strcmp(kind, texts[i]) == 0;
    }
    return text || FFF_FAIL(report, "no vocabulary, but %s", kind);
}

/* A piece a line, its id the line's number from 0. An empty line is an id without a piece. */
static bool add_lines(fff_tokenizer *tokenizer, const struct fff_report *report, char *content, size_t length) {
    long long id = 0;
    bool has_empty = false;
    for (char *line = content, *end = content + length; line < end; id++) {
        char *line_end = memchr(line, '\n', (size_t)(end - line));
        line_end = line_end != NULL ? line_end : end;
        size_t kept = (size_t)(line_end - line);
        if (memchr(line, '\0', kept) != NULL) {
            return FFF_FAIL(report, "line %lld holds a 0 byte", id + 1);
        }
        if (!trim(line, &kept)) {
            return FFF_FAIL(report, "line %lld is no UTF-8", id + 1);
        }
        line[kept] = '\0';
        has_empty = has_empty || kept == 0;
        if (kept > 0 && !fff_tokenizer_add_piece(tokenizer, report, line, id)) {
            return false;
        }
        line = line_end + 1;
    }
    tokenizer->vocabulary_size += has_empty; /* the empty name counts where `tokenizers` makes new ids */
    return fff_tokenizer_end_vocabulary(tokenizer, report);
}

static const struct {
    const char *key, *name;
    bool needed;
} specials[] = {{"pad_token", "[PAD]", false},
                {"unk_token", "[UNK]", true},
                {"cls_token", "[CLS]", true},
                {"sep_token", "[SEP]", true},
                {"mask_token", "[MASK]", false}};
enum { SPECIALS = sizeof specials / sizeof *specials };

/* Whether they are all there: an id made for one now would be none of the model's. */
static bool check_specials(const fff_tokenizer *tokenizer, const struct fff_report *report,
                           const struct fff_tokenizer_config *config) {
    for (size_t i = 0; i < SPECIALS; i++) {
        const char *name = fff_tokenizer_config_special(config, specials[i].key, specials[i].name);
        if (name == NULL && specials[i].needed) {
            return FFF_FAIL(report, "tokenizer_config.json: '%s' is null", specials[i].key);
        }
        if (name != NULL && fff_tokenizer_id(tokenizer, name) < 0) {
            return FFF_FAIL(report, "piece '%s' is missing", name);
        }
    }
    return true;
}

/* Those that the config does not name, as far as the vocabulary has them. */
static bool add_default_specials(fff_tokenizer *tokenizer, const struct fff_report *report,
                                 const struct fff_tokenizer_config *config) {
    for (size_t i = 0; i < SPECIALS; i++) {
        const char *name = fff_tokenizer_config_special(config, specials[i].key, specials[i].name);
        if (name != NULL && fff_tokenizer_id(tokenizer, name) >= 0 && !fff_tokenizer_has_token(tokenizer, name) &&
            !fff_tokenizer_add_token(tokenizer, report, name, -1, (struct fff_token_rule){0})) {
            return false;
        }
    }
    return true;
}

/* What BERT's uncased models do, unless the config says otherwise; the file says nothing of it. */
static bool read_vocabulary(fff_tokenizer *tokenizer, const struct fff_report *report, const char *bytes, size_t length,
                            const struct fff_tokenizer_config *config) {
    struct fff_bert_normalizer normalizer = {
        .clean = true, .space_chinese = true, .lower = true, .strip_as_lower = true};
    char *content = malloc(length + 1);
    tokenizer->continuing = strdup("##");
    tokenizer->longest_word = 100;
    tokenizer->split = FFF_SPLIT_SPACE_AND_PUNCTUATION;
    if (content == NULL || tokenizer->continuing == NULL) {
        free(content);
        return FFF_FAIL(report, "out of memory");
    }
    memcpy(content, bytes, length);
    bool ok = check_kind(report, bytes, length) && add_lines(tokenizer, report, content, length) &&
              fff_tokenizer_config_normalizer(config, report, &normalizer) &&
              fff_tokenizer_add_bert_steps(tokenizer, report, &normalizer) &&
              fff_tokenizer_config_add_tokens(config, report, tokenizer) && check_specials(tokenizer, report, config) &&
              fff_tokenizer_config_add_specials(config, report, tokenizer) &&
              add_default_specials(tokenizer, report, config);
    free(content);
    if (!ok) {
        return false;
    }
    const char *cls = fff_tokenizer_config_special(config, "cls_token", "[CLS]");
    const char *sep = fff_tokenizer_config_special(config, "sep_token", "[SEP]");
    tokenizer->unknown = fff_tokenizer_id(tokenizer, fff_tokenizer_config_special(config, "unk_token", "[UNK]"));
    return fff_tokenizer_add_around(tokenizer, report, true, fff_tokenizer_id(tokenizer, cls)) &&
           fff_tokenizer_add_around(tokenizer, report, false, fff_tokenizer_id(tokenizer, sep));
}

/* ---- Opening --------------------------------------------------------------------------------- */

/* The id of the token that the config names, or else of the first of these. */
static int32_t special_id(const fff_tokenizer *tokenizer, const struct fff_tokenizer_config *config, const char *key,
                          const char *name, const char *other) {
    const char *said = fff_tokenizer_config_special(config, key, name);
    int32_t id = said != NULL ? fff_tokenizer_id(tokenizer, said) : -1;
    return id < 0 && said == name ? fff_tokenizer_id(tokenizer, other) : id;
}

/* A tokenizer.json, and what stands beside it. A class of BERT's has special tokens of its own, said or not. */
static bool read_json(fff_tokenizer *tokenizer, const struct fff_report *report, const char *bytes, size_t length,
                      const struct fff_tokenizer_config *config) {
    bool named;
    bool bert = fff_tokenizer_config_is_bert(config, &named);
    return fff_tokenizer_read_json(tokenizer, report, bytes, length, config) &&
           fff_tokenizer_config_add_tokens(config, report, tokenizer) &&
           fff_tokenizer_config_add_specials(config, report, tokenizer) &&
           (!named || !bert || add_default_specials(tokenizer, report, config));
}

/* By its name, or by how it begins. */
static bool is_json(const char *path, const char *bytes, size_t length) {
    size_t at = 0, end = strlen(path);
    while (at < length && bytes[at] != '\0' && strchr(" \t\r\n", bytes[at]) != NULL) {
        at++;
    }
    return (end >= 5 && strcmp(path + end - 5, ".json") == 0) || (at < length && bytes[at] == '{');
}

static bool read_any(fff_tokenizer *tokenizer, const struct fff_report *report, const char *bytes, size_t length,
                     const struct fff_tokenizer_config *config) {
    bool ok = is_json(report->path, bytes, length) ? read_json(tokenizer, report, bytes, length, config)
                                                   : read_vocabulary(tokenizer, report, bytes, length, config);
    if (!ok || !fff_tokenizer_end_tokens(tokenizer, report)) {
        return false;
    }
    tokenizer->most_ids = fff_tokenizer_config_most_ids(config);
    tokenizer->mask = special_id(tokenizer, config, "mask_token", "[MASK]", "<mask>");
    tokenizer->pad = special_id(tokenizer, config, "pad_token", "[PAD]", "<pad>");
    tokenizer->pad = tokenizer->pad >= 0 ? tokenizer->pad : 0;
    return true;
}

fff_tokenizer *fff_tokenizer_read_with(const struct fff_report *report, const char *bytes, size_t length,
                                       const struct fff_tokenizer_config *config) {
    fff_tokenizer *tokenizer = fff_tokenizer_create();
    if (tokenizer == NULL) {
        fff_report(report, "out of memory");
        return NULL;
    }
    if (!read_any(tokenizer, report, bytes, length, config)) {
        fff_tokenizer_close(tokenizer);
        return NULL;
    }
    return tokenizer;
}

fff_tokenizer *fff_tokenizer_read(const char *name, const char *bytes, size_t length, char *error, size_t error_size) {
    const struct fff_report report = {name, error, error_size};
    const struct fff_tokenizer_config nothing = {0};
    return fff_tokenizer_read_with(&report, bytes, length, &nothing);
}

fff_tokenizer *fff_tokenizer_open(const char *path, char *error, size_t error_size) {
    const struct fff_report report = {path, error, error_size};
    struct fff_tokenizer_config config = {0};
    size_t length = 0;
    char *content = fff_read_file(&report, LARGEST_FILE, &length);
    fff_tokenizer *tokenizer = NULL;
    if (content != NULL && fff_tokenizer_config_open(&config, &report)) {
        tokenizer = fff_tokenizer_read_with(&report, content, length, &config);
    }
    fff_tokenizer_config_free(&config);
    free(content);
    return tokenizer;
}
