/* Unicode text as WordPiece tokenizers prepare it: normalised step by step. */
#ifndef FFF_BERT_NORMALIZE_H
#define FFF_BERT_NORMALIZE_H

#include "bert/matcher.h"
#include "bert/report.h"
#include "bert/text.h"

enum fff_normalize_kind {
    FFF_NORMALIZE_CLEAN,         /* drop 0, U+FFFD and control characters; any white space becomes a space */
    FFF_NORMALIZE_SPACE_CHINESE, /* a space on either side of each ideograph */
    FFF_NORMALIZE_NFC,
    FFF_NORMALIZE_NFD,
    FFF_NORMALIZE_NFKC,
    FFF_NORMALIZE_NFKD,
    FFF_NORMALIZE_DROP_NONSPACING, /* drop marks that take no space: accents, once decomposed */
    FFF_NORMALIZE_DROP_MARKS,      /* drop all combining marks */
    FFF_NORMALIZE_LOWER,           /* each character to lower case by its full mapping, whatever stands around it */
    FFF_NORMALIZE_STRIP_LEFT,      /* drop white space at the beginning */
    FFF_NORMALIZE_STRIP_RIGHT,     /* and at the end */
    FFF_NORMALIZE_PREPEND,         /* `to` before a text that is not empty */
    FFF_NORMALIZE_REPLACE,         /* each occurrence of `from` by `to`; an empty `from` occurs around each character */
};

struct fff_normalize_step {
    enum fff_normalize_kind kind;
    struct fff_text to;
    struct fff_matcher from; /* of one pattern, or of none that is empty */
};

/* Carries the steps out, in their order. A text of n characters may become 64 n + 1024, or 2^24 if that is less, or 2 n
 * if that is more: what would be longer is refused before it is made. False with a message. */
bool fff_normalize(struct fff_text *text, const struct fff_normalize_step *steps, size_t count,
                   const struct fff_report *report);

void fff_normalize_step_free(struct fff_normalize_step *step);

#endif
