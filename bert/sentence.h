/* What sentence-transformers keeps beside a model: how its hidden states become one embedding.
 *
 * modules.json names the steps: Transformer, Pooling (with a config.json of its own), Normalize. A step or a setting
 * that is not obeyed here is an error which names it. */
#ifndef FFF_BERT_SENTENCE_H
#define FFF_BERT_SENTENCE_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum fff_pooling {
    FFF_POOLING_MEAN = 0, /* of all tokens without padding; also where nothing is said */
    FFF_POOLING_CLS,      /* the first token */
    FFF_POOLING_MAX,      /* of all tokens, element by element */
} fff_pooling;

typedef struct fff_sentence {
    fff_pooling pooling;
    bool normalize;     /* to length 1 */
    size_t text_length; /* tokens that a text is cut to; 0: nothing is said */
    bool lower_case;    /* texts, before they are tokenized */
} fff_sentence;

/* Reads what there is of it in a model's folder (modules.json, the Pooling's config.json, sentence_bert_config.json or
 * what else it may be called, config_sentence_transformers.json), whose hidden states are `hidden_size` wide. False
 * with one line in `error`. */
bool fff_sentence_open(const char *directory, size_t hidden_size, fff_sentence *sentence, char *error,
                       size_t error_size);

/* The single files; `name` stands in messages. modules.json: sets `normalize`, and the folder of the Pooling, which
 * stays inside the model's. */
enum { FFF_LONGEST_FOLDER = 256 };
bool fff_sentence_read_modules(const char *name, const char *json, size_t length, bool *normalize,
                               char folder[FFF_LONGEST_FOLDER], char *error, size_t error_size);
bool fff_sentence_read_pooling(const char *name, const char *json, size_t length, size_t hidden_size,
                               fff_pooling *pooling, char *error, size_t error_size);

#ifdef __cplusplus
}
#endif

#endif
