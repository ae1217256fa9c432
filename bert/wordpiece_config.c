/* Read as `transformers` reads them for its fast tokenizers: special_tokens_map.json and added_tokens.json count where
 * tokenizer_config.json has no added_tokens_decoder. */
#include "bert/wordpiece_config.h"

#include "bert/file.h"
#include "bert/wordpiece_fields.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LARGEST_FILE = 1 << 24, LONGEST_PATH = 4096 };

/* In the order in which `transformers` adds them. */
static const char *const specials[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                       "pad_token", "cls_token", "mask_token"};
static const char *const special_lists[] = {"additional_special_tokens", "extra_special_tokens"};
#define COUNT(array) (sizeof(array) / sizeof *(array))

/* ---- Opening --------------------------------------------------------------------------------- */

/* One of the files; NULL where it is not. */
static bool open_one(const struct fff_report *report, const char *name, size_t flags, json_t **root) {
    const char *slash = strrchr(report->path, '/');
    size_t folder = slash != NULL ? (size_t)(slash - report->path) + 1 : 0, length = 0;
    char path[LONGEST_PATH];
    if (folder + strlen(name) >= sizeof path) {
        return FFF_FAIL(report, "the path is longer than %d bytes", LONGEST_PATH);
    }
    memcpy(path, report->path, folder);
    memcpy(path + folder, name, strlen(name) + 1);
    if (access(path, F_OK) != 0) {
        return true;
    }
    const struct fff_report own = {path, report->text, report->size};
    char *content = fff_read_file(&own, LARGEST_FILE, &length);
    if (content == NULL) {
        return false;
    }
    json_error_t error;
    *root = json_loadb(content, length, JSON_REJECT_DUPLICATES | flags, &error);
    free(content);
    if (*root == NULL) {
        return FFF_FAIL(&own, "line %d, column %d: %s", error.line, error.column, error.text);
    }
    return json_is_object(*root) || FFF_FAIL(&own, "is no JSON object");
}

/* Whether it is what a special token may be: a text, an object with one, or null. */
static bool is_token(const json_t *value) {
    return json_is_string(value) || json_is_null(value) || json_is_string(json_object_get(value, "content"));
}

static bool check_specials(const struct fff_report *report, const json_t *object) {
    for (size_t i = 0; i < COUNT(specials); i++) {
        const json_t *value = json_object_get(object, specials[i]);
        if (value != NULL && !is_token(value)) {
            return FFF_FAIL(report, "tokenizer_config.json or special_tokens_map.json: '%s' is no token", specials[i]);
        }
    }
    for (size_t i = 0; i < COUNT(special_lists); i++) {
        const json_t *list = json_object_get(object, special_lists[i]);
        bool ok = list == NULL || json_is_null(list) || json_is_array(list);
        for (size_t j = 0; j < json_array_size(list) && ok; j++) {
            ok = is_token(json_array_get(list, j)) && !json_is_null(json_array_get(list, j));
        }
        if (!ok) {
            return FFF_FAIL(report, "tokenizer_config.json or special_tokens_map.json: '%s' is no list of tokens",
                            special_lists[i]);
        }
    }
    return true;
}

/* BERT's own class, and those that are the same under another name. */
static bool is_bert_class(const char *class) {
    static const char *const names[] = {"BertTokenizer",       "DistilBertTokenizer", "ElectraTokenizer",
                                        "MobileBertTokenizer", "ConvBertTokenizer",   "LayoutLMTokenizer",
                                        "SqueezeBertTokenizer"};
    for (size_t i = 0; i < COUNT(names); i++) {
        size_t length = strlen(names[i]);
        if (strncmp(class, names[i], length) == 0 && (class[length] == '\0' || strcmp(class + length, "Fast") == 0)) {
            return true;
        }
    }
    return false;
}

/* Classes that are a tokenizer.json and nothing else. */
static bool is_plain_class(const char *class) {
    return strcmp(class, "PreTrainedTokenizerFast") == 0 || strcmp(class, "TokenizersBackend") == 0;
}

static const char *class_of(const struct fff_tokenizer_config *config) {
    return json_string_value(json_object_get(config->config, "tokenizer_class"));
}

static bool check_class(const struct fff_tokenizer_config *config, const struct fff_report *report) {
    const json_t *value = json_object_get(config->config, "tokenizer_class");
    const char *class = class_of(config);
    size_t length = strlen(report->path);
    bool vocabulary = length >= 4 && strcmp(report->path + length - 4, ".txt") == 0;
    if (json_object_get(json_object_get(config->config, "auto_map"), "AutoTokenizer") != NULL) {
        return FFF_FAIL(report,
                        "tokenizer_config.json: 'auto_map' names code of the model's own, which is not supported");
    }
    return value == NULL || json_is_null(value) ||
           (class != NULL && (is_bert_class(class) || (is_plain_class(class) && !vocabulary))) ||
           FFF_FAIL(report, "tokenizer_config.json: tokenizer_class '%s' is not supported%s",
                    class != NULL ? class : "that is no text", vocabulary ? " with a vocab.txt" : "");
}

/* The setting of how many ids a text may have; the older name counts where the newer one is not said. */
static const char *length_key(const struct fff_tokenizer_config *config) {
    return json_object_get(config->config, "model_max_length") != NULL ? "model_max_length" : "max_len";
}

/* Settings that would make other ids, where they are not what is always done. */
static bool check_settings(const struct fff_tokenizer_config *config, const struct fff_report *report) {
    static const struct {
        const char *key, *only; /* as JSON */
    } settings[] = {{"do_basic_tokenize", "true"},
                    {"never_split", "[]"},
                    {"split_special_tokens", "false"},
                    {"clean_text", "true"},
                    {"wordpieces_prefix", "\"##\""},
                    {"padding_side", "\"right\""},
                    {"truncation_side", "\"right\""},
                    {"word_tokenizer_type", "\"basic\""},
                    {"subword_tokenizer_type", "\"wordpiece\""}};
    for (size_t i = 0; i < COUNT(settings); i++) {
        const json_t *value = json_object_get(config->config, settings[i].key);
        if (value == NULL || json_is_null(value)) {
            continue;
        }
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
        bool same = text != NULL && strcmp(text, settings[i].only) == 0;
        if (!same) {
            fff_report(report, "tokenizer_config.json: '%s' is %.60s; only %s is supported", settings[i].key,
                       text != NULL ? text : "", settings[i].only);
        }
        free(text);
        if (!same) {
            return false;
        }
    }
    const json_t *most = json_object_get(config->config, length_key(config));
    return most == NULL || json_is_null(most) || (json_is_number(most) && json_number_value(most) >= 1) ||
           FFF_FAIL(report, "tokenizer_config.json: '%s' is no number of at least 1", length_key(config));
}

bool fff_tokenizer_config_check(const struct fff_tokenizer_config *config, const struct fff_report *report) {
    return check_class(config, report) && check_settings(config, report) && check_specials(report, config->config) &&
           check_specials(report, config->special_map);
}

bool fff_tokenizer_config_open(struct fff_tokenizer_config *config, const struct fff_report *report) {
    *config = (struct fff_tokenizer_config){0};
    /* The usual model_max_length, 10^30, is more than an integer holds. */
    return open_one(report, "tokenizer_config.json", JSON_DECODE_INT_AS_REAL, &config->config) &&
           open_one(report, "special_tokens_map.json", JSON_DECODE_INT_AS_REAL, &config->special_map) &&
           open_one(report, "added_tokens.json", 0, &config->added) && fff_tokenizer_config_check(config, report);
}

void fff_tokenizer_config_free(struct fff_tokenizer_config *config) {
    json_decref(config->config);
    json_decref(config->special_map);
    json_decref(config->added);
    *config = (struct fff_tokenizer_config){0};
}

/* ---- Normalizer ------------------------------------------------------------------------------ */

bool fff_tokenizer_config_is_bert(const struct fff_tokenizer_config *config, bool *named) {
    const char *class = class_of(config);
    *named = class != NULL;
    return class == NULL || is_bert_class(class);
}

const char *fff_tokenizer_config_normalizes(const struct fff_tokenizer_config *config) {
    static const char *const keys[] = {"do_lower_case", "strip_accents", "tokenize_chinese_chars"};
    for (size_t i = 0; i < COUNT(keys); i++) {
        const json_t *value = json_object_get(config->config, keys[i]);
        if (value != NULL && !json_is_null(value)) {
            return keys[i];
        }
    }
    return NULL;
}

bool fff_tokenizer_config_normalizer(const struct fff_tokenizer_config *config, const struct fff_report *report,
                                     struct fff_bert_normalizer *normalizer) {
    const json_t *strip = json_object_get(config->config, "strip_accents");
    if (strip != NULL) {
        normalizer->strip_as_lower = json_is_null(strip);
        if (!json_is_null(strip) &&
            !fff_json_flag(config->config, "strip_accents", false, report, &normalizer->strip)) {
            return false;
        }
    }
    return fff_json_flag(config->config, "do_lower_case", normalizer->lower, report, &normalizer->lower) &&
           fff_json_flag(config->config, "tokenize_chinese_chars", normalizer->space_chinese, report,
                         &normalizer->space_chinese);
}

/* ---- Tokens ---------------------------------------------------------------------------------- */

static const json_t *decoder_of(const struct fff_tokenizer_config *config) {
    return json_object_get(config->config, "added_tokens_decoder");
}

/* What is said of a special token or a list of them, or NULL. */
static const json_t *special_of(const struct fff_tokenizer_config *config, const char *key) {
    const json_t *value = decoder_of(config) == NULL ? json_object_get(config->special_map, key) : NULL;
    return value != NULL ? value : json_object_get(config->config, key);
}

static const char *name_of(const json_t *token) {
    const char *name = json_string_value(token);
    return name != NULL ? name : json_string_value(json_object_get(token, "content"));
}

const char *fff_tokenizer_config_special(const struct fff_tokenizer_config *config, const char *key,
                                         const char *absent) {
    const json_t *value = special_of(config, key);
    return value != NULL ? name_of(value) : absent;
}

struct decoded {
    long long id;
    const char *name;
    const json_t *rule; /* or NULL */
};

static int by_id(const void *left, const void *right) {
    const struct decoded *a = left, *b = right;
    return (a->id > b->id) - (a->id < b->id);
}

static bool read_decoded(const struct fff_report *report, const char *key, const json_t *value, struct decoded *token) {
    char *end;
    *token = json_is_object(value) ? (struct decoded){strtoll(key, &end, 10), name_of(value), value}
                                   : (struct decoded){json_integer_value(value), key, NULL};
    bool named = json_is_object(value) ? token->name != NULL && end != key && *end == '\0' : json_is_integer(value);
    return (named && token->id >= 0) ||
           FFF_FAIL(report,
                    "the added tokens of tokenizer_config.json or added_tokens.json: '%s' is no id of a token, "
                    "or no token with an id",
                    key);
}

/* The names of all special tokens, as the keys of an object; NULL when out of memory. */
static json_t *special_names(const struct fff_tokenizer_config *config) {
    json_t *names = json_object();
    bool ok = names != NULL;
    for (size_t i = 0; i < COUNT(specials) && ok; i++) {
        const char *name = fff_tokenizer_config_special(config, specials[i], NULL);
        ok = name == NULL || json_object_set_new(names, name, json_true()) == 0;
    }
    for (size_t i = 0; i < COUNT(special_lists) && ok; i++) {
        const json_t *list = special_of(config, special_lists[i]);
        for (size_t j = 0; j < json_array_size(list) && ok; j++) {
            ok = json_object_set_new(names, name_of(json_array_get(list, j)), json_true()) == 0;
        }
    }
    if (!ok) {
        json_decref(names);
        names = NULL;
    }
    return names;
}

static bool add_decoded(const json_t *special_tokens, const struct fff_report *report, fff_tokenizer *tokenizer,
                        const struct decoded *token) {
    struct fff_token_rule rule = {0};
    bool special = false;
    if (token->rule == NULL) {
        if (fff_tokenizer_has_token(tokenizer, token->name)) {
            return true; /* tokenizer.json knows more of it */
        }
        rule.normalized = json_object_get(special_tokens, token->name) == NULL;
    } else if (!fff_json_flag(token->rule, "special", false, report, &special) ||
               !fff_json_token_rule(token->rule, !special, report, &rule)) {
        return false;
    }
    return fff_tokenizer_add_token(tokenizer, report, token->name, token->id, rule);
}

/* added_tokens_decoder, or else added_tokens.json, by their ids. */
bool fff_tokenizer_config_add_tokens(const struct fff_tokenizer_config *config, const struct fff_report *report,
                                     fff_tokenizer *tokenizer) {
    json_t *all = json_object_get(config->config, "added_tokens_decoder"), *value;
    const char *key;
    if (all != NULL && !json_is_object(all)) {
        return FFF_FAIL(report, "tokenizer_config.json: 'added_tokens_decoder' is no object");
    }
    all = all != NULL ? all : config->added;
    json_t *special_tokens = special_names(config);
    struct decoded *tokens = malloc((json_object_size(all) + 1) * sizeof *tokens);
    size_t count = 0;
    bool ok = (special_tokens != NULL && tokens != NULL) || FFF_FAIL(report, "out of memory");
    json_object_foreach(all, key, value) {
        ok = ok && read_decoded(report, key, value, &tokens[count++]);
    }
    if (ok && count > 0) {
        qsort(tokens, count, sizeof *tokens, by_id);
    }
    fff_tokenizer_begin_tokens(tokenizer);
    for (size_t i = 0; i < count && ok; i++) {
        ok = add_decoded(special_tokens, report, tokenizer, &tokens[i]);
    }
    json_decref(special_tokens);
    free(tokens);
    return ok;
}

/* A special token that is no added one yet. */
static bool add_special(const struct fff_report *report, fff_tokenizer *tokenizer, const json_t *token) {
    struct fff_token_rule rule = {0};
    const char *name = name_of(token);
    return name == NULL || fff_tokenizer_has_token(tokenizer, name) ||
           ((!json_is_object(token) || fff_json_token_rule(token, false, report, &rule)) &&
            fff_tokenizer_add_token(tokenizer, report, name, -1, rule));
}

bool fff_tokenizer_config_add_specials(const struct fff_tokenizer_config *config, const struct fff_report *report,
                                       fff_tokenizer *tokenizer) {
    fff_tokenizer_begin_tokens(tokenizer);
    for (size_t i = 0; i < COUNT(specials); i++) {
        if (!add_special(report, tokenizer, special_of(config, specials[i]))) {
            return false;
        }
    }
    for (size_t i = 0; i < COUNT(special_lists); i++) {
        const json_t *list = special_of(config, special_lists[i]);
        for (size_t j = 0; j < json_array_size(list); j++) {
            if (!add_special(report, tokenizer, json_array_get(list, j))) {
                return false;
            }
        }
    }
    return true;
}

size_t fff_tokenizer_config_most_ids(const struct fff_tokenizer_config *config) {
    const json_t *most = json_object_get(config->config, length_key(config));
    return json_is_number(most) && json_number_value(most) < (double)INT32_MAX ? (size_t)json_number_value(most)
                                                                               : SIZE_MAX;
}
