#include "tools/models/make_checkpoint.h"

#include "bert/config.h"
#include "tools/commands.h"
#include "tools/random.h"

#include <errno.h>
#include <fff/fff.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LONGEST_NAME = 128, LONGEST_PATH = 4096, VALUES_AT_ONCE = 1 << 16, HEADER_ALIGNMENT = 8 };

/* A tensor to write: its values are mean + deviation * a normal number. */
struct plan {
    char name[LONGEST_NAME];
    size_t rank, shape[2], count;
    float mean, deviation;
    bool bf16;
};

struct plans {
    struct plan *plans;
    size_t count, capacity;
    bool bf16; /* the matrices */
    bool failed;
};

static bool complain(const char *what, const char *path) {
    fprintf(stderr, "fff make-checkpoint: %s: %s\n", path, what);
    return false;
}

/* ---- The configuration ----------------------------------------------------------------------- */

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

/* ---- The tensors ----------------------------------------------------------------------------- */

/* rows 0: a vector of `columns`; columns 0 too: a single number. */
static void plan(struct plans *plans, const char *name, size_t rows, size_t columns, float mean, float deviation) {
    if (plans->count == plans->capacity) {
        size_t capacity = plans->capacity * 2 + 64;
        struct plan *more = realloc(plans->plans, capacity * sizeof *more);
        plans->failed = plans->failed || more == NULL;
        if (more == NULL) {
            return;
        }
        plans->plans = more;
        plans->capacity = capacity;
    }
    size_t rank = columns == 0 ? 0 : rows == 0 ? 1 : 2;
    struct plan *new = &plans->plans[plans->count++];
    *new = (struct plan){.rank = rank,
                         .shape = {rank == 2 ? rows : columns, columns},
                         .mean = mean,
                         .deviation = deviation,
                         .bf16 = rank == 2 && plans->bf16};
    snprintf(new->name, sizeof new->name, "%s", name);
    plans->failed =
        plans->failed || __builtin_mul_overflow(rows > 0 ? rows : 1, columns > 0 ? columns : 1, &new->count);
}

static void plan_in(struct plans *plans, size_t layer, const char *name, size_t rows, size_t columns, float mean,
                    double deviation) {
    char full[LONGEST_NAME];
    snprintf(full, sizeof full, "encoder.layers.%zu.%s", layer, name);
    plan(plans, full, rows, columns, mean, (float)deviation);
}

/* Logits of variance about 1 at every node, so that all routes are taken; and layers that add about as much as there
 * is. */
static void plan_layer(struct plans *plans, const fff_bert_config *config, size_t layer) {
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

static void plan_model(struct plans *plans, const fff_bert_config *config) {
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

/* ---- Writing --------------------------------------------------------------------------------- */

static size_t element_bytes(const struct plan *tensor) {
    return tensor->bf16 ? sizeof(uint16_t) : sizeof(float);
}

/* The header's text, to free(), padded so that the data are aligned; NULL when out of memory or if the sizes
 * overflow. */
static char *make_header(const struct plans *plans, size_t *length) {
    json_t *header = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    size_t offset = 0;
    bool ok = header != NULL;
    for (size_t i = 0; i < plans->count && ok; i++) {
        const struct plan *tensor = &plans->plans[i];
        size_t bytes, end;
        ok = !__builtin_mul_overflow(tensor->count, element_bytes(tensor), &bytes) &&
             !__builtin_add_overflow(offset, bytes, &end) && end <= (size_t)INT64_MAX;
        json_t *shape = json_array();
        for (size_t j = 0; j < tensor->rank && ok; j++) {
            json_array_append_new(shape, json_integer((json_int_t)tensor->shape[j]));
        }
        json_object_set_new(header, tensor->name,
                            json_pack("{s:s, s:o, s:[I,I]}", "dtype", tensor->bf16 ? "BF16" : "F32", "shape", shape,
                                      "data_offsets", (json_int_t)offset, (json_int_t)(ok ? end : 0)));
        offset = ok ? end : 0;
    }
    char *text = ok ? json_dumps(header, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;
    json_decref(header);
    if (text == NULL) {
        return NULL;
    }
    size_t used = strlen(text);
    *length = (used + HEADER_ALIGNMENT - 1) / HEADER_ALIGNMENT * HEADER_ALIGNMENT;
    char *padded = realloc(text, *length + 1);
    if (padded == NULL) {
        free(text);
        return NULL;
    }
    memset(padded + used, ' ', *length - used);
    return padded;
}

/* Finite float32 numbers become bfloat16 ones in their place: to nearest, ties to even. */
static void round_to_bf16(float *values, size_t count) {
    unsigned char *to = (unsigned char *)values;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        uint16_t half = (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
        memcpy(to + i * sizeof half, &half, sizeof half);
    }
}

static bool write_tensor(FILE *stream, const struct plan *tensor, float *values, uint64_t *state) {
    for (size_t done = 0; done < tensor->count;) {
        size_t count = tensor->count - done < VALUES_AT_ONCE ? tensor->count - done : VALUES_AT_ONCE;
        for (size_t i = 0; i < count; i++) {
            values[i] = tensor->mean + tensor->deviation * random_normal(state);
        }
        if (tensor->bf16) {
            round_to_bf16(values, count);
        }
        if (fwrite(values, element_bytes(tensor), count, stream) != count) {
            return false;
        }
        done += count;
    }
    return true;
}

static bool write_tensors(FILE *stream, const struct plans *plans, uint64_t seed) {
    size_t length = 0;
    char *header = make_header(plans, &length);
    float *values = malloc(VALUES_AT_ONCE * sizeof *values);
    unsigned char prefix[8];
    for (size_t i = 0; i < sizeof prefix; i++) {
        prefix[i] = (unsigned char)(length >> 8 * i);
    }
    errno = ENOMEM;
    bool ok = header != NULL && values != NULL && fwrite(prefix, sizeof prefix, 1, stream) == 1 &&
              fwrite(header, length, 1, stream) == 1;
    for (size_t i = 0; i < plans->count && ok; i++) {
        ok = write_tensor(stream, &plans->plans[i], values, &seed);
    }
    free(header);
    free(values);
    return ok;
}

/* One file, written beside its name and moved there when whole. */
static bool write_file(const char *directory, const char *name, const char *config, const struct plans *plans,
                       uint64_t seed) {
    char path[LONGEST_PATH], temporary[LONGEST_PATH + 16];
    int length = snprintf(path, sizeof path, "%s/%s", directory, name);
    if (length < 0 || (size_t)length >= sizeof path) {
        return complain("the path is too long", directory);
    }
    snprintf(temporary, sizeof temporary, "%s.unfinished", path);
    FILE *stream = fopen(temporary, "wbx");
    if (stream == NULL) {
        return complain(strerror(errno), temporary);
    }
    bool ok = config != NULL ? fprintf(stream, "%s\n", config) > 0 : write_tensors(stream, plans, seed);
    int why = errno;
    if (fclose(stream) != 0 && ok) {
        ok = false;
        why = errno;
    }
    /* link() and not rename(), which would overwrite. */
    if (ok && link(temporary, path) != 0) {
        ok = false;
        why = errno;
    }
    (void)unlink(temporary);
    return ok || complain(strerror(why), path);
}

static bool exists(const char *directory, const char *name) {
    char path[LONGEST_PATH];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return access(path, F_OK) == 0 && !complain("exists already; nothing is overwritten", path);
}

static bool write_model(const char *directory, const struct checkpoint_sizes *sizes, const char *config_text,
                        const fff_bert_config *config) {
    if (mkdir(directory, 0777) != 0 && errno != EEXIST) {
        return complain(strerror(errno), directory);
    }
    if (exists(directory, "config.json") || exists(directory, "model.safetensors")) {
        return false;
    }
    struct plans plans = {.bf16 = sizes->bf16};
    plan_model(&plans, config);
    bool ok = !plans.failed || complain("out of memory, or a tensor is too large", directory);
    ok = ok && write_file(directory, "model.safetensors", NULL, &plans, sizes->seed) &&
         write_file(directory, "config.json", config_text, NULL, 0);
    free(plans.plans);
    return ok;
}

bool make_checkpoint(const char *directory, const struct checkpoint_sizes *sizes) {
    json_t *json = make_config(sizes);
    char *text = json != NULL ? json_dumps(json, JSON_INDENT(2) | JSON_PRESERVE_ORDER) : NULL;
    json_decref(json);
    fff_bert_config config;
    char error[256];
    bool ok = text != NULL || complain("out of memory", directory);
    /* Whatever the reader refuses is not written. */
    if (ok && !fff_bert_config_read("configuration", text, strlen(text), &config, error, sizeof error)) {
        fprintf(stderr, "fff make-checkpoint: %s\n", error);
        ok = false;
    }
    ok = ok && write_model(directory, sizes, text, &config);
    free(text);
    return ok;
}

/* ---- The command ----------------------------------------------------------------------------- */

#define SIZE(member) .type = OPTION_NUMBER, .argument = "N", .offset = offsetof(struct checkpoint_sizes, member)

static const struct command_option options[] = {
    {.name = "layers", SIZE(layers), .text = "Encoder layers; 16 unless told."},
    {.name = "hidden", SIZE(hidden), .text = "The model's width; 768 unless told."},
    {.name = "heads", SIZE(heads), .text = "Attention heads, which divide the width; 12 unless told."},
    {.name = "trees", SIZE(trees), .text = "Trees of a feedforward layer; 1 unless told."},
    {.name = "depth", SIZE(depth), .text = "Their depth; 11 unless told. 0: every node is a root."},
    {.name = "dense", SIZE(dense), .text = "Dense feedforward layers of N neurons in place of trees."},
    {.name = "vocab", SIZE(vocabulary), .text = "Size of the vocabulary; 32768 unless told."},
    {.name = "max-length", SIZE(max_length), .text = "Tokens of the longest sequence; 128 unless told."},
    {.name = "labels", SIZE(labels), .text = "A classifier of N labels in place of a masked-word model."},
    {.name = "seed",
     SIZE(seed),
     .text = "Of the random weights; 1 unless told. A seed makes the same files everywhere."},
    {.name = "untied",
     .offset = offsetof(struct checkpoint_sizes, untied),
     .text = "Give the decoder weights of its own, in place of the embedding's."},
    {.name = "bf16",
     .offset = offsetof(struct checkpoint_sizes, bf16),
     .text = "Write matrices as bfloat16, rounded from the numbers that they have without it."},
    {0},
};

static int run(int argc, char **argv) {
    struct checkpoint_sizes sizes = CHECKPOINT_DEFAULTS;
    struct operands operands;
    int status;
    if (!read_options(&make_checkpoint_command, argc, argv, &sizes, &operands, &status)) {
        return status;
    }
    return make_checkpoint(operands.values[0], &sizes) ? EXIT_HOLDS : EXIT_BAD_INPUT;
}

const struct command make_checkpoint_command = {
    .name = "make-checkpoint",
    .operands = "DIRECTORY",
    .least_operands = 1,
    .most_operands = 1,
    .summary = "write a seeded model of any size",
    .text =
        "Writes a seeded model in the published format, config.json and model.safetensors, into a directory, which "
        "is made if need be. Its shape is UltraFastBERT-1x11's unless options say otherwise. Nothing is overwritten.",
    .options = options,
    .run = run,
};
