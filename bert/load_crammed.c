/* The tensors of the published FastBERT, and positions, which are computed. */
#include "bert/load.h"

#include <math.h>
#include <stdlib.h>

/* Rounded where the authors' code rounds, which computes in float32. */
static bool make_positions(struct fff_loading *loading, float scale) {
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
    return fff_load_own(loading, positions);
}

/* A name within a layer. */
static const char *of_layer(char name[FFF_LONGEST_NAME], size_t index, const char *rest) {
    return fff_load_name(name, "encoder.layers.%zu.%s", index, rest);
}

static bool load_layer(struct fff_loading *loading, size_t index) {
    const fff_bert_config *config = &loading->model->config;
    struct bert_layer *layer = fff_load_layer(loading, index);
    size_t width = config->hidden_size;
    const char *in = config->fast_feedforward ? "ffn.linear_in" : "ffn.dense_in";
    const char *out = config->fast_feedforward ? "ffn.linear_out" : "ffn.dense_out";
    const float *norm_factor = NULL;
    char name[FFF_LONGEST_NAME];
    bool ok =
        fff_load_norm(loading, of_layer(name, index, "norm1"), &layer->norm1) &&
        fff_load_norm(loading, of_layer(name, index, "norm2"), &layer->norm2) &&
        fff_load(loading, of_layer(name, index, "attn.self_attention.norm_factor"), 0, 0, &norm_factor) &&
        fff_load_linear(loading, of_layer(name, index, "attn.self_attention.query_key_value"), 3 * width, width, false,
                        &layer->projections[0]) &&
        fff_load_linear(loading, of_layer(name, index, "attn.dense"), width, width, false, &layer->attention_out) &&
        fff_load_feedforward(loading, of_layer(name, index, in), false, config->fast_feedforward, layer) &&
        fff_load_feedforward(loading, of_layer(name, index, out), true, false, layer);
    layer->score_scale = ok && norm_factor != NULL ? *norm_factor : 0;
    return ok;
}

/* The head's names may lack what stands before the encoder's. */
static bool load_head(struct fff_loading *loading) {
    struct fff_bert *model = loading->model;
    const fff_bert_config *config = &model->config;
    const char *anchor = config->labels > 0 ? "head.weight" : "decoder.weight";
    if (!fff_load_has(loading, anchor)) {
        *loading->prefix = '\0';
    }
    if (config->labels > 0) {
        return fff_load_linear(loading, "pooler.dense", config->head_width, config->hidden_size, true,
                               &model->pooler) &&
               fff_load_linear(loading, "head", config->labels, config->head_width, true, &model->head);
    }
    model->decoder = (struct linear){model->word_embedding, NULL, config->hidden_size, config->vocabulary, NULL};
    return (config->tied_decoder && !fff_load_has(loading, anchor)) ||
           fff_load_linear(loading, "decoder", config->vocabulary, config->hidden_size, false, &model->decoder);
}

bool fff_load_crammed(struct fff_loading *loading) {
    struct fff_bert *model = loading->model;
    const fff_bert_config *config = &model->config;
    const float *scale = NULL;
    bool found;
    bool ok = fff_load_prefix(loading, "encoder.embedding.word_embedding.weight", &found) &&
              fff_load(loading, "encoder.embedding.word_embedding.weight", config->vocabulary, config->hidden_size,
                       &model->word_embedding) &&
              fff_load(loading, "encoder.embedding.pos_embedding.scale_factor", 0, 0, &scale) &&
              fff_load_norm(loading, "encoder.embedding.norm", &model->embedding_norm) &&
              fff_load_norm(loading, "encoder.final_norm", &model->final_norm);
    for (size_t i = 0; i < config->layers && ok; i++) {
        ok = load_layer(loading, i);
    }
    return ok && load_head(loading) && (scale == NULL || make_positions(loading, *scale));
}
