/* Hugging Face's tokenizer.json. */
#include "bert/wordpiece_tables.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_NESTING = 4 };

struct reading {
    fff_tokenizer *tokenizer;
    const struct fff_report *report;
};

static const char *type_of(const json_t *object) {
    const char *type = json_string_value(json_object_get(object, "type"));
    return type != NULL ? type : "";
}

/* A flag that may be absent. */
static bool read_flag(const struct reading *reading, const json_t *object, const char *key, bool absent, bool *flag) {
    const json_t *value = json_object_get(object, key);
    *flag = value == NULL ? absent : json_is_true(value);
    return value == NULL || json_is_boolean(value) || FFF_FAIL(reading->report, "'%s' is neither true nor false", key);
}

/* ---- Normalizer ------------------------------------------------------------------------------ */

static bool add_step(const struct reading *reading, enum fff_normalize_kind kind) {
    fff_tokenizer *tokenizer = reading->tokenizer;
    if (tokenizer->step_count == FFF_TOKENIZER_MAX_STEPS) {
        return FFF_FAIL(reading->report, "the normalizer has more than %d steps", FFF_TOKENIZER_MAX_STEPS);
    }
    tokenizer->steps[tokenizer->step_count++] = (struct fff_normalize_step){.kind = kind};
    return true;
}

static bool read_bert_normalizer(const struct reading *reading, const json_t *object) {
    bool clean, chinese, lower, strip;
    const json_t *accents = json_object_get(object, "strip_accents");
    if (!read_flag(reading, object, "clean_text", true, &clean) ||
        !read_flag(reading, object, "handle_chinese_chars", true, &chinese) ||
        !read_flag(reading, object, "lowercase", true, &lower)) {
        return false;
    }
    strip = lower; /* what null means */
    if (accents != NULL && !json_is_null(accents) && !read_flag(reading, object, "strip_accents", lower, &strip)) {
        return false;
    }
    return (!clean || add_step(reading, FFF_NORMALIZE_CLEAN)) &&
           (!chinese || add_step(reading, FFF_NORMALIZE_SPACE_CHINESE)) &&
           (!strip || (add_step(reading, FFF_NORMALIZE_NFD) && add_step(reading, FFF_NORMALIZE_DROP_NONSPACING))) &&
           (!lower || add_step(reading, FFF_NORMALIZE_LOWER));
}

static bool read_replace(const struct reading *reading, const json_t *object) {
    const json_t *from = json_object_get(json_object_get(object, "pattern"), "String");
    const json_t *to = json_object_get(object, "content");
    if (!json_is_string(from) || !json_is_string(to)) {
        return FFF_FAIL(reading->report, "normalizer 'Replace' is supported for a pattern that is a String only");
    }
    if (!add_step(reading, FFF_NORMALIZE_REPLACE)) {
        return false;
    }
    struct fff_normalize_step *step = &reading->tokenizer->steps[reading->tokenizer->step_count - 1];
    return (fff_text_append_utf8(&step->from, json_string_value(from), json_string_length(from)) &&
            fff_text_append_utf8(&step->to, json_string_value(to), json_string_length(to))) ||
           FFF_FAIL(reading->report, "out of memory");
}

static bool read_normalizer(const struct reading *reading, const json_t *object, int nesting) {
    static const struct {
        const char *type;
        enum fff_normalize_kind kind;
    } simple[] = {{"NFC", FFF_NORMALIZE_NFC},         {"NFD", FFF_NORMALIZE_NFD},
                  {"NFKC", FFF_NORMALIZE_NFKC},       {"NFKD", FFF_NORMALIZE_NFKD},
                  {"Lowercase", FFF_NORMALIZE_LOWER}, {"StripAccents", FFF_NORMALIZE_DROP_MARKS}};
    if (object == NULL || json_is_null(object)) {
        return true;
    }
    const char *type = type_of(object);
    for (size_t i = 0; i < sizeof simple / sizeof *simple; i++) {
        if (strcmp(type, simple[i].type) == 0) {
            return add_step(reading, simple[i].kind);
        }
    }
    if (strcmp(type, "BertNormalizer") == 0) {
        return read_bert_normalizer(reading, object);
    }
    if (strcmp(type, "Replace") == 0) {
        return read_replace(reading, object);
    }
    const json_t *all = json_object_get(object, "normalizers");
    if (strcmp(type, "Sequence") != 0 || !json_is_array(all) || nesting == MAX_NESTING) {
        return FFF_FAIL(reading->report, "normalizer '%s' is not supported", type);
    }
    for (size_t i = 0; i < json_array_size(all); i++) {
        if (!read_normalizer(reading, json_array_get(all, i), nesting + 1)) {
            return false;
        }
    }
    return true;
}

/* ---- Model ----------------------------------------------------------------------------------- */

static bool read_pre_tokenizer(const struct reading *reading, const json_t *object) {
    const char *type = type_of(object);
    if (object == NULL || json_is_null(object)) {
        reading->tokenizer->split = FFF_SPLIT_NONE;
    } else if (strcmp(type, "BertPreTokenizer") == 0) {
        reading->tokenizer->split = FFF_SPLIT_SPACE_AND_PUNCTUATION;
    } else if (strcmp(type, "WhitespaceSplit") == 0) {
        reading->tokenizer->split = FFF_SPLIT_SPACE;
    } else {
        return FFF_FAIL(reading->report, "pre_tokenizer '%s' is not supported", type);
    }
    return true;
}

static bool read_model(const struct reading *reading, const json_t *model) {
    fff_tokenizer *tokenizer = reading->tokenizer;
    const char *type = type_of(model);
    json_t *vocabulary = json_object_get(model, "vocab"), *id;
    const char *unknown = json_string_value(json_object_get(model, "unk_token")), *piece;
    const json_t *continuing = json_object_get(model, "continuing_subword_prefix");
    const json_t *longest = json_object_get(model, "max_input_chars_per_word");
    if (strcmp(type, "WordPiece") != 0) {
        return FFF_FAIL(reading->report, "model '%s' is not supported; only WordPiece is", type);
    }
    if (!json_is_object(vocabulary) || json_object_size(vocabulary) == 0 || unknown == NULL) {
        return FFF_FAIL(reading->report, "the model lacks a vocab or an unk_token");
    }
    if (json_string_length(continuing) > FFF_TOKENIZER_MAX_PREFIX) {
        return FFF_FAIL(reading->report, "continuing_subword_prefix is longer than %d bytes", FFF_TOKENIZER_MAX_PREFIX);
    }
    if ((continuing != NULL && !json_is_string(continuing)) ||
        (longest != NULL && (!json_is_integer(longest) || json_integer_value(longest) < 0))) {
        return FFF_FAIL(reading->report,
                        "continuing_subword_prefix is no text, or max_input_chars_per_word no whole number");
    }
    json_object_foreach(vocabulary, piece, id) {
        if (!fff_tokenizer_add(tokenizer, reading->report, piece, json_is_integer(id) ? json_integer_value(id) : -1)) {
            return false;
        }
    }
    tokenizer->continuing = strdup(continuing != NULL ? json_string_value(continuing) : "##");
    tokenizer->longest_word = longest != NULL ? (size_t)json_integer_value(longest) : 100;
    if (tokenizer->continuing == NULL) {
        return FFF_FAIL(reading->report, "out of memory");
    }
    json_int_t unknown_id = json_integer_value(json_object_get(vocabulary, unknown));
    if (json_object_get(vocabulary, unknown) == NULL) {
        return FFF_FAIL(reading->report, "unk_token '%s' is not in the vocab", unknown);
    }
    tokenizer->unknown = (int32_t)unknown_id;
    return true;
}

/* ---- Added tokens ---------------------------------------------------------------------------- */

static int longest_first(const void *a, const void *b) {
    const struct fff_special *left = a, *right = b;
    return (left->content.count < right->content.count) - (left->content.count > right->content.count);
}

static bool read_special(const struct reading *reading, const json_t *entry) {
    fff_tokenizer *tokenizer = reading->tokenizer;
    struct fff_special *special = &tokenizer->specials[tokenizer->special_count++];
    const json_t *content = json_object_get(entry, "content"), *id = json_object_get(entry, "id");
    bool normalized;
    if (!json_is_string(content) || json_string_length(content) == 0 || !json_is_integer(id)) {
        return FFF_FAIL(reading->report, "added token %zu lacks a content or an id", tokenizer->special_count - 1);
    }
    if (!read_flag(reading, entry, "single_word", false, &special->single_word) ||
        !read_flag(reading, entry, "lstrip", false, &special->takes_left_space) ||
        !read_flag(reading, entry, "rstrip", false, &special->takes_right_space) ||
        !read_flag(reading, entry, "normalized", false, &normalized)) {
        return false;
    }
    if (normalized) {
        return FFF_FAIL(reading->report, "added token '%s' is normalized, which is not supported",
                        json_string_value(content));
    }
    /* In the vocabulary already, or new to it. */
    bool known = json_integer_value(id) >= 0 && (size_t)json_integer_value(id) < tokenizer->piece_count &&
                 tokenizer->pieces[json_integer_value(id)] != NULL &&
                 strcmp(tokenizer->pieces[json_integer_value(id)], json_string_value(content)) == 0;
    if (!known && !fff_tokenizer_add(tokenizer, reading->report, json_string_value(content), json_integer_value(id))) {
        return false;
    }
    special->id = (int32_t)json_integer_value(id);
    return fff_text_append_utf8(&special->content, json_string_value(content), json_string_length(content)) ||
           FFF_FAIL(reading->report, "out of memory");
}

static bool read_specials(const struct reading *reading, const json_t *all) {
    fff_tokenizer *tokenizer = reading->tokenizer;
    size_t count = json_array_size(all);
    if (all != NULL && !json_is_array(all) && !json_is_null(all)) {
        return FFF_FAIL(reading->report, "added_tokens is no array");
    }
    if (count > FFF_TOKENIZER_MAX_SPECIAL) {
        return FFF_FAIL(reading->report, "%zu added tokens are more than %d", count, FFF_TOKENIZER_MAX_SPECIAL);
    }
    tokenizer->specials = calloc(count + 1, sizeof *tokenizer->specials);
    if (tokenizer->specials == NULL) {
        return FFF_FAIL(reading->report, "out of memory");
    }
    for (size_t i = 0; i < count; i++) {
        if (!read_special(reading, json_array_get(all, i))) {
            return false;
        }
    }
    qsort(tokenizer->specials, tokenizer->special_count, sizeof *tokenizer->specials, longest_first);
    return true;
}

/* ---- What stands around a text --------------------------------------------------------------- */

static bool add_around(const struct reading *reading, bool before, const json_t *id) {
    fff_tokenizer *tokenizer = reading->tokenizer;
    size_t *count = before ? &tokenizer->before_count : &tokenizer->after_count;
    if (!json_is_integer(id) || json_integer_value(id) < 0 ||
        (size_t)json_integer_value(id) >= tokenizer->piece_count || tokenizer->pieces[json_integer_value(id)] == NULL) {
        return FFF_FAIL(reading->report, "the post_processor names a token that is not in the vocabulary");
    }
    if (*count == FFF_TOKENIZER_MAX_AROUND) {
        return FFF_FAIL(reading->report, "the post_processor adds more than %d tokens on a side",
                        FFF_TOKENIZER_MAX_AROUND);
    }
    (before ? tokenizer->before : tokenizer->after)[(*count)++] = (int32_t)json_integer_value(id);
    return true;
}

static bool read_template(const struct reading *reading, const json_t *object) {
    const json_t *single = json_object_get(object, "single"), *specials = json_object_get(object, "special_tokens");
    bool before = true;
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *entry = json_array_get(single, i);
        const char *special = json_string_value(json_object_get(json_object_get(entry, "SpecialToken"), "id"));
        const char *sequence = json_string_value(json_object_get(json_object_get(entry, "Sequence"), "id"));
        if (sequence != NULL && strcmp(sequence, "A") == 0 && before) {
            before = false;
            continue;
        }
        const json_t *ids = special != NULL ? json_object_get(json_object_get(specials, special), "ids") : NULL;
        if (json_array_size(ids) == 0) {
            return FFF_FAIL(reading->report, "part %zu of the post_processor's single template is not supported", i);
        }
        for (size_t j = 0; j < json_array_size(ids); j++) {
            if (!add_around(reading, before, json_array_get(ids, j))) {
                return false;
            }
        }
    }
    return !before || FFF_FAIL(reading->report, "the post_processor's single template has no text in it");
}

static bool read_post_processor(const struct reading *reading, const json_t *object) {
    const char *type = type_of(object);
    if (object == NULL || json_is_null(object)) {
        return true;
    }
    if (strcmp(type, "TemplateProcessing") == 0) {
        return read_template(reading, object);
    }
    if (strcmp(type, "BertProcessing") == 0) {
        return add_around(reading, true, json_array_get(json_object_get(object, "cls"), 1)) &&
               add_around(reading, false, json_array_get(json_object_get(object, "sep"), 1));
    }
    return FFF_FAIL(reading->report, "post_processor '%s' is not supported", type);
}

bool fff_tokenizer_read_json(fff_tokenizer *tokenizer, const struct fff_report *report, const char *bytes,
                             size_t length) {
    const struct reading reading = {tokenizer, report};
    json_error_t error;
    json_t *root = json_loadb(bytes, length, JSON_REJECT_DUPLICATES, &error);
    if (root == NULL) {
        return FFF_FAIL(report, "line %d, column %d: %s", error.line, error.column, error.text);
    }
    bool ok = read_model(&reading, json_object_get(root, "model")) &&
              read_specials(&reading, json_object_get(root, "added_tokens")) &&
              read_normalizer(&reading, json_object_get(root, "normalizer"), 0) &&
              read_pre_tokenizer(&reading, json_object_get(root, "pre_tokenizer")) &&
              read_post_processor(&reading, json_object_get(root, "post_processor")) &&
              fff_tokenizer_index(tokenizer, report);
    json_decref(root);
    return ok;
}
