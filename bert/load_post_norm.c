/* The tensors of Hugging Face's BERT, and of its masked-LM head. */
#include "bert/load.h"

#include <math.h>

/* A name within a layer. */
static const char *of_layer(char name[FFF_LONGEST_NAME], size_t index, const char *rest) {
    return fff_load_name(name, "encoder.layer.%zu.%s", index, rest);
}

static bool load_layer(struct fff_loading *loading, size_t index) {
    static const char *const projections[] = {"attention.self.query", "attention.self.key", "attention.self.value"};
    const fff_bert_config *config = &loading->model->config;
    struct bert_layer *layer = fff_load_layer(loading, index);
    size_t width = config->hidden_size, head_width = width / config->heads;
    char name[FFF_LONGEST_NAME];
    bool ok = true;
    for (size_t i = 0; i < 3 && ok; i++) {
        ok =
            fff_load_linear(loading, of_layer(name, index, projections[i]), width, width, true, &layer->projections[i]);
    }
    layer->score_scale = 1.0f / sqrtf((float)head_width);
    return ok &&
           fff_load_linear(loading, of_layer(name, index, "attention.output.dense"), width, width, true,
                           &layer->attention_out) &&
           fff_load_norm(loading, of_layer(name, index, "attention.output.LayerNorm"), &layer->norm1) &&
           fff_load_feedforward(loading, of_layer(name, index, "intermediate.dense"), false, true, layer) &&
           fff_load_feedforward(loading, of_layer(name, index, "output.dense"), true, true, layer) &&
           fff_load_norm(loading, of_layer(name, index, "output.LayerNorm"), &layer->norm2);
}

static bool load_encoder(struct fff_loading *loading) {
    struct fff_bert *model = loading->model;
    const fff_bert_config *config = &model->config;
    size_t width = config->hidden_size;
    bool found;
    bool ok =
        fff_load_prefix(loading, "embeddings.word_embeddings.weight", &found) &&
        fff_load(loading, "embeddings.word_embeddings.weight", config->vocabulary, width, &model->word_embedding) &&
        fff_load(loading, "embeddings.position_embeddings.weight", config->max_length, width,
                 &model->position_embedding) &&
        fff_load(loading, "embeddings.token_type_embeddings.weight", config->token_types, width,
                 &model->token_embedding) &&
        fff_load_norm(loading, "embeddings.LayerNorm", &model->embedding_norm);
    for (size_t i = 0; i < config->layers && ok; i++) {
        ok = load_layer(loading, i);
    }
    return ok;
}

/* The masked-LM head, where there is one: other heads are not read. Its bias is often there twice, under two names. */
static bool load_head(struct fff_loading *loading) {
    struct fff_bert *model = loading->model;
    const fff_bert_config *config = &model->config;
    size_t width = config->hidden_size, words = config->vocabulary;
    bool found = false;
    if (!fff_load_prefix(loading, "cls.predictions.", &found)) {
        return false;
    }
    if (!found) {
        return true;
    }
    const char *bias =
        fff_load_has(loading, "cls.predictions.bias") ? "cls.predictions.bias" : "cls.predictions.decoder.bias";
    const float *values;
    bool tied = config->tied_decoder && !fff_load_has(loading, "cls.predictions.decoder.weight");
    model->decoder = (struct linear){model->word_embedding, NULL, width, words, NULL};
    bool ok = fff_load_linear(loading, "cls.predictions.transform.dense", width, width, true, &model->transform) &&
              fff_load_norm(loading, "cls.predictions.transform.LayerNorm", &model->transform_norm) &&
              (tied || fff_load_linear(loading, "cls.predictions.decoder", words, width, false, &model->decoder)) &&
              fff_load(loading, bias, 0, words, &values);
    model->decoder.bias = ok ? values : NULL;
    return ok;
}

bool fff_load_post_norm(struct fff_loading *loading) {
    return load_encoder(loading) && load_head(loading);
}
