/* Opening a model: every tensor found, its shape checked against the configuration, and the feedforward layers
 * packed. */
#include "bert/model.h"
#include "bert/report.h"

#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LONGEST_NAME = 160, LONGEST_PATH = 4096 };

struct loading {
    struct fff_bert *model;
    struct fff_report report;
};

/* ---- Tensors --------------------------------------------------------------------------------- */

static bool own(struct loading *loading, float *memory) {
    struct fff_bert *model = loading->model;
    if (memory == NULL) {
        return true;
    }
    float **owned = realloc(model->owned, (model->owned_count + 1) * sizeof *owned);
    if (owned == NULL) {
        free(memory);
        return FFF_FAIL(&loading->report, "out of memory");
    }
    model->owned = owned;
    owned[model->owned_count++] = memory;
    return true;
}

/* The names of Hugging Face's heads put `bert.` before those of the encoder. */
static const fff_tensor *find(const struct loading *loading, const char *name) {
    const fff_tensor *tensor = fff_safetensors_find(loading->model->file, name);
    if (tensor == NULL && loading->model->config.family == FFF_BERT_POST_NORM) {
        char prefixed[LONGEST_NAME + 8];
        snprintf(prefixed, sizeof prefixed, "bert.%s", name);
        tensor = fff_safetensors_find(loading->model->file, prefixed);
    }
    return tensor;
}

/* A tensor of rows x columns; rows 0: a vector; columns 0 too: a single number. */
static bool load(struct loading *loading, const char *name, size_t rows, size_t columns, const float **values) {
    const fff_tensor *tensor = find(loading, name);
    if (tensor == NULL) {
        return FFF_FAIL(&loading->report, "tensor '%s' is missing", name);
    }
    size_t rank = rows > 0 ? 2 : 1;
    const size_t shape[2] = {rows > 0 ? rows : columns, columns};
    if (columns == 0 ? tensor->count != 1 : tensor->rank != rank) {
        return FFF_FAIL(&loading->report,
                        "tensor '%s' has %zu dimensions and %zu elements where %zu and %zu are expected", name,
                        tensor->rank, tensor->count, columns == 0 ? 0 : rank,
                        columns == 0 ? 1
                        : rows > 0   ? rows * columns
                                     : columns);
    }
    for (size_t i = 0; i < rank && columns > 0; i++) {
        if (tensor->shape[i] != shape[i]) {
            return FFF_FAIL(&loading->report, "tensor '%s': dimension %zu is %zu where %zu is expected", name, i,
                            tensor->shape[i], shape[i]);
        }
    }
    fff_floats floats;
    if (!fff_tensor_floats(tensor, &floats)) {
        return FFF_FAIL(&loading->report,
                        "tensor '%s' has dtype %s where floating point is expected, or memory ran out", name,
                        tensor->type_name);
    }
    *values = floats.values;
    return own(loading, floats.owned);
}

/* "prefix.suffix", for any number of pieces. */
static const char *join(char name[LONGEST_NAME], const char *format, ...) __attribute__((format(printf, 2, 3)));
static const char *join(char name[LONGEST_NAME], const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(name, LONGEST_NAME, format, arguments);
    va_end(arguments);
    return name;
}

static bool load_norm(struct loading *loading, const char *prefix, struct norm *norm) {
    size_t width = loading->model->config.hidden_size;
    char name[LONGEST_NAME];
    return load(loading, join(name, "%s.weight", prefix), 0, width, &norm->weight) &&
           load(loading, join(name, "%s.bias", prefix), 0, width, &norm->bias);
}

static bool load_linear(struct loading *loading, const char *prefix, size_t out, size_t in, bool bias,
                        struct linear *linear) {
    char name[LONGEST_NAME];
    *linear = (struct linear){.in = in, .out = out};
    if (!load(loading, join(name, "%s.weight", prefix), out, in, &linear->weight)) {
        return false;
    }
    linear->stored = find(loading, name);
    return !bias || load(loading, join(name, "%s.bias", prefix), 0, out, &linear->bias);
}

/* ---- The crammed family ---------------------------------------------------------------------- */

/* Rounded where the authors' code rounds, which computes in float32. */
static bool make_positions(struct loading *loading, float scale) {
    const fff_bert_config *config = &loading->model->config;
    size_t width = config->hidden_size;
    float *positions = malloc(config->max_length * width * sizeof *positions);
    if (positions == NULL) {
        return FFF_FAIL(&loading->report, "out of memory");
    }
    for (size_t i = 0; i < width; i++) {
        size_t even = i / 2 * 2;
        float exponent = (float)even * (float)(-log(10000.0) / (double)width);
        float frequency = (float)exp((double)exponent);
        for (size_t position = 0; position < config->max_length; position++) {
            double angle = (double)((float)position * frequency);
            positions[position * width + i] = scale * (float)(i % 2 == 0 ? sin(angle) : cos(angle));
        }
    }
    loading->model->position_embedding = positions;
    return own(loading, positions);
}

static bool load_crammed_layer(struct loading *loading, size_t index, struct bert_layer *layer) {
    const fff_bert_config *config = &loading->model->config;
    size_t width = config->hidden_size;
    const char *in = config->fast_feedforward ? "linear_in" : "dense_in";
    const char *out = config->fast_feedforward ? "linear_out" : "dense_out";
    const float *norm_factor = NULL;
    char name[LONGEST_NAME];
    if (!load_norm(loading, join(name, "encoder.layers.%zu.norm1", index), &layer->norm1) ||
        !load_norm(loading, join(name, "encoder.layers.%zu.norm2", index), &layer->norm2) ||
        !load(loading, join(name, "encoder.layers.%zu.attn.self_attention.norm_factor", index), 0, 0, &norm_factor) ||
        !load_linear(loading, join(name, "encoder.layers.%zu.attn.self_attention.query_key_value", index), 3 * width,
                     width, false, &layer->projections[0]) ||
        !load_linear(loading, join(name, "encoder.layers.%zu.attn.dense", index), width, width, false,
                     &layer->attention_out) ||
        !load_linear(loading, join(name, "encoder.layers.%zu.ffn.%s", index, in), config->neurons, width,
                     config->fast_feedforward, &layer->in) ||
        !load_linear(loading, join(name, "encoder.layers.%zu.ffn.%s", index, out), width, config->neurons, false,
                     &layer->out)) {
        return false;
    }
    layer->score_scale = *norm_factor;
    return true;
}

static bool load_crammed_head(struct loading *loading) {
    struct fff_bert *model = loading->model;
    const fff_bert_config *config = &model->config;
    if (config->labels > 0) {
        return load_linear(loading, "pooler.dense", config->head_width, config->hidden_size, true, &model->pooler) &&
               load_linear(loading, "head", config->labels, config->head_width, true, &model->head);
    }
    if (config->tied_decoder && find(loading, "decoder.weight") == NULL) {
        model->decoder = model->word_embedding;
        return true;
    }
    return load(loading, "decoder.weight", config->vocabulary, config->hidden_size, &model->decoder);
}

static bool load_crammed(struct loading *loading) {
    struct fff_bert *model = loading->model;
    const fff_bert_config *config = &model->config;
    const float *scale = NULL;
    if (!load(loading, "encoder.embedding.word_embedding.weight", config->vocabulary, config->hidden_size,
              &model->word_embedding) ||
        !load(loading, "encoder.embedding.pos_embedding.scale_factor", 0, 0, &scale) ||
        !make_positions(loading, *scale) || !load_norm(loading, "encoder.embedding.norm", &model->embedding_norm) ||
        !load_norm(loading, "encoder.final_norm", &model->final_norm) || !load_crammed_head(loading)) {
        return false;
    }
    for (size_t i = 0; i < config->layers; i++) {
        if (!load_crammed_layer(loading, i, &model->layers[i])) {
            return false;
        }
    }
    return true;
}

/* ---- The post-norm family -------------------------------------------------------------------- */

static bool load_post_norm_layer(struct loading *loading, size_t index, struct bert_layer *layer) {
    static const char *const projections[] = {"query", "key", "value"};
    const fff_bert_config *config = &loading->model->config;
    size_t width = config->hidden_size;
    char name[LONGEST_NAME];
    for (size_t i = 0; i < 3; i++) {
        if (!load_linear(loading, join(name, "encoder.layer.%zu.attention.self.%s", index, projections[i]), width,
                         width, true, &layer->projections[i])) {
            return false;
        }
    }
    size_t head_width = width / config->heads;
    layer->score_scale = 1.0f / sqrtf((float)head_width);
    return load_linear(loading, join(name, "encoder.layer.%zu.attention.output.dense", index), width, width, true,
                       &layer->attention_out) &&
           load_norm(loading, join(name, "encoder.layer.%zu.attention.output.LayerNorm", index), &layer->norm1) &&
           load_linear(loading, join(name, "encoder.layer.%zu.intermediate.dense", index), config->neurons, width, true,
                       &layer->in) &&
           load_linear(loading, join(name, "encoder.layer.%zu.output.dense", index), width, config->neurons, true,
                       &layer->out) &&
           load_norm(loading, join(name, "encoder.layer.%zu.output.LayerNorm", index), &layer->norm2);
}

static bool load_post_norm(struct loading *loading) {
    struct fff_bert *model = loading->model;
    const fff_bert_config *config = &model->config;
    if (!load(loading, "embeddings.word_embeddings.weight", config->vocabulary, config->hidden_size,
              &model->word_embedding) ||
        !load(loading, "embeddings.position_embeddings.weight", config->max_length, config->hidden_size,
              &model->position_embedding) ||
        !load(loading, "embeddings.token_type_embeddings.weight", config->token_types, config->hidden_size,
              &model->token_embedding) ||
        !load_norm(loading, "embeddings.LayerNorm", &model->embedding_norm)) {
        return false;
    }
    for (size_t i = 0; i < config->layers; i++) {
        if (!load_post_norm_layer(loading, i, &model->layers[i])) {
            return false;
        }
    }
    return true;
}

/* ---- Feedforward layers ---------------------------------------------------------------------- */

fff_layer_desc fff_bert_layer_desc(const fff_bert *model, size_t layer) {
    const fff_bert_config *config = &model->config;
    const struct bert_layer *of = &model->layers[layer];
    return (fff_layer_desc){
        .struct_size = sizeof(fff_layer_desc),
        .input_width = config->hidden_size,
        .output_width = config->hidden_size,
        .depth = config->depth,
        .trees = config->trees,
        .isa = model->options.isa,
        .sleef = model->options.sleef,
        .input_weights = {of->in.weight, config->hidden_size, 1},
        .biases = of->in.bias,
        .output_weights = {of->out.weight, 1, config->neurons},
    };
}

/* Packs one layer, and gives back the pages of the mapping that it was read from. */
static bool pack(struct loading *loading, size_t index) {
    struct fff_bert *model = loading->model;
    const fff_layer_desc desc = fff_bert_layer_desc(model, index);
    fff_status status = fff_layer_create(&desc, &model->layers[index].trees);
    if (status != FFF_OK) {
        return FFF_FAIL(&loading->report, "layer %zu: %s", index, fff_status_text(status));
    }
    fff_tensor_release(model->layers[index].in.stored);
    fff_tensor_release(model->layers[index].out.stored);
    return true;
}

static bool prepare_feedforward(struct loading *loading) {
    struct fff_bert *model = loading->model;
    fff_bert_config *config = &model->config;
    fff_bert_feedforward way = model->options.feedforward;
    bool kernels = way == FFF_BERT_TREES || (way == FFF_BERT_AS_STORED && config->fast_feedforward);
    fff_status status = fff_isa_choose(model->options.isa, &model->options.isa);
    if (status != FFF_OK) {
        return FFF_FAIL(&loading->report, "%s", fff_status_text(status));
    }
    if (model->options.neurons > config->neurons) {
        return FFF_FAIL(&loading->report, "%zu neurons are asked for where a layer has %zu", model->options.neurons,
                        config->neurons);
    }
    if (!kernels && config->neurons > INT_MAX) {
        return FFF_FAIL(&loading->report, "%zu neurons are more than CBLAS can count", config->neurons);
    }
    for (size_t i = 0; i < config->layers && kernels; i++) {
        if (!pack(loading, i)) {
            return false;
        }
    }
    return true;
}

/* ---- Opening --------------------------------------------------------------------------------- */

static bool open_model(struct fff_bert *model, const char *directory, char *error, size_t error_size) {
    char path[LONGEST_PATH];
    struct loading loading = {model, {path, error, error_size}};
    if (strlen(directory) > sizeof path - 32) {
        loading.report.path = "the directory";
        return FFF_FAIL(&loading.report, "its name is longer than %zu bytes", sizeof path - 32);
    }
    snprintf(path, sizeof path, "%s/config.json", directory);
    if (access(path, F_OK) != 0) {
        snprintf(path, sizeof path, "%s/model_config.json", directory);
        if (access(path, F_OK) != 0) {
            loading.report.path = directory;
            return FFF_FAIL(&loading.report, "holds neither config.json nor model_config.json");
        }
    }
    if (!fff_bert_config_open(path, &model->config, error, error_size)) {
        return false;
    }
    snprintf(path, sizeof path, "%s/model.safetensors", directory);
    model->file = fff_safetensors_open(path, error, error_size);
    if (model->file == NULL) {
        return false;
    }
    model->layers = calloc(model->config.layers, sizeof *model->layers);
    if (model->layers == NULL) {
        return FFF_FAIL(&loading.report, "out of memory");
    }
    bool post_norm = model->config.family == FFF_BERT_POST_NORM;
    return (post_norm ? load_post_norm(&loading) : load_crammed(&loading)) && prepare_feedforward(&loading);
}

fff_bert *fff_bert_open(const char *directory, const fff_bert_options *options, char *error, size_t error_size) {
    fff_bert *model = calloc(1, sizeof *model);
    if (model == NULL) {
        const struct fff_report report = {directory, error, error_size};
        fff_report(&report, "out of memory");
        return NULL;
    }
    if (options != NULL) {
        model->options = *options;
    }
    if (!open_model(model, directory, error, error_size)) {
        fff_bert_close(model);
        return NULL;
    }
    return model;
}

void fff_bert_close(fff_bert *model) {
    if (model == NULL) {
        return;
    }
    for (size_t i = 0; i < model->config.layers && model->layers != NULL; i++) {
        fff_layer_destroy(model->layers[i].trees);
    }
    for (size_t i = 0; i < model->owned_count; i++) {
        free(model->owned[i]);
    }
    free(model->owned);
    free(model->layers);
    fff_safetensors_close(model->file);
    free(model);
}

const fff_bert_config *fff_bert_configuration(const fff_bert *model) {
    return &model->config;
}

size_t fff_bert_file_size(const fff_bert *model) {
    return fff_safetensors_size(model->file);
}

size_t fff_bert_packed_size(const fff_bert *model) {
    size_t size = 0;
    for (size_t i = 0; i < model->config.layers; i++) {
        size += fff_layer_memory(model->layers[i].trees);
    }
    return size;
}
