/* Fields of JSON objects that the files of a tokenizer share. */
#ifndef FFF_BERT_WORDPIECE_FIELDS_H
#define FFF_BERT_WORDPIECE_FIELDS_H

#include "bert/wordpiece_tables.h"

#include <jansson.h>

/* A flag of an object, `absent` where it is not; false with a message if it is something else. */
bool fff_json_flag(const json_t *object, const char *key, bool absent, const struct fff_report *report, bool *flag);

/* The rule of an added token, from its object. */
bool fff_json_token_rule(const json_t *object, bool normalized_if_absent, const struct fff_report *report,
                         struct fff_token_rule *rule);

#endif
