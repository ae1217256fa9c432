/* The minimal BERT: whole models with fast feedforward layers, run by the library's kernels or densely.
 *
 * It is here to show that an FFF layer computes what the dense definition says, in a model and end to
 * end, and how much of a model's time it saves. It reads the published format (bert/config.h), and
 * computes in float32: projections and attention through CBLAS, exp and tanh through SLEEF, FFF layers
 * through include/fff/fff.h. docs/bert.md gives the formulas.
 *
 * A model is immutable once open; any number of threads may run it at the same time. Matrices are
 * row-major without gaps. Functions that can fail return false with one line in `error`.
 */
#ifndef FFF_BERT_H
#define FFF_BERT_H

#include "bert/config.h"

#include <fff/fff.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How feedforward layers are computed. */
typedef enum fff_bert_feedforward {
    FFF_BERT_AS_STORED = 0, /* trees by the kernels, dense layers by CBLAS */
    FFF_BERT_TREES,         /* by the kernels: a dense layer of n neurons is n trees of depth 0 */
    FFF_BERT_MASKED,        /* all neurons of all trees by CBLAS; those off the path set to 0 */
    FFF_BERT_DENSE,         /* all neurons by CBLAS, none masked: what a dense layer of that size costs */
} fff_bert_feedforward;

typedef struct fff_bert_options {
    fff_isa isa;
    fff_bert_feedforward feedforward;
    fff_sleef sleef; /* of activations that use it; bert/ takes any for its own exp and tanh */
    size_t neurons;  /* FFF_BERT_DENSE: of the first so many only; 0: of all */
    /* What the kernels' layers store of their weights, as fff_layer_desc has it; the default: what the file has, with
     * float64 as float32. */
    fff_weight_choice store_input, store_output;
    fff_routes routes;
    const fff_runner *runner; /* for the kernels, or NULL; must outlive the model. CBLAS has its own threads. */
} fff_bert_options;

typedef struct fff_bert fff_bert;

/* Opens a directory: config.json or model_config.json; model.safetensors, or the index of several; and what
 * sentence-transformers keeps beside them (bert/sentence.h). Weights stay in the files' mappings, except those that the
 * kernels use, which are packed. Nothing is allocated before the shapes of all tensors are found right. `options` may
 * be NULL. NULL on failure. */
fff_bert *fff_bert_open(const char *directory, const fff_bert_options *options, char *error, size_t error_size);
void fff_bert_close(fff_bert *model);

const fff_bert_config *fff_bert_configuration(const fff_bert *model);
/* Bytes of the model files; and that the packed feedforward layers hold. */
size_t fff_bert_file_size(const fff_bert *model);
size_t fff_bert_packed_size(const fff_bert *model);
/* What a layer's feedforward is made of: a description for fff_layer_create() whose views point into the
 * model. */
fff_layer_desc fff_bert_layer_desc(const fff_bert *model, size_t layer);

/* Sequences of the same length, padded at their ends. */
typedef struct fff_bert_batch {
    size_t sequences, length;
    const int32_t *ids; /* sequences x length */
    const float *mask;  /* likewise: 1 for a token, 0 for padding; NULL: all tokens */
} fff_bert_batch;

/* What a feedforward layer was given and returned, for those who look on. */
typedef struct fff_bert_seen {
    size_t layer, first_token, tokens; /* tokens first_token... of the batch */
    const float *input, *output;       /* tokens x hidden_size; before any bias of the output */
    const uint32_t
        *nodes; /* tokens x path length, as fff_route() has it, or NULL: not asked for, or no way with routes */
    const float *logits; /* likewise */
} fff_bert_seen;

enum { FFF_BERT_PROJECTIONS, FFF_BERT_ATTENTION, FFF_BERT_FEEDFORWARD, FFF_BERT_REST, FFF_BERT_PARTS };

typedef struct fff_bert_watch {
    void (*feedforward)(void *context, const fff_bert_seen *seen); /* or NULL */
    void *context;
    bool routes;                    /* whether nodes and logits are wanted */
    double seconds[FFF_BERT_PARTS]; /* added to */
} fff_bert_watch;

/* hidden (sequences x length x hidden_size) = the encoder's output, after the last norm. `watch` may be NULL. On
 * failure hidden is undefined. */
bool fff_bert_encode(const fff_bert *model, const fff_bert_batch *batch, float *hidden, fff_bert_watch *watch,
                     char *error, size_t error_size);

/* One layer's feedforward alone, as the model computes it: output (tokens x hidden_size), without the bias of the
 * output; and the routes if nodes and logits are not NULL and the model's way (FFF_BERT_TREES, FFF_BERT_MASKED) has
 * any. */
fff_status fff_bert_feedforward_alone(const fff_bert *model, size_t layer, size_t tokens, const float *input,
                                      float *output, uint32_t *nodes, float *logits);

/* Whether it is a masked-LM model. */
bool fff_bert_predicts_words(const fff_bert *model);

/* logits (tokens x vocabulary) of hidden states (tokens x hidden_size), for a masked-LM model. False if the model is
 * none, or when out of memory. */
bool fff_bert_decode(const fff_bert *model, size_t tokens, const float *hidden, float *logits);

/* logits (sequences x labels) of hidden states (sequences x length x hidden_size), for a classifier. False if the
 * model is none, or when out of memory. */
bool fff_bert_classify(const fff_bert *model, size_t sequences, size_t length, const float *hidden, float *logits);

/* embeddings (sequences x hidden_size) = the hidden states of each sequence's tokens pooled as the model's own files
 * say, else their mean. */
void fff_bert_pool(const fff_bert *model, const fff_bert_batch *batch, const float *hidden, float *embeddings);

#ifdef __cplusplus
}
#endif

#endif
