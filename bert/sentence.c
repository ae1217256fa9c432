#include "bert/sentence.h"

#include "bert/file.h"
#include "bert/json_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LARGEST_FILE = 1 << 20, LARGEST_LENGTH = 1 << 16 };

/* ---- modules.json ---------------------------------------------------------------------------- */

/* The class of a module, without the packages before it, which change from version to version; NULL if it is none of
 * sentence-transformers' own. */
static const char *class_of(const json_t *module) {
    static const char package[] = "sentence_transformers.";
    const char *type = json_string_value(json_object_get(module, "type"));
    return type != NULL && strncmp(type, package, sizeof package - 1) == 0 ? strrchr(type, '.') + 1 : NULL;
}

static bool read_module(const struct fff_report *report, size_t index, const json_t *module, bool *normalize,
                        char folder[FFF_LONGEST_FOLDER]) {
    static const char *const steps[] = {"Transformer", "Pooling", "Normalize"};
    const json_t *type = json_object_get(module, "type");
    const char *class = class_of(module), *path = json_string_value(json_object_get(module, "path"));
    char text[96];
    fff_json_describe(type, text, sizeof text);
    size_t step = index < 2 ? index : 2;
    if (class == NULL || strcmp(class, steps[step]) != 0) {
        return FFF_FAIL(report,
                        "module %zu has the type %s; only Transformer, Pooling, Normalize in this order are supported",
                        index, text);
    }
    if (path == NULL || !fff_stays_inside(path) || strlen(path) >= FFF_LONGEST_FOLDER) {
        fff_json_describe(json_object_get(module, "path"), text, sizeof text);
        return FFF_FAIL(report, "module %zu has the path %s, which is no folder inside the model's", index, text);
    }
    if (step == 0 && *path != '\0') {
        return FFF_FAIL(report, "module 0 has the path '%s'; only a Transformer in the model's own folder is supported",
                        path);
    }
    if (step == 1) {
        memcpy(folder, path, strlen(path) + 1);
    }
    *normalize = *normalize || step == 2;
    return true;
}

bool fff_sentence_read_modules(const char *name, const char *json, size_t length, bool *normalize,
                               char folder[FFF_LONGEST_FOLDER], char *error, size_t error_size) {
    const struct fff_report report = {name, error, error_size};
    json_t *modules = fff_json_read(&report, json, length), *module;
    size_t index;
    bool ok = modules != NULL;
    if (ok && json_array_size(modules) < 2) {
        ok = FFF_FAIL(&report, "the file is no list that begins with a Transformer and a Pooling");
    }
    *normalize = false;
    if (ok) {
        json_array_foreach(modules, index, module) {
            ok = ok && read_module(&report, index, module, normalize, folder);
        }
    }
    json_decref(modules);
    return ok;
}

/* ---- The Pooling's config.json --------------------------------------------------------------- */

static const struct {
    const char *mode, *setting; /* of newer and older versions */
    bool supported;
    fff_pooling pooling;
} poolings[] = {
    {"mean", "pooling_mode_mean_tokens", true, FFF_POOLING_MEAN},
    {"cls", "pooling_mode_cls_token", true, FFF_POOLING_CLS},
    {"max", "pooling_mode_max_tokens", true, FFF_POOLING_MAX},
    {"mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens", false, FFF_POOLING_MEAN},
    {"weightedmean", "pooling_mode_weightedmean_tokens", false, FFF_POOLING_MEAN},
    {"lasttoken", "pooling_mode_lasttoken", false, FFF_POOLING_MEAN},
};
enum { POOLINGS = sizeof poolings / sizeof *poolings };

/* "pooling_mode": one name, alone or in a list. */
static bool read_mode(const struct fff_report *report, const json_t *mode, fff_pooling *pooling) {
    const char *name = json_string_value(json_array_size(mode) == 1 ? json_array_get(mode, 0) : mode);
    for (size_t i = 0; i < POOLINGS; i++) {
        if (name != NULL && poolings[i].supported && strcmp(name, poolings[i].mode) == 0) {
            *pooling = poolings[i].pooling;
            return true;
        }
    }
    char text[96];
    fff_json_describe(mode, text, sizeof text);
    return FFF_FAIL(report, "setting 'pooling_mode' is %s; only \"mean\", \"cls\" and \"max\" are supported", text);
}

/* Older versions have a switch for each; several at once put their results side by side. */
static bool read_switches(const struct fff_report *report, const json_t *root, fff_pooling *pooling) {
    size_t on = POOLINGS;
    for (size_t i = 0; i < POOLINGS; i++) {
        const json_t *value = json_object_get(root, poolings[i].setting);
        if (value != NULL && !json_is_boolean(value)) {
            char text[96];
            fff_json_describe(value, text, sizeof text);
            return FFF_FAIL(report, "setting '%s' is %s where true or false is expected", poolings[i].setting, text);
        }
        if (!json_is_true(value) && !(i == 0 && value == NULL)) { /* the mean is on unless it is switched off */
            continue;
        }
        if (on < POOLINGS) {
            return FFF_FAIL(
                report, "settings '%s'%s and '%s' are both true; only one is supported", poolings[on].setting,
                json_object_get(root, poolings[on].setting) != NULL ? "" : " (by default)", poolings[i].setting);
        }
        on = i;
    }
    if (on == POOLINGS || !poolings[on].supported) {
        return FFF_FAIL(report, "%s is true; only pooling_mode_mean_tokens, _cls_token and _max_tokens are supported",
                        on == POOLINGS ? "no pooling mode" : poolings[on].setting);
    }
    *pooling = poolings[on].pooling;
    return true;
}

bool fff_sentence_read_pooling(const char *name, const char *json, size_t length, size_t hidden_size,
                               fff_pooling *pooling, char *error, size_t error_size) {
    static const char *const widths[] = {"word_embedding_dimension", "embedding_dimension"};
    const struct fff_report report = {name, error, error_size};
    json_t *root = fff_json_read(&report, json, length);
    bool ok = root != NULL && (json_is_object(root) || FFF_FAIL(&report, "the file is no JSON object"));
    for (size_t i = 0; i < 2 && ok; i++) {
        const json_t *width = json_object_get(root, widths[i]);
        if (width != NULL && (!json_is_integer(width) || json_integer_value(width) != (json_int_t)hidden_size)) {
            char text[64];
            fff_json_describe(width, text, sizeof text);
            ok = FFF_FAIL(&report, "setting '%s' is %s where the model's hidden_size is %zu", widths[i], text,
                          hidden_size);
        }
    }
    const json_t *mode = json_object_get(root, "pooling_mode");
    ok = ok && (mode != NULL ? read_mode(&report, mode, pooling) : read_switches(&report, root, pooling));
    json_decref(root);
    return ok;
}

/* ---- Other settings -------------------------------------------------------------------------- */

static bool read_text_length(const struct fff_report *report, const json_t *root, fff_sentence *sentence) {
    const json_t *value = json_object_get(root, "max_seq_length");
    if (value == NULL || json_is_null(value)) {
        return true;
    }
    json_int_t length = json_integer_value(value);
    if (length < 1 || length > LARGEST_LENGTH) {
        char text[64];
        fff_json_describe(value, text, sizeof text);
        return FFF_FAIL(report, "setting 'max_seq_length' is %s where a whole number from 1 to %d is expected", text,
                        LARGEST_LENGTH);
    }
    sentence->text_length = (size_t)length;
    return true;
}

static bool read_lower_case(const struct fff_report *report, const json_t *root, fff_sentence *sentence) {
    const json_t *value = json_object_get(root, "do_lower_case");
    if (value != NULL && !json_is_boolean(value) && !json_is_null(value)) {
        char text[64];
        fff_json_describe(value, text, sizeof text);
        return FFF_FAIL(report, "setting 'do_lower_case' is %s where true or false is expected", text);
    }
    sentence->lower_case = json_is_true(value);
    return true;
}

/* Whether a value says nothing: null, an empty object, or one with "trust_remote_code" alone, which
 * sentence-transformers takes out. */
static bool is_empty(const json_t *value) {
    size_t size = json_object_size(value), ignored = json_object_get(value, "trust_remote_code") != NULL ? 1 : 0;
    return json_is_null(value) || (json_is_object(value) && size == ignored);
}

/* {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}, which is what files without it mean. What
 * it says of other inputs than texts is nothing to us. */
static bool reads_hidden_states(const json_t *modalities) {
    const json_t *text = json_object_get(modalities, "text");
    const char *method = json_string_value(json_object_get(text, "method"));
    const char *output = json_string_value(json_object_get(text, "method_output_name"));
    return method != NULL && strcmp(method, "forward") == 0 && output != NULL &&
           strcmp(output, "last_hidden_state") == 0;
}

static bool is_text_or_null(const json_t *value, const char *text) {
    return json_is_null(value) || (json_is_string(value) && strcmp(json_string_value(value), text) == 0);
}

/* Whether the setting, one of a Transformer's, makes no other embedding of a text than without it. */
static bool changes_nothing(const char *key, const json_t *value) {
    /* Read here; for queries and documents where they are told apart, as prompts are; or of speed and files alone. */
    static const char *const harmless[] = {"max_seq_length",  "do_lower_case", "query_length", "document_length",
                                           "query_expansion", "unpad_inputs",  "cache_dir"};
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++) {
        if (strcmp(key, harmless[i]) == 0) {
            return true;
        }
    }
    if (strcmp(key, "transformer_task") == 0) {
        return is_text_or_null(value, "feature-extraction");
    }
    if (strcmp(key, "module_output_name") == 0) {
        return is_text_or_null(value, "token_embeddings");
    }
    return is_empty(value) || (strcmp(key, "modality_config") == 0 && reads_hidden_states(value));
}

/* Others are given to the model, its configuration or its tokenizer, or known to a later version. */
static bool check_settings(const struct fff_report *report, json_t *root) {
    const char *key;
    json_t *value;
    json_object_foreach(root, key, value) {
        if (!changes_nothing(key, value)) {
            char text[96];
            fff_json_describe(value, text, sizeof text);
            return FFF_FAIL(report, "setting '%s' is %s, which is not supported", key, text);
        }
    }
    return true;
}

static bool read_text_settings(const struct fff_report *report, json_t *root, fff_sentence *sentence) {
    return (json_is_object(root) || FFF_FAIL(report, "the file is no JSON object")) &&
           read_text_length(report, root, sentence) && read_lower_case(report, root, sentence) &&
           check_settings(report, root);
}

/* A prompt that is put before each text. */
static bool refuse_prompt(const struct fff_report *report, json_t *root, fff_sentence *sentence) {
    (void)sentence;
    const char *name = json_string_value(json_object_get(root, "default_prompt_name"));
    const char *prompt =
        name != NULL ? json_string_value(json_object_get(json_object_get(root, "prompts"), name)) : NULL;
    return prompt == NULL || *prompt == '\0' ||
           FFF_FAIL(report,
                    "setting 'default_prompt_name' is '%s', which puts '%s' before texts; that is not supported", name,
                    prompt);
}

/* ---- The folder ------------------------------------------------------------------------------ */

/* A file of the folder, to free(); NULL with *ok still true if it is not there. */
static char *read_if_there(const char *directory, const char *name, char path[FFF_LONGEST_PATH], size_t *length,
                           bool *ok, char *error, size_t error_size) {
    *ok = fff_join_path(directory, name, path, error, error_size);
    if (!*ok || !fff_exists(path)) {
        return NULL;
    }
    const struct fff_report report = {path, error, error_size};
    char *content = fff_read_file(&report, LARGEST_FILE, length);
    *ok = content != NULL;
    return content;
}

static bool open_pooling(const char *directory, size_t hidden_size, fff_sentence *sentence, char *error,
                         size_t error_size) {
    char path[FFF_LONGEST_PATH], folder[FFF_LONGEST_FOLDER] = "1_Pooling", name[FFF_LONGEST_FOLDER + 16];
    size_t length = 0;
    bool ok;
    char *json = read_if_there(directory, "modules.json", path, &length, &ok, error, error_size);
    bool modules = json != NULL;
    ok = ok &&
         (!modules || fff_sentence_read_modules(path, json, length, &sentence->normalize, folder, error, error_size));
    free(json);
    if (!ok) {
        return false;
    }
    snprintf(name, sizeof name, "%s/config.json", folder);
    json = read_if_there(directory, name, path, &length, &ok, error, error_size);
    if (ok && json == NULL && modules) { /* what is named must be there */
        const struct fff_report report = {path, error, error_size};
        ok = FFF_FAIL(&report, "modules.json names it, and it is not there");
    }
    ok = ok && (json == NULL ||
                fff_sentence_read_pooling(path, json, length, hidden_size, &sentence->pooling, error, error_size));
    free(json);
    return ok;
}

/* *said becomes whether the file is there and says anything. */
static bool read_settings(const char *directory, const char *name,
                          bool (*read)(const struct fff_report *report, json_t *root, fff_sentence *sentence),
                          fff_sentence *sentence, bool *said, char *error, size_t error_size) {
    char path[FFF_LONGEST_PATH];
    size_t length = 0;
    bool ok;
    const struct fff_report report = {path, error, error_size};
    char *json = read_if_there(directory, name, path, &length, &ok, error, error_size);
    json_t *root = json != NULL ? fff_json_read(&report, json, length) : NULL;
    ok = ok && (json == NULL || (root != NULL && read(&report, root, sentence)));
    *said = json_object_size(root) > 0;
    json_decref(root);
    free(json);
    return ok;
}

bool fff_sentence_open(const char *directory, size_t hidden_size, fff_sentence *sentence, char *error,
                       size_t error_size) {
    /* The first of them counts that says anything. */
    static const char *const names[] = {"sentence_bert_config.json",       "sentence_roberta_config.json",
                                        "sentence_distilbert_config.json", "sentence_camembert_config.json",
                                        "sentence_albert_config.json",     "sentence_xlm-roberta_config.json",
                                        "sentence_xlnet_config.json"};
    *sentence = (fff_sentence){0};
    bool ok = open_pooling(directory, hidden_size, sentence, error, error_size), said = false;
    for (size_t i = 0; i < sizeof names / sizeof *names && ok && !said; i++) {
        ok = read_settings(directory, names[i], read_text_settings, sentence, &said, error, error_size);
    }
    return ok && read_settings(directory, "config_sentence_transformers.json", refuse_prompt, sentence, &said, error,
                               error_size);
}
