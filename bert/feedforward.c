/* The feedforward half of a layer: by the kernels, or densely with all neurons, masked or not. */
#include "bert/model.h"
#include "bert/product.h"

#include <stdlib.h>
#include <string.h>

static bool by_kernels(const fff_bert *model) {
    return model->layers[0].trees != NULL;
}

static size_t neurons_used(const fff_bert *model) {
    return model->options.neurons != 0 ? model->options.neurons : model->config.neurons;
}

/* What the layer that needs most of it needs: the types of their rows may differ. */
static bool find_workspace_size(const fff_bert *model, size_t tokens, size_t *size) {
    size_t tasks = model->options.runner != NULL ? model->options.runner->concurrency : 1, of_layer;
    *size = 0;
    for (size_t i = 0; i < model->config.layers; i++) {
        if (fff_workspace_size(model->layers[i].trees, tokens, tasks, &of_layer) != FFF_OK) {
            return false;
        }
        *size = of_layer > *size ? of_layer : *size;
    }
    return true;
}

bool fff_bert_scratch_create(const fff_bert *model, size_t tokens, bool routes, struct feedforward_scratch *scratch) {
    *scratch = (struct feedforward_scratch){0};
    size_t path = model->config.trees * (model->config.depth + 1);
    routes = routes && (by_kernels(model) || model->options.feedforward == FFF_BERT_MASKED);
    bool ok = true;
    if (routes) {
        scratch->nodes = calloc(tokens * path, sizeof *scratch->nodes);
        scratch->logits = calloc(tokens * path, sizeof *scratch->logits);
        ok = scratch->nodes != NULL && scratch->logits != NULL;
    }
    if (by_kernels(model)) {
        ok = ok && find_workspace_size(model, tokens, &scratch->workspace_size);
        scratch->workspace = malloc(scratch->workspace_size + 1);
        ok = ok && scratch->workspace != NULL;
    } else {
        scratch->dense = calloc(tokens * neurons_used(model), sizeof *scratch->dense);
        scratch->visited = calloc(neurons_used(model), sizeof *scratch->visited);
        ok = ok && scratch->dense != NULL && scratch->visited != NULL;
    }
    if (!ok) {
        fff_bert_scratch_free(scratch);
    }
    return ok;
}

void fff_bert_scratch_free(struct feedforward_scratch *scratch) {
    free(scratch->dense);
    free(scratch->visited);
    free(scratch->nodes);
    free(scratch->logits);
    free(scratch->workspace);
    *scratch = (struct feedforward_scratch){0};
}

static fff_status run_trees(const fff_bert *model, const fff_layer *trees, size_t tokens, const float *input,
                            float *output, const struct feedforward_scratch *scratch) {
    size_t width = model->config.hidden_size, path = fff_layer_path_length(trees);
    const fff_runner *runner = model->options.runner;
    if (scratch->nodes == NULL) {
        return fff_forward(trees, tokens, input, width, output, width, scratch->workspace, scratch->workspace_size,
                           runner);
    }
    fff_status status = fff_route(trees, tokens, input, width, scratch->nodes, path, scratch->logits, path,
                                  scratch->workspace, scratch->workspace_size, runner);
    if (status != FFF_OK) {
        return status;
    }
    return fff_accumulate(trees, tokens, scratch->nodes, path, scratch->logits, path, output, width, scratch->workspace,
                          scratch->workspace_size, runner);
}

/* One token's way down all trees by its logits: marks the nodes visited, and notes them where routes are wanted. */
static void walk(const fff_bert_config *config, const float *logits, unsigned char *visited, uint32_t *nodes,
                 float *path_logits) {
    size_t levels = config->depth + 1, tree_nodes = fff_nodes_per_tree(config->depth);
    memset(visited, 0, config->neurons);
    for (size_t tree = 0; tree < config->trees; tree++) {
        size_t node = 0;
        for (size_t level = 0; level < levels; level++) {
            size_t row = tree * tree_nodes + node;
            visited[row] = 1;
            if (nodes != NULL && path_logits != NULL) {
                nodes[tree * levels + level] = (uint32_t)node;
                path_logits[tree * levels + level] = logits[row];
            }
            node = 2 * node + 1 + (logits[row] > 0);
        }
    }
}

static fff_status run_dense(const fff_bert *model, const struct bert_layer *layer, size_t tokens, const float *input,
                            float *output, const struct feedforward_scratch *scratch) {
    const fff_bert_config *config = &model->config;
    size_t neurons = neurons_used(model), path = config->trees * (config->depth + 1);
    bool masked = model->options.feedforward == FFF_BERT_MASKED;
    struct linear in = layer->in, out = layer->out;
    in.out = neurons;
    fff_product(tokens, &in, input, scratch->dense);
    unsigned char *visited = scratch->visited;
    fff_status status = FFF_OK;
    if (!masked) {
        status = fff_activate(model->options.isa, config->activation, model->options.sleef, tokens * neurons,
                              scratch->dense, scratch->dense);
    }
    for (size_t token = 0; token < tokens && masked && status == FFF_OK; token++) {
        float *row = scratch->dense + token * neurons;
        walk(config, row, visited, scratch->nodes != NULL ? scratch->nodes + token * path : NULL,
             scratch->logits != NULL ? scratch->logits + token * path : NULL);
        status = fff_activate(model->options.isa, config->activation, model->options.sleef, neurons, row, row);
        for (size_t i = 0; i < neurons; i++) {
            row[i] = visited[i] != 0 ? row[i] : 0;
        }
    }
    if (status == FFF_OK) {
        fff_product_strided(tokens, config->hidden_size, neurons, scratch->dense, neurons, out.weight, out.in, output,
                            config->hidden_size);
    }
    return status;
}

fff_status fff_bert_run_feedforward(const fff_bert *model, size_t layer, size_t tokens, const float *input,
                                    float *output, const struct feedforward_scratch *scratch) {
    const struct bert_layer *of = &model->layers[layer];
    return scratch->dense == NULL ? run_trees(model, of->trees, tokens, input, output, scratch)
                                  : run_dense(model, of, tokens, input, output, scratch);
}

fff_status fff_bert_feedforward_alone(const fff_bert *model, size_t layer, size_t tokens, const float *input,
                                      float *output, uint32_t *nodes, float *logits) {
    struct feedforward_scratch scratch;
    if (!fff_bert_scratch_create(model, tokens, nodes != NULL, &scratch)) {
        return FFF_ERROR_OUT_OF_MEMORY;
    }
    fff_status status = fff_bert_run_feedforward(model, layer, tokens, input, output, &scratch);
    if (status == FFF_OK && nodes != NULL && scratch.nodes != NULL) {
        size_t entries = tokens * model->config.trees * (model->config.depth + 1);
        memcpy(nodes, scratch.nodes, entries * sizeof *nodes);
        memcpy(logits, scratch.logits, entries * sizeof *logits);
    }
    fff_bert_scratch_free(&scratch);
    return status;
}
