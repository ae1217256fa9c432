/* Small JSON files, and their values in messages. */
#ifndef FFF_BERT_JSON_FILE_H
#define FFF_BERT_JSON_FILE_H

#include "bert/report.h"

#include <jansson.h>

/* A whole text as JSON, to json_decref(); NULL with a message that says where it is wrong, or what it is instead. */
json_t *fff_json_read(const struct fff_report *report, const char *text, size_t length);

/* A value as a message shows it, cut where it is long; "nothing" for NULL. */
void fff_json_describe(const json_t *value, char *text, size_t size);

#endif
