#include "bert/config.h"

#include "bert/file.h"
#include "bert/json_file.h"
#include "bert/report.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Larger than any model, and small enough for products of any three to be no overflow. */
enum { LARGEST_COUNT = 1 << 20, LARGEST_LENGTH = 1 << 16, LARGEST_FILE = 1 << 22 };

/* An object of the file, and what stands before its settings' names in messages: "attention.", or "". */
struct section {
    const struct fff_report *report;
    const char *prefix;
    const json_t *object;
};

/* ---- Single settings ------------------------------------------------------------------------- */

static bool read_count(const struct section *section, const char *key, size_t smallest, size_t largest, size_t *count) {
    const json_t *value = json_object_get(section->object, key);
    json_int_t given = json_is_integer(value) ? json_integer_value(value) : -1;
    if (given < 0 || (unsigned long long)given < smallest || (unsigned long long)given > largest) {
        char text[64];
        fff_json_describe(value, text, sizeof text);
        return FFF_FAIL(section->report, "setting '%s%s' is %s where a whole number from %zu to %zu is expected",
                        section->prefix, key, text, smallest, largest);
    }
    *count = (size_t)given;
    return true;
}

static bool read_norm_eps(const struct section *section, const char *key, double *eps) {
    const json_t *value = json_object_get(section->object, key);
    double number = json_number_value(value);
    if (!json_is_number(value) || !(number >= 0 && number < 1)) {
        char text[64];
        fff_json_describe(value, text, sizeof text);
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
        fff_json_describe(value, text, sizeof text);
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
    fff_json_describe(type, text, sizeof text);
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

/* An activation by its name in a setting. `supported` ends the message of one that is none of them. */
struct named_activation {
    const char *name;
    fff_activation activation;
};
static bool read_named_activation(const struct section *settings, const char *setting, const char *absent,
                                  const struct named_activation *names, size_t count, const char *supported,
                                  fff_bert_config *config) {
    const json_t *value = json_object_get(settings->object, setting);
    const char *name = value != NULL ? json_string_value(value) : absent;
    for (size_t i = 0; i < count; i++) {
        if (name != NULL && strcmp(name, names[i].name) == 0) {
            config->activation = names[i].activation;
            return true;
        }
    }
    char text[64];
    fff_json_describe(value, text, sizeof text);
    return FFF_FAIL(settings->report, "setting '%s' is %s; only %s are supported", setting, text, supported);
}

/* The authors' code takes the class of that name from torch.nn. Absent, it is GELU. */
static bool read_nonlin(const struct section *arch, fff_bert_config *config) {
    static const struct named_activation names[] = {
        {"GELU", FFF_ACTIVATION_GELU},
        {"ReLU", FFF_ACTIVATION_RELU},
        {"SiLU", FFF_ACTIVATION_SILU},
        {"Identity", FFF_ACTIVATION_IDENTITY},
    };
    return read_named_activation(arch, "nonlin", "GELU", names, sizeof names / sizeof *names,
                                 "\"GELU\", \"ReLU\", \"SiLU\" and \"Identity\"", config);
}

static bool read_crammed(const struct section *arch, fff_bert_config *config) {
    static const struct fixed fixed[] = {{"norm", "\"LayerNorm\""},   {"norm_scheme", "\"pre\""},
                                         {"use_bias", "false"},       {"decoder_bias", "false"},
                                         {"final_norm", "true"},      {"skip_head_transform", "true"},
                                         {"ffn_layer_frequency", "1"}};
    static const struct fixed fixed_attention[] = {
        {"type", "\"self-attention\""}, {"causal_attention", "false"}, {"skip_output_projection", "false"},
        {"qkv_bias", "false"},          {"rotary_embedding", "false"}, {"sequence_op", "\"torch-softmax\""}};
    struct section attention;
    if (!check_fixed(arch, fixed, sizeof fixed / sizeof *fixed) ||
        !read_count(arch, "num_transformer_layers", 1, LARGEST_COUNT, &config->layers) ||
        !read_count(arch, "hidden_size", 1, LARGEST_COUNT, &config->hidden_size) ||
        !read_norm_eps(arch, "norm_eps", &config->norm_eps) || !read_nonlin(arch, config) ||
        !read_feedforward(arch, config) || !read_embedding(arch, config) || !read_classifier(arch, config) ||
        !find_section(arch, "attention", "attention.", &attention) ||
        !check_fixed(&attention, fixed_attention, sizeof fixed_attention / sizeof *fixed_attention) ||
        !read_count(&attention, "num_attention_heads", 1, LARGEST_COUNT, &config->heads)) {
        return false;
    }
    const json_t *tied = json_object_get(arch->object, "tie_weights");
    config->tied_decoder = tied == NULL || json_is_true(tied);
    return true;
}

/* Names of one function are many in Hugging Face's code, and differ in rounding alone. Absent, it is GELU. */
static bool read_activation(const struct section *settings, fff_bert_config *config) {
    static const struct named_activation names[] = {
        {"gelu", FFF_ACTIVATION_GELU},
        {"gelu_python", FFF_ACTIVATION_GELU},
        {"gelu_new", FFF_ACTIVATION_GELU_TANH},
        {"gelu_pytorch_tanh", FFF_ACTIVATION_GELU_TANH},
        {"gelu_python_tanh", FFF_ACTIVATION_GELU_TANH},
        {"gelu_fast", FFF_ACTIVATION_GELU_TANH},
        {"gelu_accurate", FFF_ACTIVATION_GELU_TANH},
        {"relu", FFF_ACTIVATION_RELU},
        {"relu2", FFF_ACTIVATION_RELU2},
        {"silu", FFF_ACTIVATION_SILU},
        {"swish", FFF_ACTIVATION_SILU},
        {"linear", FFF_ACTIVATION_IDENTITY},
    };
    return read_named_activation(
        settings, "hidden_act", "gelu", names, sizeof names / sizeof *names,
        "gelu, gelu_new, gelu_pytorch_tanh, relu, relu2, silu, linear and other names of these", config);
}

/* Models of other code may call themselves bert, too. */
static bool check_architectures(const struct section *settings) {
    const json_t *names = json_object_get(settings->object, "architectures"), *name;
    bool ok = names == NULL || json_is_null(names) || json_is_array(names);
    size_t index;
    json_array_foreach(names, index, name) {
        ok = ok && json_is_string(name) && strncmp(json_string_value(name), "Bert", 4) == 0;
    }
    char text[64];
    fff_json_describe(names, text, sizeof text);
    return ok || FFF_FAIL(settings->report, "setting 'architectures' is %s; only [\"Bert...\"] is supported", text);
}

/* A model that is not what its other settings say: computed by code of its own, or with weights that are encoded. */
static bool check_foreign(const struct section *settings) {
    json_t *map = json_object_get(settings->object, "auto_map"), *value;
    const json_t *quantization = json_object_get(settings->object, "quantization_config");
    const char *key;
    json_object_foreach(map, key, value) {
        if (strncmp(key, "AutoModel", strlen("AutoModel")) == 0 && !json_is_null(value)) {
            return FFF_FAIL(settings->report,
                            "setting 'auto_map' names code of the model's own for '%s', which is not supported", key);
        }
    }
    char text[64];
    fff_json_describe(quantization, text, sizeof text);
    return quantization == NULL || json_is_null(quantization) ||
           FFF_FAIL(settings->report, "setting 'quantization_config' is %s; only null is supported", text);
}

static bool read_tie(const struct section *settings, fff_bert_config *config) {
    const json_t *value = json_object_get(settings->object, "tie_word_embeddings");
    char text[64];
    fff_json_describe(value, text, sizeof text);
    config->tied_decoder = value == NULL || json_is_true(value);
    return value == NULL || json_is_boolean(value) ||
           FFF_FAIL(settings->report, "setting 'tie_word_embeddings' is %s where true or false is expected", text);
}

static bool read_post_norm(const struct section *settings, fff_bert_config *config) {
    static const struct fixed fixed[] = {{"position_embedding_type", "\"absolute\""},
                                         {"is_decoder", "false"},
                                         {"is_encoder_decoder", "false"},
                                         {"add_cross_attention", "false"},
                                         {"pruned_heads", "{}"}};
    config->norm_eps = 1e-12; /* which the oldest files do not say */
    bool has_eps = json_object_get(settings->object, "layer_norm_eps") != NULL;
    return check_architectures(settings) && check_foreign(settings) &&
           check_fixed(settings, fixed, sizeof fixed / sizeof *fixed) && read_activation(settings, config) &&
           read_tie(settings, config) && read_count(settings, "num_hidden_layers", 1, LARGEST_COUNT, &config->layers) &&
           read_count(settings, "hidden_size", 1, LARGEST_COUNT, &config->hidden_size) &&
           read_count(settings, "num_attention_heads", 1, LARGEST_COUNT, &config->heads) &&
           read_count(settings, "intermediate_size", 1, LARGEST_COUNT, &config->neurons) &&
           read_count(settings, "vocab_size", 1, LARGEST_COUNT, &config->vocabulary) &&
           read_count(settings, "max_position_embeddings", 1, LARGEST_LENGTH, &config->max_length) &&
           read_count(settings, "type_vocab_size", 1, LARGEST_COUNT, &config->token_types) &&
           (!has_eps || read_norm_eps(settings, "layer_norm_eps", &config->norm_eps));
}

/* ---- Files ----------------------------------------------------------------------------------- */

/* Which family it is: by its name, else by settings that only one has. */
static bool find_family(const struct fff_report *report, const json_t *root, fff_bert_family *family) {
    const json_t *type = json_object_get(root, "model_type");
    const char *name = json_string_value(type);
    if (type != NULL && name == NULL) {
        char text[64];
        fff_json_describe(type, text, sizeof text);
        return FFF_FAIL(report, "setting 'model_type' is %s where a string is expected: crammedBERT or bert", text);
    }
    if (json_object_get(root, "arch") != NULL) {
        *family = FFF_BERT_CRAMMED;
        return true;
    }
    if (name != NULL && strcmp(name, "bert") != 0 && strcmp(name, "crammedBERT") != 0) {
        return FFF_FAIL(report, "setting 'model_type' is '%s'; only crammedBERT and bert are supported", name);
    }
    bool crammed = json_object_get(root, "num_transformer_layers") != NULL;
    if (name == NULL && !crammed && json_object_get(root, "num_hidden_layers") == NULL) {
        return FFF_FAIL(report,
                        "setting 'model_type' is missing, and so are 'num_transformer_layers' of crammedBERT and "
                        "'num_hidden_layers' of bert");
    }
    bool bert = name != NULL ? strcmp(name, "bert") == 0 : !crammed;
    *family = bert ? FFF_BERT_POST_NORM : FFF_BERT_CRAMMED;
    return true;
}

static bool read_settings(const struct fff_report *report, const json_t *root, fff_bert_config *config) {
    const json_t *arch = json_object_get(root, "arch");
    const struct section settings = {report, "", arch != NULL ? arch : root};
    if (!json_is_object(settings.object)) {
        return FFF_FAIL(report, "%s is no JSON object", arch != NULL ? "setting 'arch'" : "the file");
    }
    if (!find_family(report, root, &config->family) ||
        !(config->family == FFF_BERT_CRAMMED ? read_crammed(&settings, config) : read_post_norm(&settings, config))) {
        return false;
    }
    if (!config->fast_feedforward) {
        config->trees = config->neurons;
    }
    config->text_length = config->max_length;
    return config->hidden_size % config->heads == 0 ||
           FFF_FAIL(report, "hidden_size %zu is no multiple of the %zu attention heads", config->hidden_size,
                    config->heads);
}

bool fff_bert_config_read(const char *name, const char *json, size_t length, fff_bert_config *config, char *error,
                          size_t error_size) {
    const struct fff_report report = {name, error, error_size};
    json_t *root = fff_json_read(&report, json, length);
    fff_bert_config read = {0};
    bool ok = root != NULL && read_settings(&report, root, &read);
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
