#include "bert/wordpiece_json.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_PREFIX = 64 };

const char *fff_json_type(const json_t *object) {
    const char *type = json_string_value(json_object_get(object, "type"));
    return type != NULL ? type : "";
}

bool fff_json_has_only(const struct fff_json_reading *reading, const char *what, json_t *object,
                       const char *const *keys) {
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

/* ---- Model ----------------------------------------------------------------------------------- */

static bool read_pre_tokenizer(const struct fff_json_reading *reading, json_t *object) {
    const char *type = fff_json_type(object);
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
    return fff_json_has_only(reading, "the pre_tokenizer", object, FFF_JSON_KEYS("type"));
}

static bool read_vocabulary(const struct fff_json_reading *reading, json_t *vocabulary) {
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

static bool read_model(const struct fff_json_reading *reading, json_t *model) {
    fff_tokenizer *tokenizer = reading->tokenizer;
    json_t *vocabulary = json_object_get(model, "vocab");
    const char *unknown = json_string_value(json_object_get(model, "unk_token"));
    const json_t *continuing = json_object_get(model, "continuing_subword_prefix");
    const json_t *longest = json_object_get(model, "max_input_chars_per_word");
    /* Old files do not say the type of the model. */
    bool old = json_object_get(model, "type") == NULL && continuing != NULL && longest != NULL;
    if (strcmp(fff_json_type(model), "WordPiece") != 0 && !old) {
        return FFF_FAIL(reading->report, "model '%s' is not supported; only WordPiece is", fff_json_type(model));
    }
    if (!fff_json_has_only(
            reading, "the model", model,
            FFF_JSON_KEYS("type", "vocab", "unk_token", "continuing_subword_prefix", "max_input_chars_per_word"))) {
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

static bool read_token(const struct fff_json_reading *reading, size_t index, json_t *object) {
    const json_t *content = json_object_get(object, "content"), *id = json_object_get(object, "id");
    struct fff_token_rule rule;
    bool special;
    char what[64];
    snprintf(what, sizeof what, "added token %zu", index);
    if (!json_is_string(content) || !json_is_integer(id) || json_integer_value(id) < 0) {
        return FFF_FAIL(reading->report, "added token %zu lacks a content or an id", index);
    }
    return fff_json_has_only(
               reading, what, object,
               FFF_JSON_KEYS("id", "content", "single_word", "lstrip", "rstrip", "normalized", "special")) &&
           fff_json_token_rule(object, false, reading->report, &rule) &&
           fff_json_flag(object, "special", false, reading->report, &special) &&
           fff_tokenizer_add_token(reading->tokenizer, reading->report, json_string_value(content),
                                   json_integer_value(id), rule);
}

static bool read_tokens(const struct fff_json_reading *reading, const json_t *all) {
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

static bool add_around(const struct fff_json_reading *reading, bool before, const json_t *id) {
    return fff_tokenizer_add_around(reading->tokenizer, reading->report, before,
                                    json_is_integer(id) ? json_integer_value(id) : -1);
}

/* The models know tokens of type 0 only. */
static bool has_type_0(const json_t *part) {
    const json_t *type = json_object_get(part, "type_id");
    return type == NULL || (json_is_integer(type) && json_integer_value(type) == 0);
}

static bool read_template(const struct fff_json_reading *reading, json_t *object) {
    const json_t *single = json_object_get(object, "single"), *specials = json_object_get(object, "special_tokens");
    bool before = true;
    if (!fff_json_has_only(reading, "post_processor 'TemplateProcessing'", object,
                           FFF_JSON_KEYS("type", "single", "pair", "special_tokens"))) {
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

static bool read_post_processor(const struct fff_json_reading *reading, json_t *object) {
    const char *type = fff_json_type(object);
    if (object == NULL || json_is_null(object)) {
        return true;
    }
    if (strcmp(type, "TemplateProcessing") == 0) {
        return read_template(reading, object);
    }
    if (strcmp(type, "BertProcessing") == 0) {
        return fff_json_has_only(reading, "post_processor 'BertProcessing'", object,
                                 FFF_JSON_KEYS("type", "cls", "sep")) &&
               add_around(reading, true, json_array_get(json_object_get(object, "cls"), 1)) &&
               add_around(reading, false, json_array_get(json_object_get(object, "sep"), 1));
    }
    return FFF_FAIL(reading->report, "post_processor '%s' is not supported", type);
}

/* ---- The file -------------------------------------------------------------------------------- */

/* How long a text may be and how it is padded is the caller's to say; only not on which side. */
static bool check_side(const struct fff_json_reading *reading, const json_t *root, const char *key) {
    const json_t *direction = json_object_get(json_object_get(root, key), "direction");
    const char *side = json_is_string(direction) ? json_string_value(direction) : "Right";
    return strcmp(side, "Right") == 0 ||
           FFF_FAIL(reading->report, "%s with direction '%s' is not supported", key, side);
}

static bool check_root(const struct fff_json_reading *reading, json_t *root) {
    const json_t *version = json_object_get(root, "version");
    const char *number = json_string_value(version);
    if (version != NULL && (number == NULL || strcmp(number, "1.0") != 0)) {
        return FFF_FAIL(reading->report, "version '%s' is not supported", number != NULL ? number : "");
    }
    return fff_json_has_only(reading, "the file", root,
                             FFF_JSON_KEYS("version", "truncation", "padding", "added_tokens", "normalizer",
                                           "pre_tokenizer", "post_processor", "decoder", "model")) &&
           check_side(reading, root, "truncation") && check_side(reading, root, "padding");
}

bool fff_tokenizer_read_json(fff_tokenizer *tokenizer, const struct fff_report *report, const char *bytes,
                             size_t length, const struct fff_tokenizer_config *config) {
    const struct fff_json_reading reading = {tokenizer, report, config};
    json_error_t error;
    json_t *root = json_loadb(bytes, length, JSON_REJECT_DUPLICATES, &error);
    if (root == NULL) {
        return FFF_FAIL(report, "line %d, column %d: %s", error.line, error.column, error.text);
    }
    json_t *normalizer = json_object_get(root, "normalizer");
    bool ok = read_model(&reading, json_object_get(root, "model")) && check_root(&reading, root) &&
              fff_json_read_normalizer(&reading, normalizer) &&
              read_tokens(&reading, json_object_get(root, "added_tokens")) &&
              read_pre_tokenizer(&reading, json_object_get(root, "pre_tokenizer")) &&
              read_post_processor(&reading, json_object_get(root, "post_processor"));
    json_decref(root);
    return ok;
}
