/* Kinds of characters, as WordPiece tokenizers tell them apart. */
#ifndef FFF_BERT_CHARACTERS_H
#define FFF_BERT_CHARACTERS_H

#include <stdbool.h>
#include <stdint.h>

bool fff_is_space(int32_t point);       /* Unicode's White_Space */
bool fff_is_punctuation(int32_t point); /* ASCII's, and Unicode's categories P* */
bool fff_is_word(int32_t point);        /* \w of regular expressions: UTS 18, annex C */
bool fff_is_control(int32_t point);     /* control, format, private use; but for tab, line feed, carriage return */
bool fff_is_ideograph(int32_t point);   /* CJK, by BERT's own list of blocks: no kana, no Hangul */
bool fff_is_mark(int32_t point);        /* categories M* */
bool fff_is_nonspacing(int32_t point);  /* category Mn */

#endif
