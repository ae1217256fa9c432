/* What is made of hidden states: words, labels, embeddings. */
#include "bert/model.h"
#include "bert/product.h"
#include "bert/vector_math.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

bool fff_bert_predicts_words(const fff_bert *model) {
    return model->decoder.weight != NULL;
}

/* output = norm(activation(transform(hidden))), of which the decoder makes words. */
static bool transform(const fff_bert *model, size_t tokens, const float *hidden, float *output) {
    const fff_bert_config *config = &model->config;
    size_t width = config->hidden_size;
    fff_product(tokens, &model->transform, hidden, output);
    fff_status status =
        fff_activate(model->options.isa, config->activation, model->options.sleef, tokens * width, output, output);
    fff_layer_norm(tokens, width, output, model->transform_norm.weight, model->transform_norm.bias, config->norm_eps,
                   output);
    return status == FFF_OK;
}

bool fff_bert_decode(const fff_bert *model, size_t tokens, const float *hidden, float *logits) {
    if (!fff_bert_predicts_words(model)) {
        return false;
    }
    if (model->transform.weight == NULL) {
        fff_product(tokens, &model->decoder, hidden, logits);
        return true;
    }
    float *transformed = calloc(tokens * model->config.hidden_size, sizeof *transformed);
    bool ok = transformed != NULL && transform(model, tokens, hidden, transformed);
    if (ok) {
        fff_product(tokens, &model->decoder, transformed, logits);
    }
    free(transformed);
    return ok;
}

/* ---- Pooling --------------------------------------------------------------------------------- */

static bool is_token(const fff_bert_batch *batch, size_t token) {
    return batch->mask == NULL || batch->mask[token] != 0;
}

static void pool_mean(const fff_bert_batch *batch, size_t sequence, size_t width, const float *hidden, float *mean) {
    float tokens = 0;
    memset(mean, 0, width * sizeof *mean);
    for (size_t token = sequence * batch->length; token < (sequence + 1) * batch->length; token++) {
        for (size_t i = 0; i < width && is_token(batch, token); i++) {
            mean[i] += hidden[token * width + i];
        }
        tokens += is_token(batch, token);
    }
    for (size_t i = 0; i < width && tokens > 0; i++) {
        mean[i] /= tokens;
    }
}

static void pool_max(const fff_bert_batch *batch, size_t sequence, size_t width, const float *hidden, float *largest) {
    bool any = false;
    memset(largest, 0, width * sizeof *largest);
    for (size_t token = sequence * batch->length; token < (sequence + 1) * batch->length; token++) {
        const float *row = hidden + token * width;
        for (size_t i = 0; i < width && is_token(batch, token); i++) {
            largest[i] = any && !(row[i] > largest[i]) && row[i] == row[i] ? largest[i] : row[i];
        }
        any = any || is_token(batch, token);
    }
}

/* To length 1; what is shorter than 1e-12 becomes no longer than that, as in the code that writes such models. */
static void normalize(size_t width, float *values) {
    double sum = 0;
    for (size_t i = 0; i < width; i++) {
        sum += (double)values[i] * (double)values[i];
    }
    double length = sqrt(sum) > 1e-12 || isnan(sum) ? sqrt(sum) : 1e-12;
    for (size_t i = 0; i < width; i++) {
        values[i] = (float)((double)values[i] / length);
    }
}

void fff_bert_pool(const fff_bert *model, const fff_bert_batch *batch, const float *hidden, float *embeddings) {
    size_t width = model->config.hidden_size;
    for (size_t sequence = 0; sequence < batch->sequences; sequence++) {
        float *embedding = embeddings + sequence * width;
        switch (model->sentence.pooling) {
        case FFF_POOLING_MEAN: pool_mean(batch, sequence, width, hidden, embedding); break;
        case FFF_POOLING_MAX: pool_max(batch, sequence, width, hidden, embedding); break;
        case FFF_POOLING_CLS:
            memcpy(embedding, hidden + sequence * batch->length * width, width * sizeof *embedding);
            break;
        }
        if (model->sentence.normalize) {
            normalize(width, embedding);
        }
    }
}

/* ---- Labels ---------------------------------------------------------------------------------- */

bool fff_bert_classify(const fff_bert *model, size_t sequences, size_t length, const float *hidden, float *logits) {
    size_t width = model->config.hidden_size;
    if (model->config.labels == 0) {
        return false;
    }
    float *means = malloc(sequences * (width + model->pooler.out) * sizeof *means);
    if (means == NULL) {
        return false;
    }
    float *pooled = means + sequences * width;
    const fff_bert_batch all = {sequences, length, NULL, NULL}; /* padding included, as in the authors' code */
    for (size_t sequence = 0; sequence < sequences; sequence++) {
        pool_mean(&all, sequence, width, hidden, means + sequence * width);
    }
    fff_product(sequences, &model->pooler, means, pooled);
    fff_tanh(sequences * model->pooler.out, pooled);
    fff_product(sequences, &model->head, pooled, logits);
    free(means);
    return true;
}
