/* Hugging Face's tokenizer.json. */
#ifndef FFF_BERT_WORDPIECE_JSON_H
#define FFF_BERT_WORDPIECE_JSON_H

#include "bert/wordpiece_config.h"

/* Fills an empty tokenizer: all but what ends its tokens. */
bool fff_tokenizer_read_json(fff_tokenizer *tokenizer, const struct fff_report *report, const char *bytes,
                             size_t length, const struct fff_tokenizer_config *config);

/* A flag of an object, `absent` where it is not; false with a message if it is something else. */
bool fff_json_flag(const json_t *object, const char *key, bool absent, const struct fff_report *report, bool *flag);

/* The rule of an added token, from its object. */
bool fff_json_token_rule(const json_t *object, bool normalized_if_absent, const struct fff_report *report,
                         struct fff_token_rule *rule);

#endif
