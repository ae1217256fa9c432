#include "bert/reference_f64.h"

#include "bert/blas.h"
#include "bert/model.h"
#include "bert/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_ROWS = 1024 }; /* of a weight matrix, converted to float64 at a time */

struct reference {
    const fff_bert *model;
    size_t length;
    double *hidden; /* length x hidden_size */
    double *normed, *mixed, *context, *scores, *neurons, *block;
    unsigned char *visited;
    uint32_t *nodes;
};

/* output (count x out) = input (count x in) W' + bias */
static void product(size_t count, const struct linear *linear, const double *input, double *output, double *block) {
    for (size_t first = 0; first < linear->out; first += BLOCK_ROWS) {
        size_t rows = linear->out - first < BLOCK_ROWS ? linear->out - first : BLOCK_ROWS;
        for (size_t i = 0; i < rows * linear->in; i++) {
            block[i] = (double)linear->weight[first * linear->in + i];
        }
        fff_blas()->dgemm(BLAS_ROW_MAJOR, BLAS_NO_TRANS, BLAS_TRANS, (int)count, (int)rows, (int)linear->in, 1, input,
                          (int)linear->in, block, (int)linear->in, 0, output + first, (int)linear->out);
    }
    for (size_t row = 0; row < count && linear->bias != NULL; row++) {
        for (size_t i = 0; i < linear->out; i++) {
            output[row * linear->out + i] += (double)linear->bias[i];
        }
    }
}

static double *new_block(const fff_bert *model) {
    size_t widest =
        model->config.neurons > model->config.hidden_size ? model->config.neurons : model->config.hidden_size;
    widest = model->config.head_width > widest ? model->config.head_width : widest;
    return malloc(BLOCK_ROWS * widest * sizeof(double));
}

static void layer_norm_of(const fff_bert_config *config, size_t tokens, const struct norm *norm, const double *input,
                          double *output) {
    size_t width = config->hidden_size;
    for (size_t token = 0; token < tokens; token++, input += width, output += width) {
        double mean = 0, variance = 0;
        for (size_t i = 0; i < width; i++) {
            mean += input[i] / (double)width;
        }
        for (size_t i = 0; i < width; i++) {
            variance += (input[i] - mean) * (input[i] - mean) / (double)width;
        }
        double deviation = sqrt(variance + config->norm_eps);
        for (size_t i = 0; i < width; i++) {
            output[i] = (input[i] - mean) / deviation * (double)norm->weight[i] + (double)norm->bias[i];
        }
    }
}

static void layer_norm(const struct reference *r, const struct norm *norm, const double *input, double *output) {
    layer_norm_of(&r->model->config, r->length, norm, input, output);
}

static void embed(const struct reference *r, const int32_t *ids) {
    const fff_bert *model = r->model;
    size_t width = model->config.hidden_size;
    for (size_t token = 0; token < r->length; token++) {
        for (size_t i = 0; i < width; i++) {
            double sum = (double)model->word_embedding[(size_t)ids[token] * width + i];
            sum += (double)model->position_embedding[token * width + i];
            sum += model->token_embedding != NULL ? (double)model->token_embedding[i] : 0;
            r->hidden[token * width + i] = sum;
        }
    }
    layer_norm(r, &model->embedding_norm, r->hidden, r->hidden);
}

/* context = the heads' results side by side, from queries, keys and values in `mixed`. */
static void attend(const struct reference *r, const struct bert_layer *layer, const float *mask) {
    const fff_bert_config *config = &r->model->config;
    size_t width = config->hidden_size, head_width = width / config->heads, stride = 3 * width;
    bool head_by_head = layer->projections[1].weight == NULL;
    for (size_t head = 0; head < config->heads; head++) {
        const double *query = r->mixed + head * head_width * (head_by_head ? 3 : 1);
        const double *key = query + (head_by_head ? head_width : width);
        const double *value = key + (head_by_head ? head_width : width);
        for (size_t i = 0; i < r->length; i++) {
            double largest = -INFINITY, total = 0;
            for (size_t j = 0; j < r->length; j++) {
                double score = 0;
                for (size_t c = 0; c < head_width; c++) {
                    score += query[i * stride + c] * key[j * stride + c];
                }
                score *= (double)layer->score_scale;
                score += mask != NULL ? (1 - (double)mask[j]) * -10000.0 : 0;
                r->scores[j] = score;
                largest = score > largest ? score : largest;
            }
            for (size_t j = 0; j < r->length; j++) {
                r->scores[j] = exp(r->scores[j] - largest);
                total += r->scores[j];
            }
            double *result = r->context + i * width + head * head_width;
            memset(result, 0, head_width * sizeof *result);
            for (size_t j = 0; j < r->length; j++) {
                for (size_t c = 0; c < head_width; c++) {
                    result[c] += r->scores[j] / total * value[j * stride + c];
                }
            }
        }
    }
}

static void add_attention(const struct reference *r, const struct bert_layer *layer, const double *input,
                          const float *mask) {
    size_t width = r->model->config.hidden_size, size = r->length * width;
    if (layer->projections[1].weight == NULL) {
        product(r->length, &layer->projections[0], input, r->mixed, r->block);
    }
    for (size_t i = 0; i < 3 && layer->projections[1].weight != NULL; i++) {
        product(r->length, &layer->projections[i], input, r->context, r->block);
        for (size_t token = 0; token < r->length; token++) {
            memcpy(r->mixed + (3 * token + i) * width, r->context + token * width, width * sizeof(double));
        }
    }
    attend(r, layer, mask);
    product(r->length, &layer->attention_out, r->context, r->mixed, r->block);
    for (size_t i = 0; i < size; i++) {
        r->hidden[i] += r->mixed[i];
    }
}

static double activate(fff_activation activation, double z) {
    switch (activation) {
    case FFF_ACTIVATION_GELU: return 0.5 * z * erfc(-z * 0.70710678118654752440);
    case FFF_ACTIVATION_GELU_TANH: return 0.5 * z * (1 + tanh(0.79788456080286535588 * (z + 0.044715 * z * z * z)));
    case FFF_ACTIVATION_RELU: return z > 0 ? z : 0 * z; /* a NaN stays one */
    case FFF_ACTIVATION_RELU2: return z > 0 ? z * z : 0 * z;
    case FFF_ACTIVATION_SILU: return z / (1 + exp(-z));
    case FFF_ACTIVATION_IDENTITY: break;
    }
    return z;
}

/* One token: the nodes on its path stay, activated, and all others become 0. */
static void mask_and_activate(const struct reference *r, double *logits, uint32_t *nodes) {
    const fff_bert_config *config = &r->model->config;
    size_t levels = config->depth + 1, tree_nodes = fff_nodes_per_tree(config->depth);
    memset(r->visited, 0, config->neurons);
    for (size_t tree = 0; tree < config->trees; tree++) {
        size_t node = 0;
        for (size_t level = 0; level < levels; level++) {
            nodes[tree * levels + level] = (uint32_t)node;
            r->visited[tree * tree_nodes + node] = 1;
            node = 2 * node + (logits[tree * tree_nodes + node] > 0 ? 2 : 1);
        }
    }
    for (size_t i = 0; i < config->neurons; i++) {
        logits[i] = r->visited[i] != 0 ? activate(config->activation, logits[i]) : 0;
    }
}

static void add_feedforward(const struct reference *r, size_t index, size_t first_token, const double *input,
                            void (*seen)(void *context, const fff_bert_seen_f64 *), void *context) {
    const fff_bert_config *config = &r->model->config;
    const struct bert_layer *layer = &r->model->layers[index];
    size_t width = config->hidden_size, path = config->trees * (config->depth + 1);
    product(r->length, &layer->in, input, r->neurons, r->block);
    for (size_t token = 0; token < r->length; token++) {
        mask_and_activate(r, r->neurons + token * config->neurons, r->nodes + token * path);
    }
    struct linear out = layer->out;
    out.bias = NULL;
    product(r->length, &out, r->neurons, r->context, r->block);
    if (seen != NULL) {
        const fff_bert_seen_f64 what = {index, first_token, r->length, r->context, r->nodes};
        seen(context, &what);
    }
    for (size_t token = 0; token < r->length; token++) {
        for (size_t i = 0; i < width; i++) {
            double bias = layer->out.bias != NULL ? (double)layer->out.bias[i] : 0;
            r->hidden[token * width + i] += r->context[token * width + i] + bias;
        }
    }
}

static void run_sequence(const struct reference *r, const int32_t *ids, const float *mask, size_t first_token,
                         void (*seen)(void *context, const fff_bert_seen_f64 *), void *context) {
    const fff_bert *model = r->model;
    bool post_norm = model->config.family == FFF_BERT_POST_NORM;
    embed(r, ids);
    for (size_t i = 0; i < model->config.layers; i++) {
        const struct bert_layer *layer = &model->layers[i];
        if (post_norm) {
            add_attention(r, layer, r->hidden, mask);
            layer_norm(r, &layer->norm1, r->hidden, r->hidden);
            add_feedforward(r, i, first_token, r->hidden, seen, context);
            layer_norm(r, &layer->norm2, r->hidden, r->hidden);
        } else {
            layer_norm(r, &layer->norm1, r->hidden, r->normed);
            add_attention(r, layer, r->normed, mask);
            layer_norm(r, &layer->norm2, r->hidden, r->normed);
            add_feedforward(r, i, first_token, r->normed, seen, context);
        }
    }
    if (!post_norm) {
        layer_norm(r, &model->final_norm, r->hidden, r->hidden);
    }
}

bool fff_bert_encode_f64(const fff_bert *model, const fff_bert_batch *batch, double *hidden,
                         void (*seen)(void *context, const fff_bert_seen_f64 *), void *context, char *error,
                         size_t error_size) {
    const struct fff_report report = {"input", error, error_size};
    const fff_bert_config *config = &model->config;
    size_t length = batch->length, width = config->hidden_size;
    if (!fff_bert_check_batch(model, batch, &report)) {
        return false;
    }
    for (size_t i = 0; i < config->layers; i++) {
        if (model->layers[i].in.weight == NULL || model->layers[i].out.weight == NULL) {
            return FFF_FAIL(&report, "a model runs in float64 only if it was opened to be computed densely");
        }
    }
    struct reference r = {
        .model = model,
        .length = length,
        .normed = malloc(length * width * sizeof(double)),
        .mixed = malloc(length * 3 * width * sizeof(double)),
        .context = malloc(length * width * sizeof(double)),
        .scores = malloc(length * sizeof(double)),
        .neurons = malloc(length * config->neurons * sizeof(double)),
        .block = new_block(model),
        .visited = malloc(config->neurons),
        .nodes = malloc(length * config->trees * (config->depth + 1) * sizeof(uint32_t)),
    };
    bool ok = r.normed != NULL && r.mixed != NULL && r.context != NULL && r.scores != NULL && r.neurons != NULL &&
              r.block != NULL && r.visited != NULL && r.nodes != NULL;
    for (size_t sequence = 0; sequence < batch->sequences && ok; sequence++) {
        size_t first = sequence * length;
        r.hidden = hidden + first * width;
        run_sequence(&r, batch->ids + first, batch->mask != NULL ? batch->mask + first : NULL, first, seen, context);
    }
    free(r.normed);
    free(r.mixed);
    free(r.context);
    free(r.scores);
    free(r.neurons);
    free(r.block);
    free(r.visited);
    free(r.nodes);
    return ok || FFF_FAIL(&report, "out of memory");
}

/* The post-norm family's step before the decoder. */
static void transform(const fff_bert *model, size_t tokens, const double *hidden, double *output, double *block) {
    const fff_bert_config *config = &model->config;
    product(tokens, &model->transform, hidden, output, block);
    for (size_t i = 0; i < tokens * config->hidden_size; i++) {
        output[i] = activate(config->activation, output[i]);
    }
    layer_norm_of(config, tokens, &model->transform_norm, output, output);
}

bool fff_bert_decode_f64(const fff_bert *model, size_t tokens, const double *hidden, double *logits) {
    if (!fff_bert_predicts_words(model)) {
        return false;
    }
    double *block = new_block(model), *transformed = calloc(tokens * model->config.hidden_size, sizeof *transformed);
    bool ok = block != NULL && transformed != NULL, first = model->transform.weight != NULL;
    if (ok && first) {
        transform(model, tokens, hidden, transformed, block);
    }
    if (ok) {
        product(tokens, &model->decoder, first ? transformed : hidden, logits, block);
    }
    free(block);
    free(transformed);
    return ok;
}

bool fff_bert_classify_f64(const fff_bert *model, size_t sequences, size_t length, const double *hidden,
                           double *logits) {
    size_t width = model->config.hidden_size, pooled_width = model->pooler.out;
    if (model->config.labels == 0) {
        return false;
    }
    double *block = new_block(model), *means = calloc(sequences * width, sizeof *means);
    double *pooled = calloc(sequences * pooled_width, sizeof *pooled);
    bool ok = block != NULL && means != NULL && pooled != NULL;
    for (size_t token = 0; token < sequences * length && ok; token++) {
        double *mean = means + token / length * width;
        for (size_t i = 0; i < width; i++) {
            mean[i] += hidden[token * width + i] / (double)length;
        }
    }
    if (ok) {
        product(sequences, &model->pooler, means, pooled, block);
        for (size_t i = 0; i < sequences * pooled_width; i++) {
            pooled[i] = tanh(pooled[i]);
        }
        product(sequences, &model->head, pooled, logits, block);
    }
    free(block);
    free(means);
    free(pooled);
    return ok;
}
