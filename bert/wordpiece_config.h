/* What stands beside a tokenizer.json or vocab.txt: tokenizer_config.json, special_tokens_map.json, added_tokens.json.
 */
#ifndef FFF_BERT_WORDPIECE_CONFIG_H
#define FFF_BERT_WORDPIECE_CONFIG_H

#include "bert/wordpiece_tables.h"

#include <jansson.h>

/* All NULL where nothing is there. */
struct fff_tokenizer_config {
    json_t *config;      /* tokenizer_config.json */
    json_t *special_map; /* special_tokens_map.json */
    json_t *added;       /* added_tokens.json */
};

/* Opens what is in the folder of the report's file, and checks it: false with a message if it cannot be read or asks
 * for what is not supported. fff_tokenizer_config_free() either way. */
bool fff_tokenizer_config_open(struct fff_tokenizer_config *config, const struct fff_report *report);
bool fff_tokenizer_config_check(const struct fff_tokenizer_config *config, const struct fff_report *report);
void fff_tokenizer_config_free(struct fff_tokenizer_config *config);

/* Whether the tokenizer's class normalises by what the config says even if a tokenizer.json says otherwise; `named`:
 * and it says which class that is. */
bool fff_tokenizer_config_is_bert(const struct fff_tokenizer_config *config, bool *named);

/* Which of do_lower_case, strip_accents, tokenize_chinese_chars is said, or NULL. */
const char *fff_tokenizer_config_normalizes(const struct fff_tokenizer_config *config);

/* Sets what is said of these. */
bool fff_tokenizer_config_normalizer(const struct fff_tokenizer_config *config, const struct fff_report *report,
                                     struct fff_bert_normalizer *normalizer);

/* The name of a special token, say "cls_token", or `absent`; NULL if it is said that there is none. */
const char *fff_tokenizer_config_special(const struct fff_tokenizer_config *config, const char *key,
                                         const char *absent);

/* Adds the tokens that have ids; then, after them, the special tokens that are none of those. */
bool fff_tokenizer_config_add_tokens(const struct fff_tokenizer_config *config, const struct fff_report *report,
                                     fff_tokenizer *tokenizer);
bool fff_tokenizer_config_add_specials(const struct fff_tokenizer_config *config, const struct fff_report *report,
                                       fff_tokenizer *tokenizer);

/* The most ids that a text may have; SIZE_MAX unless that is said. */
size_t fff_tokenizer_config_most_ids(const struct fff_tokenizer_config *config);

#endif
