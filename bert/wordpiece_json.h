/* Hugging Face's tokenizer.json. */
#ifndef FFF_BERT_WORDPIECE_JSON_H
#define FFF_BERT_WORDPIECE_JSON_H

#include "bert/wordpiece_config.h"
#include "bert/wordpiece_fields.h"

/* Fills an empty tokenizer: all but what ends its tokens. */
bool fff_tokenizer_read_json(fff_tokenizer *tokenizer, const struct fff_report *report, const char *bytes,
                             size_t length, const struct fff_tokenizer_config *config);

/* ---- For the readers of its parts ---- */

struct fff_json_reading {
    fff_tokenizer *tokenizer;
    const struct fff_report *report;
    const struct fff_tokenizer_config *config;
};

/* An object's type, or "". */
const char *fff_json_type(const json_t *object);

/* Whether it is an object with these keys only, of which the last one is NULL: what a key that is not known means, no
 * one knows. */
bool fff_json_has_only(const struct fff_json_reading *reading, const char *what, json_t *object,
                       const char *const *keys);
#define FFF_JSON_KEYS(...) ((const char *const[]){__VA_ARGS__, NULL})

bool fff_json_read_normalizer(const struct fff_json_reading *reading, json_t *object);

#endif
