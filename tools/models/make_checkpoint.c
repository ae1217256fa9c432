#include "tools/models/make_checkpoint.h"

#include "tools/models/checkpoint_file.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LONGEST_PATH = 4096 };

/* In the published file's names, with the settings that its forward pass reads. */
static json_t *make_config(const struct checkpoint_sizes *sizes) {
    json_t *labels = sizes->labels > 0 ? json_integer((json_int_t)sizes->labels) : json_null();
    json_t *embedding =
        json_pack("{s:I, s:s, s:I, s:I, s:b, s:b}", "vocab_size", (json_int_t)sizes->vocabulary, "pos_embedding",
                  "scaled-sinusoidal", "max_seq_length", (json_int_t)sizes->max_length, "embedding_dim",
                  (json_int_t)sizes->hidden, "normalization", 1, "stable_low_precision", 0);
    json_t *attention = json_pack("{s:s, s:b, s:I, s:b, s:b, s:b, s:s}", "type", "self-attention", "causal_attention",
                                  0, "num_attention_heads", (json_int_t)sizes->heads, "skip_output_projection", 0,
                                  "qkv_bias", 0, "rotary_embedding", 0, "sequence_op", "torch-softmax");
    json_t *head = json_pack("{s:s, s:b, s:I, s:s}", "pooler", "avg", "include_ff_layer", 1, "head_dim",
                             2 * (json_int_t)sizes->hidden, "nonlin", "Tanh");
    bool dense = sizes->dense > 0;
    json_t *arch = json_pack(
        "{s:I, s:I, s:s, s:I, s:I, s:s, s:f, s:s, s:s, s:b, s:b, s:b, s:b, s:b, s:I}", "num_transformer_layers",
        (json_int_t)sizes->layers, "hidden_size", (json_int_t)sizes->hidden, "intermed_type", dense ? "ff" : "fff",
        "intermed_size", (json_int_t)(dense ? sizes->dense : sizes->trees), "intermed_depth",
        (json_int_t)(dense ? 0 : sizes->depth), "norm", "LayerNorm", "norm_eps", 1e-12, "norm_scheme", "pre", "nonlin",
        "GELU", "tie_weights", !sizes->untied, "decoder_bias", 0, "use_bias", 0, "final_norm", 1, "skip_head_transform",
        1, "ffn_layer_frequency", (json_int_t)1);
    if (arch != NULL) {
        json_object_set_new(arch, "num_labels", labels);
        json_object_set_new(arch, "embedding", embedding);
        json_object_set_new(arch, "attention", attention);
        json_object_set_new(arch, "classification_head", head);
    }
    return json_pack("{s:s, s:o}", "model_type", "crammedBERT", "arch", arch);
}

static bool exists(const char *directory, const char *name) {
    char path[LONGEST_PATH];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return access(path, F_OK) == 0 && !checkpoint_complain("exists already; nothing is overwritten", path);
}

static bool write_model(const char *directory, const struct checkpoint_sizes *sizes, const char *config_text,
                        const fff_bert_config *config) {
    if (mkdir(directory, 0777) != 0 && errno != EEXIST) {
        return checkpoint_complain(strerror(errno), directory);
    }
    if (exists(directory, "config.json") || exists(directory, "model.safetensors")) {
        return false;
    }
    struct tensor_plans plans = {.bf16 = sizes->bf16};
    plan_model(&plans, config);
    bool ok = !plans.failed || checkpoint_complain("out of memory, or a tensor is too large", directory);
    ok = ok && write_checkpoint_file(directory, "model.safetensors", NULL, &plans, sizes->seed) &&
         write_checkpoint_file(directory, "config.json", config_text, NULL, 0);
    free(plans.plans);
    return ok;
}

bool make_checkpoint(const char *directory, const struct checkpoint_sizes *sizes) {
    json_t *json = make_config(sizes);
    char *text = json != NULL ? json_dumps(json, JSON_INDENT(2) | JSON_PRESERVE_ORDER) : NULL;
    json_decref(json);
    fff_bert_config config;
    char error[256];
    bool ok = text != NULL || checkpoint_complain("out of memory", directory);
    /* Whatever the reader refuses is not written. */
    if (ok && !fff_bert_config_read("configuration", text, strlen(text), &config, error, sizeof error)) {
        fprintf(stderr, "fff make-checkpoint: %s\n", error);
        ok = false;
    }
    ok = ok && write_model(directory, sizes, text, &config);
    free(text);
    return ok;
}
