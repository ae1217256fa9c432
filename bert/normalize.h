/* Unicode text as WordPiece tokenizers prepare it: code points, normalised step by step. */
#ifndef FFF_BERT_NORMALIZE_H
#define FFF_BERT_NORMALIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Code points; data may be NULL when capacity is 0. */
struct fff_text {
    int32_t *data;
    size_t count, capacity;
};

enum fff_normalize_kind {
    FFF_NORMALIZE_CLEAN,         /* drop 0, U+FFFD and control characters; any white space becomes a space */
    FFF_NORMALIZE_SPACE_CHINESE, /* a space on either side of each ideograph */
    FFF_NORMALIZE_NFC,
    FFF_NORMALIZE_NFD,
    FFF_NORMALIZE_NFKC,
    FFF_NORMALIZE_NFKD,
    FFF_NORMALIZE_DROP_NONSPACING, /* drop marks that take no space: accents, once decomposed */
    FFF_NORMALIZE_DROP_MARKS,      /* drop all combining marks */
    FFF_NORMALIZE_LOWER,           /* each character to lower case */
    FFF_NORMALIZE_REPLACE,         /* each occurrence of `from` by `to` */
};

struct fff_normalize_step {
    enum fff_normalize_kind kind;
    struct fff_text from, to;
};

/* UTF-8 to code points, appended. A byte that is no part of well-formed UTF-8 becomes U+FFFD. False when out of memory,
 * as all of these; the text is still valid then. */
bool fff_text_append_utf8(struct fff_text *text, const char *bytes, size_t length);
bool fff_text_append(struct fff_text *text, int32_t point);
void fff_text_free(struct fff_text *text);

/* Carries one step out. */
bool fff_normalize(struct fff_text *text, const struct fff_normalize_step *step);

bool fff_is_space(int32_t point);       /* Unicode's White_Space */
bool fff_is_punctuation(int32_t point); /* ASCII's, and Unicode's categories P* */
bool fff_is_word(int32_t point);        /* letters, marks, digits and connectors */

#endif
