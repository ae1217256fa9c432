/* A tokenizer's tables, and how they are filled: vocabulary, then normalizer, then added tokens. */
#ifndef FFF_BERT_WORDPIECE_TABLES_H
#define FFF_BERT_WORDPIECE_TABLES_H

#include "bert/normalize.h"
#include "bert/wordpiece.h"

enum {
    FFF_TOKENIZER_MAX_STEPS = 64,
    FFF_TOKENIZER_MAX_ID = (1 << 24) - 1,
    FFF_TOKENIZER_MAX_AROUND = 16,
};

enum fff_split { FFF_SPLIT_NONE, FFF_SPLIT_SPACE, FFF_SPLIT_SPACE_AND_PUNCTUATION };

struct fff_piece {
    char *name;
    int32_t id;
    int32_t token; /* index of the added token that it is, too, or -1 */
};

/* How an added token is found in a text. */
struct fff_token_rule {
    bool normalized;       /* in the normalised text, as its own content is once normalised; else in the raw text */
    bool single_word;      /* only between characters that are no word's */
    bool takes_left_space; /* lstrip */
    bool takes_right_space;
};
struct fff_token {
    struct fff_token_rule rule;
    int32_t id;
};

struct fff_tokenizer {
    struct fff_piece **pieces; /* as they came */
    size_t piece_count, piece_capacity;
    void *names, *ids;      /* tsearch()'s trees of the pieces */
    size_t id_count;        /* the largest id and 1: ids may have gaps */
    size_t vocabulary_size; /* how many distinct names it has, without added tokens */
    char *continuing;       /* what stands before a piece inside a word, e.g. "##" */
    size_t longest_word;    /* in characters; longer ones are unknown */
    size_t most_ids;        /* that the model's files allow for a text; SIZE_MAX unless they say */
    int32_t unknown, mask, pad;
    struct fff_matcher first, inside; /* pieces that a word begins with, or goes on with; values are ids */
    bool lower_texts;                 /* before added tokens are looked for */
    struct fff_normalize_step steps[FFF_TOKENIZER_MAX_STEPS];
    size_t step_count;
    enum fff_split split;
    struct fff_token *tokens; /* added ones */
    size_t token_count, token_capacity;
    int32_t next_id;                    /* of an added token that is not in the vocabulary */
    struct fff_matcher raw, normalized; /* added tokens; values are indices of tokens */
    int32_t before[FFF_TOKENIZER_MAX_AROUND], after[FFF_TOKENIZER_MAX_AROUND]; /* the text */
    size_t before_count, after_count;
};

/* Nothing in it yet; NULL when out of memory. fff_tokenizer_close() frees it. */
fff_tokenizer *fff_tokenizer_create(void);

/* A piece of the vocabulary; false with a message if its id or name is taken already, or out of range. */
bool fff_tokenizer_add_piece(fff_tokenizer *tokenizer, const struct fff_report *report, const char *name, long long id);

/* Once all pieces, `continuing` and `longest_word` are there. */
bool fff_tokenizer_end_vocabulary(fff_tokenizer *tokenizer, const struct fff_report *report);

/* A step, for the caller to complete; NULL with a message if there are too many. */
struct fff_normalize_step *fff_tokenizer_add_step(fff_tokenizer *tokenizer, const struct fff_report *report,
                                                  enum fff_normalize_kind kind);

/* What BERT does to a text. */
struct fff_bert_normalizer {
    bool clean, space_chinese, lower;
    bool strip, strip_as_lower; /* the second one: whether the first is to be what `lower` is */
};
bool fff_tokenizer_add_bert_steps(fff_tokenizer *tokenizer, const struct fff_report *report,
                                  const struct fff_bert_normalizer *normalizer);

/* Before a file's added tokens: the next new one gets the first id behind the vocabulary and the tokens so far. */
void fff_tokenizer_begin_tokens(fff_tokenizer *tokenizer);

/* An added token. Its id is the piece's of that name if there is one, else the next; another `id` than that, unless it
 * is negative, is an error. One that is there already gets this rule; one without a name is passed over. */
bool fff_tokenizer_add_token(fff_tokenizer *tokenizer, const struct fff_report *report, const char *name, long long id,
                             struct fff_token_rule rule);

bool fff_tokenizer_has_token(const fff_tokenizer *tokenizer, const char *name); /* is it an added token? */

/* Once everything is there. */
bool fff_tokenizer_end_tokens(fff_tokenizer *tokenizer, const struct fff_report *report);

/* A token before or after each text; it must be in the vocabulary or added. */
bool fff_tokenizer_add_around(fff_tokenizer *tokenizer, const struct fff_report *report, bool before, long long id);

#endif
