/* WordPiece tokenizers: text in, ids out, as the models' own files say.
 *
 * Reads Hugging Face's tokenizer.json (model WordPiece; normalizers BertNormalizer, NFC, NFD, NFKC, NFKD, Lowercase,
 * StripAccents, Strip, Prepend, Replace of a string, and sequences of them; pre-tokenizers BertPreTokenizer and
 * WhitespaceSplit; post-processors TemplateProcessing and BertProcessing; added tokens) and BERT's vocab.txt, a piece a
 * line, which means lower case without accents and `[CLS] text [SEP]` unless tokenizer_config.json says otherwise.
 * Anything else in a file is an error that names it. */
#ifndef FFF_BERT_WORDPIECE_H
#define FFF_BERT_WORDPIECE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fff_tokenizer fff_tokenizer; /* not changed by use: any number of threads may use one */

/* A tokenizer.json or vocab.txt, and tokenizer_config.json, special_tokens_map.json and added_tokens.json in its folder
 * as far as they are there. NULL with one line in `error`. */
fff_tokenizer *fff_tokenizer_open(const char *path, char *error, size_t error_size);

/* A file's bytes alone. `name` stands in messages. */
fff_tokenizer *fff_tokenizer_read(const char *name, const char *bytes, size_t length, char *error, size_t error_size);
void fff_tokenizer_close(fff_tokenizer *tokenizer);

/* From now on each text becomes lower case before all else, special tokens in it too: what older versions
 * of sentence-transformers do where a model's do_lower_case is true. To be called before the tokenizer is shared among
 * threads. */
void fff_tokenizer_lower_texts(fff_tokenizer *tokenizer);

/* From now on the length that the tokenizer's own files allow for a text does not count: sentence-transformers has the
 * model's max_seq_length in its place. To be called before the tokenizer is shared among threads. */
void fff_tokenizer_any_length(fff_tokenizer *tokenizer);

/* *ids, to free(), becomes the ids of a text in UTF-8 with the special tokens around it; at most max_ids, nor more than
 * the model's files allow: what the text has too many is cut from its end. Bytes that are no UTF-8 count as U+FFFD.
 * False with one line in `error` when out of memory, or when normalising makes the text too long: more than 64 times
 * its characters and 1024, or than 2^24. */
bool fff_tokenizer_try_encode(const fff_tokenizer *tokenizer, const char *text, size_t length, size_t max_ids,
                              int32_t **ids, size_t *count, char *error, size_t error_size);

/* The same without the line. */
bool fff_tokenizer_encode(const fff_tokenizer *tokenizer, const char *text, size_t length, size_t max_ids,
                          int32_t **ids, size_t *count);

size_t fff_tokenizer_vocabulary(const fff_tokenizer *tokenizer);             /* the largest id, plus 1 */
const char *fff_tokenizer_piece(const fff_tokenizer *tokenizer, int32_t id); /* NULL: none has that id */
int32_t fff_tokenizer_id(const fff_tokenizer *tokenizer, const char *piece); /* -1: no such piece */
int32_t fff_tokenizer_mask(const fff_tokenizer *tokenizer);                  /* of [MASK] or <mask>, or -1 */
int32_t fff_tokenizer_pad(const fff_tokenizer *tokenizer);                   /* of [PAD] or <pad>, or 0 */

#ifdef __cplusplus
}
#endif

#endif
