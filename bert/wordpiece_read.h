/* A tokenizer from what its files hold. */
#ifndef FFF_BERT_WORDPIECE_READ_H
#define FFF_BERT_WORDPIECE_READ_H

#include "bert/wordpiece_config.h"

/* Of a tokenizer.json's or vocab.txt's bytes, and a checked config; NULL with a message. */
fff_tokenizer *fff_tokenizer_read_with(const struct fff_report *report, const char *bytes, size_t length,
                                       const struct fff_tokenizer_config *config);

#endif
