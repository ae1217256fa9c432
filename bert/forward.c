/* The forward pass. docs/bert.md has the formulas of both families. */
#include "bert/blas.h"
#include "bert/model.h"
#include "bert/product.h"
#include "bert/report.h"
#include "bert/vector_math.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Sequences run in groups of about so many tokens: enough for matrix products at full speed and for trees to share
 * rows, few enough for the group's matrices to cost little memory beside the weights. */
enum { TOKENS_AT_ONCE = 2048 };

static const float MASKED_SCORE = -10000.0f; /* added to the score of a padded key, as the authors' code has it */

/* One group of sequences on its way through the layers. */
struct pass {
    const fff_bert *model;
    fff_bert_watch *watch;
    size_t length, sequences, tokens, first_token;
    const int32_t *ids;
    const float *mask;
    float *hidden; /* tokens x hidden_size; the result */
    float *normed, *mixed, *context, *scores;
    struct feedforward_scratch scratch;
    double since;
};

/* ---- Time ------------------------------------------------------------------------------------ */

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* The time since the last call was spent on this part. */
static void account(struct pass *pass, int part) {
    if (pass->watch != NULL) {
        double time = now();
        pass->watch->seconds[part] += time - pass->since;
        pass->since = time;
    }
}

/* ---- The parts of a layer -------------------------------------------------------------------- */

static void apply_norm(const struct pass *pass, const struct norm *norm, const float *input, float *output) {
    const fff_bert_config *config = &pass->model->config;
    fff_layer_norm(pass->tokens, config->hidden_size, input, norm->weight, norm->bias, config->norm_eps, output);
}

static void add(size_t count, float *sum, const float *term) {
    for (size_t i = 0; i < count; i++) {
        sum[i] += term[i];
    }
}

static void add_bias(size_t rows, size_t width, float *values, const float *bias) {
    for (size_t row = 0; row < rows && bias != NULL; row++) {
        add(width, values + row * width, bias);
    }
}

static void embed(struct pass *pass) {
    const fff_bert *model = pass->model;
    size_t width = model->config.hidden_size;
    for (size_t token = 0; token < pass->tokens; token++) {
        float *row = pass->hidden + token * width;
        memcpy(row, model->word_embedding + (size_t)pass->ids[token] * width, width * sizeof *row);
        add(width, row, model->position_embedding + token % pass->length * width);
        if (model->token_embedding != NULL) {
            add(width, row, model->token_embedding);
        }
    }
    apply_norm(pass, &model->embedding_norm, pass->hidden, pass->hidden);
    account(pass, FFF_BERT_REST);
}

/* mixed (tokens x 3 hidden_size) = queries, keys and values. */
static void project(struct pass *pass, const struct bert_layer *layer, const float *input) {
    size_t width = pass->model->config.hidden_size;
    if (layer->projections[1].weight == NULL) {
        fff_product(pass->tokens, &layer->projections[0], input, pass->mixed);
    }
    for (size_t i = 0; i < 3 && layer->projections[1].weight != NULL; i++) {
        const struct linear *projection = &layer->projections[i];
        fff_product_strided(pass->tokens, width, width, input, width, projection->weight, width,
                            pass->mixed + i * width, 3 * width);
        for (size_t token = 0; token < pass->tokens; token++) {
            add(width, pass->mixed + (3 * token + i) * width, projection->bias);
        }
    }
    account(pass, FFF_BERT_PROJECTIONS);
}

/* One head of one sequence, whose query, key and value begin at these columns of `mixed`. */
static void attend_head(struct pass *pass, const struct bert_layer *layer, size_t sequence, size_t query, size_t key,
                        size_t value, size_t output) {
    const fff_bert_config *config = &pass->model->config;
    size_t length = pass->length, width = config->hidden_size, stride = 3 * width, first = sequence * length;
    int head_width = (int)(width / config->heads);
    const float *rows = pass->mixed + first * stride;
    fff_blas()->sgemm(BLAS_ROW_MAJOR, BLAS_NO_TRANS, BLAS_TRANS, (int)length, (int)length, head_width,
                      layer->score_scale, rows + query, (int)stride, rows + key, (int)stride, 0, pass->scores,
                      (int)length);
    for (size_t i = 0; i < length; i++) {
        float *scores = pass->scores + i * length;
        for (size_t j = 0; j < length && pass->mask != NULL; j++) {
            scores[j] += (1.0f - pass->mask[first + j]) * MASKED_SCORE;
        }
        fff_softmax(length, scores);
    }
    fff_blas()->sgemm(BLAS_ROW_MAJOR, BLAS_NO_TRANS, BLAS_NO_TRANS, (int)length, head_width, (int)length, 1,
                      pass->scores, (int)length, rows + value, (int)stride, 0, pass->context + first * width + output,
                      (int)width);
}

/* context (tokens x hidden_size) = what each token attends to, head beside head. */
static void attend(struct pass *pass, const struct bert_layer *layer) {
    const fff_bert_config *config = &pass->model->config;
    size_t width = config->hidden_size, head_width = width / config->heads;
    bool head_by_head = config->family == FFF_BERT_CRAMMED; /* query, key, value of each head side by side */
    for (size_t sequence = 0; sequence < pass->sequences; sequence++) {
        for (size_t head = 0; head < config->heads; head++) {
            size_t at = head * head_width;
            size_t query = head_by_head ? 3 * at : at, apart = head_by_head ? head_width : width;
            attend_head(pass, layer, sequence, query, query + apart, query + 2 * apart, at);
        }
    }
    account(pass, FFF_BERT_ATTENTION);
}

/* hidden += concatenated heads, projected. */
static void add_attention(struct pass *pass, const struct bert_layer *layer, const float *input) {
    project(pass, layer, input);
    attend(pass, layer);
    fff_product_add(pass->tokens, &layer->attention_out, pass->context, pass->hidden);
    add_bias(pass->tokens, pass->model->config.hidden_size, pass->hidden, layer->attention_out.bias);
    account(pass, FFF_BERT_PROJECTIONS);
}

/* hidden += feedforward(input) */
static fff_status add_feedforward(struct pass *pass, size_t index, const float *input) {
    const fff_bert *model = pass->model;
    size_t width = model->config.hidden_size;
    float *output = pass->context; /* what it held has been used */
    fff_status status = fff_bert_run_feedforward(model, index, pass->tokens, input, output, &pass->scratch);
    if (status != FFF_OK) {
        return status;
    }
    account(pass, FFF_BERT_FEEDFORWARD);
    if (pass->watch != NULL && pass->watch->feedforward != NULL) {
        const fff_bert_seen seen = {index,  pass->first_token,   pass->tokens,        input,
                                    output, pass->scratch.nodes, pass->scratch.logits};
        pass->watch->feedforward(pass->watch->context, &seen);
        pass->since = now();
    }
    add(pass->tokens * width, pass->hidden, output);
    add_bias(pass->tokens, width, pass->hidden, model->layers[index].out.bias);
    return FFF_OK;
}

/* The norm stands before each half, and the sum of all halves is the hidden state ... */
static fff_status run_crammed_layer(struct pass *pass, size_t index) {
    const struct bert_layer *layer = &pass->model->layers[index];
    apply_norm(pass, &layer->norm1, pass->hidden, pass->normed);
    account(pass, FFF_BERT_REST);
    add_attention(pass, layer, pass->normed);
    apply_norm(pass, &layer->norm2, pass->hidden, pass->normed);
    account(pass, FFF_BERT_REST);
    fff_status status = add_feedforward(pass, index, pass->normed);
    account(pass, FFF_BERT_REST);
    return status;
}

/* ... or after it, and what it returns is the hidden state. */
static fff_status run_post_norm_layer(struct pass *pass, size_t index) {
    const struct bert_layer *layer = &pass->model->layers[index];
    add_attention(pass, layer, pass->hidden);
    apply_norm(pass, &layer->norm1, pass->hidden, pass->normed);
    memcpy(pass->hidden, pass->normed, pass->tokens * pass->model->config.hidden_size * sizeof(float));
    account(pass, FFF_BERT_REST);
    fff_status status = add_feedforward(pass, index, pass->normed);
    apply_norm(pass, &layer->norm2, pass->hidden, pass->hidden);
    account(pass, FFF_BERT_REST);
    return status;
}

static fff_status run_group(struct pass *pass) {
    const fff_bert *model = pass->model;
    fff_status status = FFF_OK;
    pass->since = pass->watch != NULL ? now() : 0;
    embed(pass);
    for (size_t i = 0; i < model->config.layers && status == FFF_OK; i++) {
        status = model->config.family == FFF_BERT_CRAMMED ? run_crammed_layer(pass, i) : run_post_norm_layer(pass, i);
    }
    if (model->config.family == FFF_BERT_CRAMMED) {
        apply_norm(pass, &model->final_norm, pass->hidden, pass->hidden);
    }
    account(pass, FFF_BERT_REST);
    return status;
}

/* ---- The whole ------------------------------------------------------------------------------- */

bool fff_bert_check_batch(const fff_bert *model, const fff_bert_batch *batch, const struct fff_report *report) {
    const fff_bert_config *config = &model->config;
    if (batch->length == 0 || batch->sequences == 0) {
        return FFF_FAIL(report, "there are no tokens");
    }
    if (batch->length > config->max_length) {
        return FFF_FAIL(report, "a sequence of %zu tokens is longer than the model's %zu", batch->length,
                        config->max_length);
    }
    /* The indices of hidden states must be countable. */
    if (batch->sequences > SIZE_MAX / sizeof(float) / config->hidden_size / batch->length) {
        return FFF_FAIL(report, "%zu sequences of %zu tokens are too many", batch->sequences, batch->length);
    }
    for (size_t i = 0; i < batch->sequences * batch->length; i++) {
        if (batch->ids[i] < 0 || (size_t)batch->ids[i] >= config->vocabulary) {
            return FFF_FAIL(report, "sequence %zu, token %zu: id %d is outside the vocabulary of %zu",
                            i / batch->length, i % batch->length, batch->ids[i], config->vocabulary);
        }
    }
    return true;
}

static void free_pass(struct pass *pass) {
    free(pass->normed);
    free(pass->mixed);
    free(pass->context);
    free(pass->scores);
    fff_bert_scratch_free(&pass->scratch);
}

static bool make_pass(struct pass *pass, size_t most_tokens) {
    size_t width = pass->model->config.hidden_size;
    bool routes = pass->watch != NULL && pass->watch->routes;
    pass->normed = malloc(most_tokens * width * sizeof(float));
    pass->mixed = malloc(most_tokens * 3 * width * sizeof(float));
    pass->context = malloc(most_tokens * width * sizeof(float));
    pass->scores = malloc(pass->length * pass->length * sizeof(float));
    return pass->normed != NULL && pass->mixed != NULL && pass->context != NULL && pass->scores != NULL &&
           fff_bert_scratch_create(pass->model, most_tokens, routes, &pass->scratch);
}

bool fff_bert_encode(const fff_bert *model, const fff_bert_batch *batch, float *hidden, fff_bert_watch *watch,
                     char *error, size_t error_size) {
    const struct fff_report report = {"input", error, error_size};
    if (!fff_bert_check_batch(model, batch, &report)) {
        return false;
    }
    size_t length = batch->length, width = model->config.hidden_size;
    size_t group = length < TOKENS_AT_ONCE ? TOKENS_AT_ONCE / length : 1;
    group = group < batch->sequences ? group : batch->sequences;
    struct pass pass = {.model = model, .watch = watch, .length = length};
    if (!make_pass(&pass, group * length)) {
        free_pass(&pass);
        return FFF_FAIL(&report, "out of memory");
    }
    fff_status status = FFF_OK;
    for (size_t first = 0; first < batch->sequences && status == FFF_OK; first += group) {
        pass.sequences = batch->sequences - first < group ? batch->sequences - first : group;
        pass.first_token = first * length;
        pass.tokens = pass.sequences * length;
        pass.ids = batch->ids + pass.first_token;
        pass.mask = batch->mask != NULL ? batch->mask + pass.first_token : NULL;
        pass.hidden = hidden + pass.first_token * width;
        status = run_group(&pass);
    }
    free_pass(&pass);
    return status == FFF_OK || FFF_FAIL(&report, "%s", fff_status_text(status));
}
