/* An open model, as loading and forward pass share it. */
#ifndef FFF_BERT_MODEL_H
#define FFF_BERT_MODEL_H

#include "bert/bert.h"
#include "bert/checkpoint.h"
#include "bert/report.h"
#include "bert/sentence.h"

/* y = x W' + b */
struct linear {
    const float *weight; /* out x in */
    const float *bias;   /* out, or NULL */
    size_t in, out;
    const fff_tensor *stored; /* the weight */
};

/* A feedforward's weight matrix as layers are made of it: in the type that the file has it in. */
struct given {
    fff_weight_type type;
    const void *data;    /* aligned for its type; in the file's mapping where it is aligned there */
    const float *scales; /* of int8: one a neuron */
};

struct norm {
    const float *weight, *bias; /* hidden_size */
};

/* A transformer's layer. */
struct bert_layer {
    struct norm norm1, norm2;
    struct linear projections[3]; /* query, key and value; or all three in the first, head by head */
    float score_scale;
    struct linear attention_out;
    /* Of the feedforward: neurons x hidden_size, hidden_size x neurons. Their float32 weights are NULL where the
     * kernels compute it and the file has another type. */
    struct linear in, out;
    struct given given_in, given_out;
    fff_layer *trees; /* where the kernels compute it; without the bias of `out` */
};

struct fff_bert {
    fff_bert_config config;
    fff_bert_options options;
    fff_sentence sentence;
    fff_checkpoint checkpoint;
    const float *word_embedding;     /* vocabulary x hidden_size */
    const float *position_embedding; /* max_length x hidden_size, scaled */
    const float *token_embedding;    /* of token type 0, or NULL */
    struct norm embedding_norm;
    struct norm final_norm; /* crammed only */
    struct bert_layer *layers;
    /* Of a masked-LM model: first, in the post-norm family, norm(activation(transform)). */
    struct linear transform;
    struct norm transform_norm;
    struct linear decoder; /* vocabulary x hidden_size; its weight is NULL if the model is none */
    struct linear pooler, head;
    void **owned; /* what is not in the files' mappings */
    size_t owned_count;
};

/* Whether feedforward layers are computed by the kernels, in the way that the options ask for. */
bool fff_bert_by_kernels(const fff_bert *model);

/* Whether a batch can be run: lengths and ids. */
bool fff_bert_check_batch(const fff_bert *model, const fff_bert_batch *batch, const struct fff_report *report);

/* The feedforward of some tokens, as the options say; workspace from fff_bert_feedforward_scratch(). */
struct feedforward_scratch {
    float *dense; /* tokens x neurons, for the dense ways */
    unsigned char *visited;
    uint32_t *nodes; /* tokens x path length, where routes are wanted */
    float *logits;
    void *workspace; /* of the kernels */
    size_t workspace_size;
};
bool fff_bert_scratch_create(const fff_bert *model, size_t tokens, bool routes, struct feedforward_scratch *scratch);
void fff_bert_scratch_free(struct feedforward_scratch *scratch);
fff_status fff_bert_run_feedforward(const fff_bert *model, size_t layer, size_t tokens, const float *input,
                                    float *output, const struct feedforward_scratch *scratch);

#endif
