/* tokenizer.json's normalizer. */
#include "bert/wordpiece_json.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_NESTING = 4 };

static bool read_bert_normalizer(const struct fff_json_reading *reading, json_t *object) {
    struct fff_bert_normalizer normalizer;
    const json_t *accents = json_object_get(object, "strip_accents");
    bool named;
    normalizer.strip_as_lower = accents == NULL || json_is_null(accents);
    if (!fff_json_has_only(reading, "normalizer 'BertNormalizer'", object,
                           FFF_JSON_KEYS("type", "clean_text", "handle_chinese_chars", "strip_accents", "lowercase")) ||
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

static bool read_text(const struct fff_json_reading *reading, const json_t *string, struct fff_text *text) {
    return fff_text_append_utf8(text, json_string_value(string), json_string_length(string)) ||
           FFF_FAIL(reading->report, "out of memory");
}

/* The step's pattern; none if it is empty. */
static bool read_pattern(const struct fff_json_reading *reading, const json_t *string, struct fff_matcher *matcher) {
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

static bool read_replace(const struct fff_json_reading *reading, json_t *object) {
    json_t *pattern = json_object_get(object, "pattern");
    const json_t *from = json_object_get(pattern, "String"), *to = json_object_get(object, "content");
    if (!fff_json_has_only(reading, "normalizer 'Replace'", object, FFF_JSON_KEYS("type", "pattern", "content"))) {
        return false;
    }
    if (json_object_size(pattern) != 1 || !json_is_string(from) || !json_is_string(to)) {
        return FFF_FAIL(reading->report, "normalizer 'Replace' is supported for a pattern that is a String only");
    }
    struct fff_normalize_step *step =
        fff_tokenizer_add_step(reading->tokenizer, reading->report, FFF_NORMALIZE_REPLACE);
    return step != NULL && read_pattern(reading, from, &step->from) && read_text(reading, to, &step->to);
}

static bool read_prepend(const struct fff_json_reading *reading, json_t *object) {
    const json_t *prepend = json_object_get(object, "prepend");
    if (!fff_json_has_only(reading, "normalizer 'Prepend'", object, FFF_JSON_KEYS("type", "prepend"))) {
        return false;
    }
    if (!json_is_string(prepend)) {
        return FFF_FAIL(reading->report, "normalizer 'Prepend' says no text to prepend");
    }
    struct fff_normalize_step *step =
        fff_tokenizer_add_step(reading->tokenizer, reading->report, FFF_NORMALIZE_PREPEND);
    return step != NULL && read_text(reading, prepend, &step->to);
}

static bool read_strip(const struct fff_json_reading *reading, json_t *object) {
    bool left, right;
    if (!fff_json_has_only(reading, "normalizer 'Strip'", object, FFF_JSON_KEYS("type", "strip_left", "strip_right"))) {
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
static bool read_single(const struct fff_json_reading *reading, json_t *object, const char *type, bool *known) {
    static const struct {
        const char *type;
        enum fff_normalize_kind kind;
    } simple[] = {{"NFC", FFF_NORMALIZE_NFC},         {"NFD", FFF_NORMALIZE_NFD},
                  {"NFKC", FFF_NORMALIZE_NFKC},       {"NFKD", FFF_NORMALIZE_NFKD},
                  {"Lowercase", FFF_NORMALIZE_LOWER}, {"StripAccents", FFF_NORMALIZE_DROP_MARKS}};
    static const struct {
        const char *type;
        bool (*read)(const struct fff_json_reading *reading, json_t *object);
    } others[] = {{"BertNormalizer", read_bert_normalizer},
                  {"Replace", read_replace},
                  {"Prepend", read_prepend},
                  {"Strip", read_strip}};
    *known = true;
    for (size_t i = 0; i < sizeof simple / sizeof *simple; i++) {
        if (strcmp(type, simple[i].type) == 0) {
            return fff_json_has_only(reading, "the normalizer", object, FFF_JSON_KEYS("type")) &&
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

static bool read_normalizer(const struct fff_json_reading *reading, json_t *object, int nesting) {
    if (object == NULL || json_is_null(object)) {
        return true;
    }
    bool known;
    const char *type = fff_json_type(object);
    bool ok = read_single(reading, object, type, &known);
    if (known) {
        return ok;
    }
    json_t *all = json_object_get(object, "normalizers");
    if (strcmp(type, "Sequence") != 0 || !json_is_array(all) || nesting == MAX_NESTING) {
        return FFF_FAIL(reading->report, "normalizer '%s' is not supported", type);
    }
    if (!fff_json_has_only(reading, "normalizer 'Sequence'", object, FFF_JSON_KEYS("type", "normalizers"))) {
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
static bool check_normalizer(const struct fff_json_reading *reading, const json_t *normalizer) {
    bool named;
    const char *said = fff_tokenizer_config_normalizes(reading->config);
    if (said != NULL && fff_tokenizer_config_is_bert(reading->config, &named) && named &&
        strcmp(fff_json_type(normalizer), "BertNormalizer") != 0) {
        return FFF_FAIL(reading->report, "tokenizer_config.json's '%s' is about a BertNormalizer; here it is '%s'",
                        said, fff_json_type(normalizer));
    }
    return true;
}

bool fff_json_read_normalizer(const struct fff_json_reading *reading, json_t *object) {
    return check_normalizer(reading, object) && read_normalizer(reading, object, 0);
}
