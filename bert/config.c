#include "bert/config.h"

#include "bert/file.h"
#include "bert/report.h"

#include <fff/fff.h>
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Larger than any model, and small enough for products of any three to be no overflow. */
enum { LARGEST_COUNT = 1 << 20, LARGEST_LENGTH = 1 << 16, LARGEST_FILE = 1 << 24 };

/* An object of the file, and what stands before its settings' names in messages: "attention.", or "". */
struct section {
    const struct fff_report *report;
    const char *prefix;
    const json_t *object;
};

/* ---- Single settings ------------------------------------------------------------------------- */

/* A value as the message about it shows it; cut where it is long. */
static void describe(const json_t *value, char *text, size_t size) {
    char *dump = value != NULL ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    const char *whole = dump != NULL ? dump : "nothing";
    size_t length = strlen(whole) < size ? strlen(whole) : size - 1;
    memcpy(text, whole, length);
    text[length] = '\0';
    free(dump);
}

static bool read_count(const struct section *section, const char *key, size_t smallest, size_t largest, size_t *count) {
    const json_t *value = json_object_get(section->object, key);
    if (!json_is_integer(value) || json_integer_value(value) < 0 || (size_t)json_integer_value(value) < smallest ||
        (size_t)json_integer_value(value) > largest) {
        char text[64];
        describe(value, text, sizeof text);
        return FFF_FAIL(section->report, "setting '%s%s' is %s where a whole number from %zu to %zu is expected",
                        section->prefix, key, text, smallest, largest);
    }
    *count = (size_t)json_integer_value(value);
    return true;
}

static bool read_norm_eps(const struct section *section, const char *key, double *eps) {
    const json_t *value = json_object_get(section->object, key);
    double number = json_number_value(value);
    if (!json_is_number(value) || !(number >= 0 && number < 1)) {
        char text[64];
        describe(value, text, sizeof text);
        return FFF_FAIL(section->report, "setting '%s%s' is %s where a number from 0 to 1 is expected", section->prefix,
                        key, text);
    }
    *eps = number;
    return true;
}

/* A setting with one value that the forward pass obeys, in JSON. Absent, it has that value. */
struct fixed {
    const char *key, *value;
};

static bool check_fixed(const struct section *section, const struct fixed *fixed, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const json_t *value = json_object_get(section->object, fixed[i].key);
        char text[64];
        describe(value, text, sizeof text);
        if (value != NULL && strcmp(text, fixed[i].value) != 0) {
            return FFF_FAIL(section->report, "setting '%s%s' is %s; only %s is supported", section->prefix,
                            fixed[i].key, text, fixed[i].value);
        }
    }
    return true;
}

static bool find_section(const struct section *settings, const char *name, const char *prefix,
                         struct section *section) {
    *section = (struct section){settings->report, prefix, json_object_get(settings->object, name)};
    return json_is_object(section->object) || FFF_FAIL(settings->report, "setting '%s' is no object", name);
}

/* ---- The two families ------------------------------------------------------------------------ */

static bool read_trees(const struct section *arch, fff_bert_config *config) {
    if (!read_count(arch, "intermed_size", 1, UINT32_MAX, &config->trees) ||
        !read_count(arch, "intermed_depth", 0, FFF_MAX_DEPTH, &config->depth)) {
        return false;
    }
    size_t nodes = fff_nodes_per_tree(config->depth);
    if (config->trees > UINT32_MAX / nodes) {
        return FFF_FAIL(arch->report, "%zu trees of depth %zu have more than %u nodes", config->trees, config->depth,
                        UINT32_MAX);
    }
    config->neurons = config->trees * nodes;
    return true;
}

static bool read_feedforward(const struct section *arch, fff_bert_config *config) {
    const json_t *type = json_object_get(arch->object, "intermed_type");
    const char *name = type != NULL ? json_string_value(type) : "ff"; /* as the authors' code has it */
    if (name != NULL && strcmp(name, "fff") == 0) {
        config->fast_feedforward = true;
        return read_trees(arch, config);
    }
    if (name != NULL && strcmp(name, "ff") == 0) {
        return read_count(arch, "intermed_size", 1, LARGEST_COUNT, &config->neurons);
    }
    char text[64];
    describe(type, text, sizeof text);
    return FFF_FAIL(arch->report, "setting 'intermed_type' is %s; only \"fff\" and \"ff\" are supported", text);
}

static bool read_classifier(const struct section *arch, fff_bert_config *config) {
    static const struct fixed fixed[] = {{"pooler", "\"avg\""}, {"include_ff_layer", "true"}, {"nonlin", "\"Tanh\""}};
    const json_t *labels = json_object_get(arch->object, "num_labels");
    if (labels == NULL || json_is_null(labels)) {
        return true;
    }
    struct section head;
    return read_count(arch, "num_labels", 1, LARGEST_COUNT, &config->labels) &&
           find_section(arch, "classification_head", "classification_head.", &head) &&
           check_fixed(&head, fixed, sizeof fixed / sizeof *fixed) &&
           read_count(&head, "head_dim", 1, LARGEST_COUNT, &config->head_width);
}

static bool read_embedding(const struct section *arch, fff_bert_config *config) {
    static const struct fixed fixed[] = {
        {"pos_embedding", "\"scaled-sinusoidal\""}, {"normalization", "true"}, {"stable_low_precision", "false"}};
    struct section embedding;
    size_t width = 0;
    if (!find_section(arch, "embedding", "embedding.", &embedding) ||
        !check_fixed(&embedding, fixed, sizeof fixed / sizeof *fixed) ||
        !read_count(&embedding, "vocab_size", 1, LARGEST_COUNT, &config->vocabulary) ||
        !read_count(&embedding, "max_seq_length", 1, LARGEST_LENGTH, &config->max_length) ||
        !read_count(&embedding, "embedding_dim", 1, LARGEST_COUNT, &width)) {
        return false;
    }
    return width == config->hidden_size ||
           FFF_FAIL(arch->report, "setting 'embedding.embedding_dim' is %zu; only hidden_size, %zu, is supported",
                    width, config->hidden_size);
}

static bool read_crammed(const struct section *arch, fff_bert_config *config) {
    static const struct fixed fixed[] = {{"norm", "\"LayerNorm\""},       {"norm_scheme", "\"pre\""},
                                         {"nonlin", "\"GELU\""},          {"use_bias", "false"},
                                         {"decoder_bias", "false"},       {"final_norm", "true"},
                                         {"skip_head_transform", "true"}, {"ffn_layer_frequency", "1"}};
    static const struct fixed fixed_attention[] = {
        {"type", "\"self-attention\""}, {"causal_attention", "false"}, {"skip_output_projection", "false"},
        {"qkv_bias", "false"},          {"rotary_embedding", "false"}, {"sequence_op", "\"torch-softmax\""}};
    struct section attention;
    if (!check_fixed(arch, fixed, sizeof fixed / sizeof *fixed) ||
        !read_count(arch, "num_transformer_layers", 1, LARGEST_COUNT, &config->layers) ||
        !read_count(arch, "hidden_size", 1, LARGEST_COUNT, &config->hidden_size) ||
        !read_norm_eps(arch, "norm_eps", &config->norm_eps) || !read_feedforward(arch, config) ||
        !read_embedding(arch, config) || !read_classifier(arch, config) ||
        !find_section(arch, "attention", "attention.", &attention) ||
        !check_fixed(&attention, fixed_attention, sizeof fixed_attention / sizeof *fixed_attention) ||
        !read_count(&attention, "num_attention_heads", 1, LARGEST_COUNT, &config->heads)) {
        return false;
    }
    const json_t *tied = json_object_get(arch->object, "tie_weights");
    config->tied_decoder = tied == NULL || json_is_true(tied);
    return true;
}

static bool read_post_norm(const struct section *settings, fff_bert_config *config) {
    static const struct fixed fixed[] = {{"hidden_act", "\"gelu\""},
                                         {"position_embedding_type", "\"absolute\""},
                                         {"is_decoder", "false"},
                                         {"add_cross_attention", "false"}};
    config->family = FFF_BERT_POST_NORM;
    return check_fixed(settings, fixed, sizeof fixed / sizeof *fixed) &&
           read_count(settings, "num_hidden_layers", 1, LARGEST_COUNT, &config->layers) &&
           read_count(settings, "hidden_size", 1, LARGEST_COUNT, &config->hidden_size) &&
           read_count(settings, "num_attention_heads", 1, LARGEST_COUNT, &config->heads) &&
           read_count(settings, "intermediate_size", 1, LARGEST_COUNT, &config->neurons) &&
           read_count(settings, "vocab_size", 1, LARGEST_COUNT, &config->vocabulary) &&
           read_count(settings, "max_position_embeddings", 1, LARGEST_LENGTH, &config->max_length) &&
           read_count(settings, "type_vocab_size", 1, LARGEST_COUNT, &config->token_types) &&
           read_norm_eps(settings, "layer_norm_eps", &config->norm_eps);
}

/* ---- Files ----------------------------------------------------------------------------------- */

static bool read_settings(const struct fff_report *report, const json_t *root, fff_bert_config *config) {
    const char *type = json_string_value(json_object_get(root, "model_type"));
    const json_t *arch = json_object_get(root, "arch");
    const struct section settings = {report, "", arch != NULL ? arch : root};
    if (!json_is_object(settings.object)) {
        return FFF_FAIL(report, "%s is no JSON object", arch != NULL ? "setting 'arch'" : "the file");
    }
    if (arch == NULL && type != NULL && strcmp(type, "bert") == 0) {
        if (!read_post_norm(&settings, config)) {
            return false;
        }
    } else if (arch == NULL && type != NULL && strcmp(type, "crammedBERT") != 0) {
        return FFF_FAIL(report, "setting 'model_type' is '%s'; only crammedBERT and bert are supported", type);
    } else if (!read_crammed(&settings, config)) {
        return false;
    }
    if (!config->fast_feedforward) {
        config->trees = config->neurons;
    }
    return config->hidden_size % config->heads == 0 ||
           FFF_FAIL(report, "hidden_size %zu is no multiple of the %zu attention heads", config->hidden_size,
                    config->heads);
}

bool fff_bert_config_read(const char *name, const char *json, size_t length, fff_bert_config *config, char *error,
                          size_t error_size) {
    const struct fff_report report = {name, error, error_size};
    json_error_t json_error;
    json_t *root = json_loadb(json, length, JSON_REJECT_DUPLICATES, &json_error);
    if (root == NULL) {
        return FFF_FAIL(&report, "line %d, column %d: %s", json_error.line, json_error.column, json_error.text);
    }
    fff_bert_config read = {0};
    bool ok = read_settings(&report, root, &read);
    json_decref(root);
    if (ok) {
        *config = read;
    }
    return ok;
}

bool fff_bert_config_open(const char *path, fff_bert_config *config, char *error, size_t error_size) {
    const struct fff_report report = {path, error, error_size};
    size_t length = 0;
    char *json = fff_read_file(&report, LARGEST_FILE, &length);
    bool ok = json != NULL && fff_bert_config_read(path, json, length, config, error, error_size);
    free(json);
    return ok;
}
