/* What a model is made of, read from its config.json.
 *
 * Two families are known: the crammed BERT of UltraFastBERT (arXiv 2311.10770, repository
 * pbelcak/UltraFastBERT), whose settings are an `arch` object, nested or the file's own; and Hugging
 * Face's BERT ("model_type": "bert"). A setting that is known to change the results, and that the forward
 * pass does not obey, is an error that names it. */
#ifndef FFF_BERT_CONFIG_H
#define FFF_BERT_CONFIG_H

#include <fff/fff.h>
#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum fff_bert_family {
    FFF_BERT_CRAMMED,   /* norm before each half of a layer, no biases, scaled sinusoidal positions */
    FFF_BERT_POST_NORM, /* norm after it, biases, learned positions, token types */
} fff_bert_family;

typedef struct fff_bert_config {
    fff_bert_family family;
    size_t layers;
    size_t hidden_size; /* a multiple of heads */
    size_t heads;
    size_t vocabulary;
    size_t max_length;     /* of a sequence */
    size_t text_length;    /* tokens that a text is cut to: max_length, or less (bert/sentence.h) */
    bool own_text_length;  /* text_length was said for the model, and the tokenizer's does not count (likewise) */
    bool lower_case;       /* of texts, before they are tokenized (bert/sentence.h) */
    size_t token_types;    /* post-norm only */
    double norm_eps;       /* added to variances */
    bool fast_feedforward; /* or else a dense layer, which is also `neurons` trees of depth 0 */
    size_t trees, depth;
    size_t neurons; /* of all trees together */
    fff_activation activation;
    bool tied_decoder; /* the decoder may be absent, being the word embedding */
    size_t labels;     /* crammed: of the classifier head; 0: a masked-LM model */
    size_t head_width; /* of the classifier's pooler */
} fff_bert_config;

/* Reads a configuration. `name` stands in messages. False with one line in `error`, naming the setting
 * and its value, and *config untouched. */
bool fff_bert_config_read(const char *name, const char *json, size_t length, fff_bert_config *config, char *error,
                          size_t error_size);
bool fff_bert_config_open(const char *path, fff_bert_config *config, char *error, size_t error_size);

#ifdef __cplusplus
}
#endif

#endif
