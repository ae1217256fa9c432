#include "bert/wordpiece_json.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_NESTING = 4, MAX_PREFIX = 64 };

struct reading {
    fff_tokenizer *tokenizer;
    const struct fff_report *report;
    const struct fff_tokenizer_config *config;
};

static const char *type_of(const json_t *object) {
    const char *type = json_string_value(json_object_get(object, "type"));
    return type != NULL ? type : "";
}

bool fff_json_flag(const json_t *object, const char *key, bool absent, const struct fff_report *report, bool *flag) {
    const json_t *value = json_object_get(object, key);
    *flag = value == NULL ? absent : json_is_true(value);
    return value == NULL || json_is_boolean(value) || FFF_FAIL(report, "'%s' is neither true nor false", key);
}

bool fff_json_token_rule(const json_t *object, bool normalized_if_absent, const struct fff_report *report,
                         struct fff_token_rule *rule) {
    return fff_json_flag(object, "single_word", false, report, &rule->single_word) &&
           fff_json_flag(object, "lstrip", false, report, &rule->takes_left_space) &&
           fff_json_flag(object, "rstrip", false, report, &rule->takes_right_space) &&
           fff_json_flag(object, "normalized", normalized_if_absent, report, &rule->normalized);
}

/* Whether it is an object with these keys only, of which the last one is NULL: what a key that is not known means, no
 * one knows. */
static bool has_only(const struct reading *reading, const char *what, json_t *object, const char *const *keys) {
    const char *key;
    json_t *value;
    if (!json_is_object(object)) {
        return FFF_FAIL(reading->report, "%s is no object", what);
    }
    json_object_foreach(object, key, value) {
        size_t i = 0;
        while (keys[i] != NULL && strcmp(keys[i], key) != 0) {
            i++;
        }
        if (keys[i] == NULL) {
            return FFF_FAIL(reading->report, "%s has '%s', which is not supported", what, key);
        }
    }
    return true;
}
#define KEYS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* ---- Normalizer ------------------------------------------------------------------------------ */

static bool read_bert_normalizer(const struct reading *reading, json_t *object) {
    struct fff_bert_normalizer normalizer;
    const json_t *accents = json_object_get(object, "strip_accents");
    bool named;
    normalizer.strip_as_lower = accents == NULL || json_is_null(accents);
    if (!has_only(reading, "normalizer 'BertNormalizer'", object,
                  KEYS("type", "clean_text", "handle_chinese_chars", "strip_accents", "lowercase")) ||
        !fff_json_flag(object, "clean_text", true, reading->report, &normalizer.clean) ||
        !fff_json_flag(object, "handle_chinese_chars", true, reading->report, &normalizer.space_chinese) ||
        !fff_json_flag(object, "lowercase", true, reading->report, &normalizer.lower)) {
        return false;
    }
    normalizer.strip = false;
    if (!normalizer.strip_as_lower &&
        !fff_json_flag(object, "strip_accents", false, reading->report, &normalizer.strip)) {
        return false;
    }
    if (fff_tokenizer_config_is_bert(reading->config, &named) &&
        !fff_tokenizer_config_normalizer(reading->config, reading->report, &normalizer)) {
        return false;
    }
    return fff_tokenizer_add_bert_steps(reading->tokenizer, reading->report, &normalizer);
}

static bool read_text(const struct reading *reading, const json_t *string, struct fff_text *text) {
    return fff_text_append_utf8(text, json_string_value(string), json_string_length(string)) ||
           FFF_FAIL(reading->report, "out of memory");
}

/* The step's pattern; none if it is empty. */
static bool read_pattern(const struct reading *reading, const json_t *string, struct fff_matcher *matcher) {
    struct fff_text points = {0};
    struct fff_pattern *pattern = malloc(sizeof *pattern);
    if (pattern == NULL || !read_text(reading, string, &points)) {
        free(pattern);
        fff_text_free(&points);
        return FFF_FAIL(reading->report, "out of memory");
    }
    *pattern = (struct fff_pattern){points.data, points.count, 0};
    bool ok = fff_matcher_create(matcher, pattern, points.count > 0);
    fff_text_free(&points);
    return ok || FFF_FAIL(reading->report, "out of memory");
}

static bool read_replace(const struct reading *reading, json_t *object) {
    json_t *pattern = json_object_get(object, "pattern");
    const json_t *from = json_object_get(pattern, "String"), *to = json_object_get(object, "content");
    if (!has_only(reading, "normalizer 'Replace'", object, KEYS("type", "pattern", "content"))) {
        return false;
    }
    if (json_object_size(pattern) != 1 || !json_is_string(from) || !json_is_string(to)) {
        return FFF_FAIL(reading->report, "normalizer 'Replace' is supported for a pattern that is a String only");
    }
    struct fff_normalize_step *step =
        fff_tokenizer_add_step(reading->tokenizer, reading->report, FFF_NORMALIZE_REPLACE);
    return step != NULL && read_pattern(reading, from, &step->from) && read_text(reading, to, &step->to);
}

static bool read_prepend(const struct reading *reading, json_t *object) {
    const json_t *prepend = json_object_get(object, "prepend");
    if (!has_only(reading, "normalizer 'Prepend'", object, KEYS("type", "prepend"))) {
        return false;
    }
    if (!json_is_string(prepend)) {
        return FFF_FAIL(reading->report, "normalizer 'Prepend' says no text to prepend");
    }
    struct fff_normalize_step *step =
        fff_tokenizer_add_step(reading->tokenizer, reading->report, FFF_NORMALIZE_PREPEND);
    return step != NULL && read_text(reading, prepend, &step->to);
}

static bool read_strip(const struct reading *reading, json_t *object) {
    bool left, right;
    if (!has_only(reading, "normalizer 'Strip'", object, KEYS("type", "strip_left", "strip_right"))) {
        return false;
    }
    if (json_object_size(object) != 3) {
        return FFF_FAIL(reading->report, "normalizer 'Strip' lacks strip_left or strip_right");
    }
    return fff_json_flag(object, "strip_left", false, reading->report, &left) &&
           fff_json_flag(object, "strip_right", false, reading->report, &right) &&
           (!left || fff_tokenizer_add_step(reading->tokenizer, reading->report, FFF_NORMALIZE_STRIP_LEFT) != NULL) &&
           (!right || fff_tokenizer_add_step(reading->tokenizer, reading->report, FFF_NORMALIZE_STRIP_RIGHT) != NULL);
}

/* One that is no sequence; NULL if the type is none of these. */
static bool read_single(const struct reading *reading, json_t *object, const char *type, bool *known) {
    static const struct {
        const char *type;
        enum fff_normalize_kind kind;
    } simple[] = {{"NFC", FFF_NORMALIZE_NFC},         {"NFD", FFF_NORMALIZE_NFD},
                  {"NFKC", FFF_NORMALIZE_NFKC},       {"NFKD", FFF_NORMALIZE_NFKD},
                  {"Lowercase", FFF_NORMALIZE_LOWER}, {"StripAccents", FFF_NORMALIZE_DROP_MARKS}};
    static const struct {
        const char *type;
        bool (*read)(const struct reading *reading, json_t *object);
    } others[] = {{"BertNormalizer", read_bert_normalizer},
                  {"Replace", read_replace},
                  {"Prepend", read_prepend},
                  {"Strip", read_strip}};
    *known = true;
    for (size_t i = 0; i < sizeof simple / sizeof *simple; i++) {
        if (strcmp(type, simple[i].type) == 0) {
            return has_only(reading, "the normalizer", object, KEYS("type")) &&
                   fff_tokenizer_add_step(reading->tokenizer, reading->report, simple[i].kind) != NULL;
        }
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        if (strcmp(type, others[i].type) == 0) {
            return others[i].read(reading, object);
        }
    }
    *known = false;
    return false;
}

static bool read_normalizer(const struct reading *reading, json_t *object, int nesting) {
    if (object == NULL || json_is_null(object)) {
        return true;
    }
    bool known;
    const char *type = type_of(object);
    bool ok = read_single(reading, object, type, &known);
    if (known) {
        return ok;
    }
    json_t *all = json_object_get(object, "normalizers");
    if (strcmp(type, "Sequence") != 0 || !json_is_array(all) || nesting == MAX_NESTING) {
        return FFF_FAIL(reading->report, "normalizer '%s' is not supported", type);
    }
    if (!has_only(reading, "normalizer 'Sequence'", object, KEYS("type", "normalizers"))) {
        return false;
    }
    for (size_t i = 0; i < json_array_size(all); i++) {
        json_t *part = json_array_get(all, i);
        if (json_is_null(part)) {
            return FFF_FAIL(reading->report, "normalizer %zu of the sequence is null", i);
        }
        if (!read_normalizer(reading, part, nesting + 1)) {
            return false;
        }
    }
    return true;
}

/* Where the config's class normalises by itself, and the file in another way, the versions of `transformers` disagree
 * which of them holds. */
static bool check_normalizer(const struct reading *reading, const json_t *normalizer) {
    bool named;
    const char *said = fff_tokenizer_config_normalizes(reading->config);
    if (said != NULL && fff_tokenizer_config_is_bert(reading->config, &named) && named &&
        strcmp(type_of(normalizer), "BertNormalizer") != 0) {
        return FFF_FAIL(reading->report, "tokenizer_config.json's '%s' is about a BertNormalizer; here it is '%s'",
                        said, type_of(normalizer));
    }
    return true;
}

/* ---- Model ----------------------------------------------------------------------------------- */

static bool read_pre_tokenizer(const struct reading *reading, json_t *object) {
    const char *type = type_of(object);
    if (object == NULL || json_is_null(object)) {
        reading->tokenizer->split = FFF_SPLIT_NONE;
        return true;
    }
    if (strcmp(type, "BertPreTokenizer") == 0) {
        reading->tokenizer->split = FFF_SPLIT_SPACE_AND_PUNCTUATION;
    } else if (strcmp(type, "WhitespaceSplit") == 0) {
        reading->tokenizer->split = FFF_SPLIT_SPACE;
    } else {
        return FFF_FAIL(reading->report, "pre_tokenizer '%s' is not supported", type);
    }
    return has_only(reading, "the pre_tokenizer", object, KEYS("type"));
}

static bool read_vocabulary(const struct reading *reading, json_t *vocabulary) {
    const char *piece;
    json_t *id;
    json_object_foreach(vocabulary, piece, id) {
        if (!fff_tokenizer_add_piece(reading->tokenizer, reading->report, piece,
                                     json_is_integer(id) ? json_integer_value(id) : -1)) {
            return false;
        }
    }
    return fff_tokenizer_end_vocabulary(reading->tokenizer, reading->report);
}

static bool read_model(const struct reading *reading, json_t *model) {
    fff_tokenizer *tokenizer = reading->tokenizer;
    json_t *vocabulary = json_object_get(model, "vocab");
    const char *unknown = json_string_value(json_object_get(model, "unk_token"));
    const json_t *continuing = json_object_get(model, "continuing_subword_prefix");
    const json_t *longest = json_object_get(model, "max_input_chars_per_word");
    /* Old files do not say the type of the model. */
    bool old = json_object_get(model, "type") == NULL && continuing != NULL && longest != NULL;
    if (strcmp(type_of(model), "WordPiece") != 0 && !old) {
        return FFF_FAIL(reading->report, "model '%s' is not supported; only WordPiece is", type_of(model));
    }
    if (!has_only(reading, "the model", model,
                  KEYS("type", "vocab", "unk_token", "continuing_subword_prefix", "max_input_chars_per_word"))) {
        return false;
    }
    if (!json_is_object(vocabulary) || json_object_size(vocabulary) == 0 || unknown == NULL) {
        return FFF_FAIL(reading->report, "the model lacks a vocab or an unk_token");
    }
    if (json_string_length(continuing) > MAX_PREFIX) {
        return FFF_FAIL(reading->report, "continuing_subword_prefix is longer than %d bytes", MAX_PREFIX);
    }
    if ((continuing != NULL && !json_is_string(continuing)) ||
        (longest != NULL && (!json_is_integer(longest) || json_integer_value(longest) < 0))) {
        return FFF_FAIL(reading->report,
                        "continuing_subword_prefix is no text, or max_input_chars_per_word no whole number");
    }
    tokenizer->continuing = strdup(continuing != NULL ? json_string_value(continuing) : "##");
    tokenizer->longest_word = longest != NULL ? (size_t)json_integer_value(longest) : 100;
    if (tokenizer->continuing == NULL) {
        return FFF_FAIL(reading->report, "out of memory");
    }
    if (!read_vocabulary(reading, vocabulary)) {
        return false;
    }
    tokenizer->unknown = fff_tokenizer_id(tokenizer, unknown);
    if (tokenizer->unknown < 0) {
        return FFF_FAIL(reading->report, "unk_token '%s' is not in the vocab", unknown);
    }
    const char *said = fff_tokenizer_config_special(reading->config, "unk_token", unknown);
    return (said != NULL && strcmp(said, unknown) == 0) ||
           FFF_FAIL(reading->report, "unk_token is '%s' here, and '%s' by tokenizer_config.json", unknown,
                    said != NULL ? said : "null");
}

/* ---- Added tokens ---------------------------------------------------------------------------- */

static bool read_token(const struct reading *reading, size_t index, json_t *object) {
    const json_t *content = json_object_get(object, "content"), *id = json_object_get(object, "id");
    struct fff_token_rule rule;
    bool special;
    char what[64];
    snprintf(what, sizeof what, "added token %zu", index);
    if (!json_is_string(content) || !json_is_integer(id) || json_integer_value(id) < 0) {
        return FFF_FAIL(reading->report, "added token %zu lacks a content or an id", index);
    }
    return has_only(reading, what, object,
                    KEYS("id", "content", "single_word", "lstrip", "rstrip", "normalized", "special")) &&
           fff_json_token_rule(object, false, reading->report, &rule) &&
           fff_json_flag(object, "special", false, reading->report, &special) &&
           fff_tokenizer_add_token(reading->tokenizer, reading->report, json_string_value(content),
                                   json_integer_value(id), rule);
}

static bool read_tokens(const struct reading *reading, const json_t *all) {
    if (all != NULL && !json_is_array(all) && !json_is_null(all)) {
        return FFF_FAIL(reading->report, "added_tokens is no array");
    }
    fff_tokenizer_begin_tokens(reading->tokenizer);
    for (size_t i = 0; i < json_array_size(all); i++) {
        if (!read_token(reading, i, json_array_get(all, i))) {
            return false;
        }
    }
    return true;
}

/* ---- What stands around a text --------------------------------------------------------------- */

static bool add_around(const struct reading *reading, bool before, const json_t *id) {
    return fff_tokenizer_add_around(reading->tokenizer, reading->report, before,
                                    json_is_integer(id) ? json_integer_value(id) : -1);
}

/* The models know tokens of type 0 only. */
static bool has_type_0(const json_t *part) {
    const json_t *type = json_object_get(part, "type_id");
    return type == NULL || (json_is_integer(type) && json_integer_value(type) == 0);
}

static bool read_template(const struct reading *reading, json_t *object) {
    const json_t *single = json_object_get(object, "single"), *specials = json_object_get(object, "special_tokens");
    bool before = true;
    if (!has_only(reading, "post_processor 'TemplateProcessing'", object,
                  KEYS("type", "single", "pair", "special_tokens"))) {
        return false;
    }
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *entry = json_array_get(single, i);
        const json_t *token = json_object_get(entry, "SpecialToken"), *text = json_object_get(entry, "Sequence");
        const char *special = json_string_value(json_object_get(token, "id"));
        const char *sequence = json_string_value(json_object_get(text, "id"));
        bool one = json_object_size(entry) == 1 && has_type_0(token) && has_type_0(text);
        if (one && sequence != NULL && strcmp(sequence, "A") == 0 && before) {
            before = false;
            continue;
        }
        const json_t *ids = one && special != NULL ? json_object_get(json_object_get(specials, special), "ids") : NULL;
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

static bool read_post_processor(const struct reading *reading, json_t *object) {
    const char *type = type_of(object);
    if (object == NULL || json_is_null(object)) {
        return true;
    }
    if (strcmp(type, "TemplateProcessing") == 0) {
        return read_template(reading, object);
    }
    if (strcmp(type, "BertProcessing") == 0) {
        return has_only(reading, "post_processor 'BertProcessing'", object, KEYS("type", "cls", "sep")) &&
               add_around(reading, true, json_array_get(json_object_get(object, "cls"), 1)) &&
               add_around(reading, false, json_array_get(json_object_get(object, "sep"), 1));
    }
    return FFF_FAIL(reading->report, "post_processor '%s' is not supported", type);
}

/* ---- The file -------------------------------------------------------------------------------- */

/* How long a text may be and how it is padded is the caller's to say; only not on which side. */
static bool check_side(const struct reading *reading, const json_t *root, const char *key) {
    const json_t *direction = json_object_get(json_object_get(root, key), "direction");
    const char *side = json_is_string(direction) ? json_string_value(direction) : "Right";
    return strcmp(side, "Right") == 0 ||
           FFF_FAIL(reading->report, "%s with direction '%s' is not supported", key, side);
}

static bool check_root(const struct reading *reading, json_t *root) {
    const json_t *version = json_object_get(root, "version");
    const char *number = json_string_value(version);
    if (version != NULL && (number == NULL || strcmp(number, "1.0") != 0)) {
        return FFF_FAIL(reading->report, "version '%s' is not supported", number != NULL ? number : "");
    }
    return has_only(reading, "the file", root,
                    KEYS("version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
                         "post_processor", "decoder", "model")) &&
           check_side(reading, root, "truncation") && check_side(reading, root, "padding");
}

bool fff_tokenizer_read_json(fff_tokenizer *tokenizer, const struct fff_report *report, const char *bytes,
                             size_t length, const struct fff_tokenizer_config *config) {
    const struct reading reading = {tokenizer, report, config};
    json_error_t error;
    json_t *root = json_loadb(bytes, length, JSON_REJECT_DUPLICATES, &error);
    if (root == NULL) {
        return FFF_FAIL(report, "line %d, column %d: %s", error.line, error.column, error.text);
    }
    json_t *normalizer = json_object_get(root, "normalizer");
    bool ok = read_model(&reading, json_object_get(root, "model")) && check_root(&reading, root) &&
              check_normalizer(&reading, normalizer) && read_normalizer(&reading, normalizer, 0) &&
              read_tokens(&reading, json_object_get(root, "added_tokens")) &&
              read_pre_tokenizer(&reading, json_object_get(root, "pre_tokenizer")) &&
              read_post_processor(&reading, json_object_get(root, "post_processor"));
    json_decref(root);
    return ok;
}
