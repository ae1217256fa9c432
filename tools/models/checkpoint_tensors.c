#include "tools/models/checkpoint_tensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* rows 0: a vector of `columns`; columns 0 too: a single number. */
static void plan(struct tensor_plans *plans, const char *name, size_t rows, size_t columns, float mean,
                 float deviation) {
    if (plans->count == plans->capacity) {
        size_t capacity = plans->capacity * 2 + 64;
        struct tensor_plan *more = realloc(plans->plans, capacity * sizeof *more);
        plans->failed = plans->failed || more == NULL;
        if (more == NULL) {
            return;
        }
        plans->plans = more;
        plans->capacity = capacity;
    }
    size_t rank = columns == 0 ? 0 : rows == 0 ? 1 : 2;
    struct tensor_plan *new = &plans->plans[plans->count++];
    *new = (struct tensor_plan){.rank = rank,
                                .shape = {rank == 2 ? rows : columns, columns},
                                .mean = mean,
                                .deviation = deviation,
                                .bf16 = rank == 2 && plans->bf16};
    snprintf(new->name, sizeof new->name, "%s", name);
    plans->failed =
        plans->failed || __builtin_mul_overflow(rows > 0 ? rows : 1, columns > 0 ? columns : 1, &new->count);
}

static void plan_in(struct tensor_plans *plans, size_t layer, const char *name, size_t rows, size_t columns, float mean,
                    double deviation) {
    char full[LONGEST_NAME];
    snprintf(full, sizeof full, "encoder.layers.%zu.%s", layer, name);
    plan(plans, full, rows, columns, mean, (float)deviation);
}

/* Logits of variance about 1 at every node, so that all routes are taken; and layers that add about as much as there
 * is. */
static void plan_layer(struct tensor_plans *plans, const fff_bert_config *config, size_t layer) {
    size_t width = config->hidden_size;
    double by_width = 1 / sqrt((double)width);
    size_t used = config->fast_feedforward ? config->trees * (config->depth + 1) : config->neurons;
    double by_used = 1 / sqrt((double)used);
    plan_in(plans, layer, "norm1.weight", 0, width, 1, 0.1);
    plan_in(plans, layer, "norm1.bias", 0, width, 0, 0.1);
    plan_in(plans, layer, "attn.self_attention.norm_factor", 0, 0,
            (float)(1 / sqrt((double)width / (double)config->heads)), 0);
    plan_in(plans, layer, "attn.self_attention.query_key_value.weight", 3 * width, width, 0, by_width);
    plan_in(plans, layer, "attn.dense.weight", width, width, 0, by_width);
    plan_in(plans, layer, "norm2.weight", 0, width, 1, 0.1);
    plan_in(plans, layer, "norm2.bias", 0, width, 0, 0.1);
    if (config->fast_feedforward) {
        plan_in(plans, layer, "ffn.linear_in.weight", config->neurons, width, 0, by_width);
        plan_in(plans, layer, "ffn.linear_in.bias", 0, config->neurons, 0, 0.05);
        plan_in(plans, layer, "ffn.linear_out.weight", width, config->neurons, 0, by_used);
    } else {
        plan_in(plans, layer, "ffn.dense_in.weight", config->neurons, width, 0, by_width);
        plan_in(plans, layer, "ffn.dense_out.weight", width, config->neurons, 0, by_used);
    }
}

void plan_model(struct tensor_plans *plans, const fff_bert_config *config) {
    size_t width = config->hidden_size;
    float by_width = (float)(1 / sqrt((double)width));
    plan(plans, "encoder.embedding.word_embedding.weight", config->vocabulary, width, 0, by_width);
    plan(plans, "encoder.embedding.pos_embedding.scale_factor", 0, 1, by_width, 0);
    plan(plans, "encoder.embedding.norm.weight", 0, width, 1, 0.1f);
    plan(plans, "encoder.embedding.norm.bias", 0, width, 0, 0.1f);
    for (size_t layer = 0; layer < config->layers; layer++) {
        plan_layer(plans, config, layer);
    }
    plan(plans, "encoder.final_norm.weight", 0, width, 1, 0.1f);
    plan(plans, "encoder.final_norm.bias", 0, width, 0, 0.1f);
    if (config->labels > 0) {
        plan(plans, "pooler.dense.weight", config->head_width, width, 0, by_width);
        plan(plans, "pooler.dense.bias", 0, config->head_width, 0, 0.1f);
        plan(plans, "head.weight", config->labels, config->head_width, 0, by_width);
        plan(plans, "head.bias", 0, config->labels, 0, 0.1f);
    } else if (!config->tied_decoder) {
        plan(plans, "decoder.weight", config->vocabulary, width, 0, by_width);
    }
}
