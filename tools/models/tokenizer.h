/* A model's tokenizer. */
#ifndef FFF_TOOLS_MODELS_TOKENIZER_H
#define FFF_TOOLS_MODELS_TOKENIZER_H

#include "bert/config.h"
#include "bert/wordpiece.h"

/* The tokenizer.json, or else the vocab.txt, of a model's directory, made to do with texts what the configuration says
 * of them. NULL with one line in `error`. */
fff_tokenizer *model_tokenizer(const char *directory, const fff_bert_config *config, char *error, size_t error_size);

#endif
