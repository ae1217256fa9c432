/* A tokenizer's tables, as reading and encoding share them. */
#ifndef FFF_BERT_WORDPIECE_TABLES_H
#define FFF_BERT_WORDPIECE_TABLES_H

#include "bert/normalize.h"
#include "bert/report.h"
#include "bert/wordpiece.h"

enum {
    FFF_TOKENIZER_MAX_STEPS = 32,
    FFF_TOKENIZER_MAX_SPECIAL = 1 << 12,
    FFF_TOKENIZER_MAX_ID = (1 << 24) - 1,
    FFF_TOKENIZER_MAX_AROUND = 16,
    FFF_TOKENIZER_MAX_PREFIX = 64,
};

enum fff_split { FFF_SPLIT_NONE, FFF_SPLIT_SPACE, FFF_SPLIT_SPACE_AND_PUNCTUATION };

/* A token that is found in the raw text, before it is normalised. */
struct fff_special {
    struct fff_text content;
    int32_t id;
    bool single_word; /* only between characters that are no word's */
    bool takes_left_space, takes_right_space;
};

struct fff_tokenizer {
    char **pieces; /* by id; NULL where there is none */
    size_t piece_count;
    uint32_t *slots; /* open addressing: id + 1, or 0 */
    size_t slot_mask;
    size_t longest_piece; /* in bytes */
    char *continuing;     /* what stands before a piece inside a word, e.g. "##" */
    size_t longest_word;  /* in characters; longer ones are unknown */
    int32_t unknown;
    struct fff_normalize_step steps[FFF_TOKENIZER_MAX_STEPS];
    size_t step_count;
    enum fff_split split;
    struct fff_special *specials; /* longest first */
    size_t special_count;
    int32_t before[FFF_TOKENIZER_MAX_AROUND], after[FFF_TOKENIZER_MAX_AROUND]; /* the text */
    size_t before_count, after_count;
};

/* The piece of these bytes, or -1. */
int32_t fff_tokenizer_find(const fff_tokenizer *tokenizer, const char *bytes, size_t length);

/* Adds a piece; false with a message if its id or name is taken already, or out of range. */
bool fff_tokenizer_add(fff_tokenizer *tokenizer, const struct fff_report *report, const char *piece, long long id);

/* Makes the slots, once all pieces are there. */
bool fff_tokenizer_index(fff_tokenizer *tokenizer, const struct fff_report *report);

/* Fills an empty tokenizer from a file's JSON. */
bool fff_tokenizer_read_json(fff_tokenizer *tokenizer, const struct fff_report *report, const char *bytes,
                             size_t length);

#endif
