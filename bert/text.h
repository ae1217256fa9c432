/* Text as code points. */
#ifndef FFF_BERT_TEXT_H
#define FFF_BERT_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* data may be NULL when capacity is 0. */
struct fff_text {
    int32_t *data;
    size_t count, capacity;
};

/* False when out of memory, as all of these; the text is still valid then. */
bool fff_text_reserve(struct fff_text *text, size_t count);
bool fff_text_append(struct fff_text *text, int32_t point);
bool fff_text_append_points(struct fff_text *text, const int32_t *points, size_t count);
/* A byte that is no part of well-formed UTF-8 becomes U+FFFD. */
bool fff_text_append_utf8(struct fff_text *text, const char *bytes, size_t length);
void fff_text_free(struct fff_text *text);

#endif
