/* Tables of pieces, and the way from text to ids. */
#include "bert/wordpiece.h"

#include "bert/file.h"
#include "bert/wordpiece_tables.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum { LARGEST_FILE = 1 << 28 };

/* ---- Tables ---------------------------------------------------------------------------------- */

/* FNV-1a (Fowler, Noll and Vo), continued from `hash`. */
static uint64_t hash_bytes(uint64_t hash, const char *bytes, size_t length) {
    for (size_t i = 0; i < length; i++) {
        hash = (hash ^ (unsigned char)bytes[i]) * 0x100000001b3u;
    }
    return hash;
}
static const uint64_t HASH_START = 0xcbf29ce484222325u;

int32_t fff_tokenizer_find(const fff_tokenizer *tokenizer, const char *bytes, size_t length) {
    for (size_t at = hash_bytes(HASH_START, bytes, length);; at++) {
        uint32_t entry = tokenizer->slots[at & tokenizer->slot_mask];
        if (entry == 0) {
            return -1;
        }
        const char *piece = tokenizer->pieces[entry - 1];
        if (strlen(piece) == length && memcmp(piece, bytes, length) == 0) { /* 0 bytes may be among the bytes */
            return (int32_t)(entry - 1);
        }
    }
}

bool fff_tokenizer_add(fff_tokenizer *tokenizer, const struct fff_report *report, const char *piece, long long id) {
    if (id < 0 || id > FFF_TOKENIZER_MAX_ID) {
        return FFF_FAIL(report, "piece '%s' has no id from 0 to %d", piece, FFF_TOKENIZER_MAX_ID);
    }
    if ((size_t)id >= tokenizer->piece_count) {
        size_t count = (size_t)id + 1 > 2 * tokenizer->piece_count ? (size_t)id + 1 : 2 * tokenizer->piece_count;
        char **pieces = realloc(tokenizer->pieces, count * sizeof *pieces);
        if (pieces == NULL) {
            return FFF_FAIL(report, "out of memory");
        }
        memset(pieces + tokenizer->piece_count, 0, (count - tokenizer->piece_count) * sizeof *pieces);
        tokenizer->pieces = pieces;
        tokenizer->piece_count = count;
    }
    if (tokenizer->pieces[id] != NULL) {
        return FFF_FAIL(report, "pieces '%s' and '%s' both have id %lld", tokenizer->pieces[id], piece, id);
    }
    size_t length = strlen(piece);
    tokenizer->longest_piece = length > tokenizer->longest_piece ? length : tokenizer->longest_piece;
    tokenizer->pieces[id] = strdup(piece);
    return tokenizer->pieces[id] != NULL || FFF_FAIL(report, "out of memory");
}

bool fff_tokenizer_index(fff_tokenizer *tokenizer, const struct fff_report *report) {
    while (tokenizer->piece_count > 0 && tokenizer->pieces[tokenizer->piece_count - 1] == NULL) {
        tokenizer->piece_count--;
    }
    size_t slots = 16;
    while (slots < 2 * tokenizer->piece_count) {
        slots *= 2;
    }
    tokenizer->slots = calloc(slots, sizeof *tokenizer->slots);
    if (tokenizer->slots == NULL) {
        return FFF_FAIL(report, "out of memory");
    }
    tokenizer->slot_mask = slots - 1;
    for (size_t id = 0; id < tokenizer->piece_count; id++) {
        const char *piece = tokenizer->pieces[id];
        if (piece == NULL) {
            continue;
        }
        int32_t other = fff_tokenizer_find(tokenizer, piece, strlen(piece));
        if (other >= 0) {
            return FFF_FAIL(report, "piece '%s' has the ids %d and %zu", piece, other, id);
        }
        size_t at = hash_bytes(HASH_START, piece, strlen(piece));
        while (tokenizer->slots[at & tokenizer->slot_mask] != 0) {
            at++;
        }
        tokenizer->slots[at & tokenizer->slot_mask] = (uint32_t)id + 1;
    }
    return true;
}

/* ---- vocab.txt ------------------------------------------------------------------------------- */

static bool add_special(fff_tokenizer *tokenizer, const struct fff_report *report, const char *name) {
    int32_t id = fff_tokenizer_id(tokenizer, name);
    struct fff_special *special = &tokenizer->specials[tokenizer->special_count];
    if (id < 0) {
        return FFF_FAIL(report, "piece '%s' is missing", name);
    }
    tokenizer->special_count++;
    special->id = id;
    return fff_text_append_utf8(&special->content, name, strlen(name)) || FFF_FAIL(report, "out of memory");
}

static bool add_lines(fff_tokenizer *tokenizer, const struct fff_report *report, char *content, size_t length) {
    long long id = 0;
    for (char *line = content, *end = content + length; line < end; id++) {
        char *line_end = memchr(line, '\n', (size_t)(end - line));
        line_end = line_end != NULL ? line_end : end;
        char *next = line_end + 1;
        if (line_end > line && line_end[-1] == '\r') {
            line_end--;
        }
        *line_end = '\0';
        if (strlen(line) != (size_t)(line_end - line)) {
            return FFF_FAIL(report, "line %lld holds a 0 byte", id + 1);
        }
        if (!fff_tokenizer_add(tokenizer, report, line, id)) {
            return false;
        }
        line = next;
    }
    return true;
}

/* What BERT's uncased models do; the file says nothing of it. */
static bool read_vocabulary(fff_tokenizer *tokenizer, const struct fff_report *report, const char *bytes,
                            size_t length) {
    static const char *const specials[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
    static const enum fff_normalize_kind steps[] = {FFF_NORMALIZE_CLEAN, FFF_NORMALIZE_SPACE_CHINESE, FFF_NORMALIZE_NFD,
                                                    FFF_NORMALIZE_DROP_NONSPACING, FFF_NORMALIZE_LOWER};
    char *content = malloc(length + 1);
    if (content == NULL) {
        return FFF_FAIL(report, "out of memory");
    }
    memcpy(content, bytes, length);
    bool ok = add_lines(tokenizer, report, content, length) && fff_tokenizer_index(tokenizer, report);
    free(content);
    tokenizer->continuing = strdup("##");
    tokenizer->specials = calloc(sizeof specials / sizeof *specials, sizeof *tokenizer->specials);
    if (ok && (tokenizer->continuing == NULL || tokenizer->specials == NULL)) {
        return FFF_FAIL(report, "out of memory");
    }
    for (size_t i = 0; i < sizeof specials / sizeof *specials && ok; i++) {
        ok = add_special(tokenizer, report, specials[i]);
    }
    if (!ok) {
        return false;
    }
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        tokenizer->steps[tokenizer->step_count++].kind = steps[i];
    }
    tokenizer->unknown = fff_tokenizer_id(tokenizer, "[UNK]");
    tokenizer->longest_word = 100;
    tokenizer->split = FFF_SPLIT_SPACE_AND_PUNCTUATION;
    tokenizer->before[tokenizer->before_count++] = fff_tokenizer_id(tokenizer, "[CLS]");
    tokenizer->after[tokenizer->after_count++] = fff_tokenizer_id(tokenizer, "[SEP]");
    return true;
}

/* ---- Opening --------------------------------------------------------------------------------- */

fff_tokenizer *fff_tokenizer_read(const char *name, const char *bytes, size_t length, char *error, size_t error_size) {
    const struct fff_report report = {name, error, error_size};
    fff_tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    if (tokenizer == NULL) {
        fff_report(&report, "out of memory");
        return NULL;
    }
    bool json = length > 0 && bytes[0] == '{';
    if (!(json ? fff_tokenizer_read_json(tokenizer, &report, bytes, length)
               : read_vocabulary(tokenizer, &report, bytes, length))) {
        fff_tokenizer_close(tokenizer);
        return NULL;
    }
    return tokenizer;
}

fff_tokenizer *fff_tokenizer_open(const char *path, char *error, size_t error_size) {
    const struct fff_report report = {path, error, error_size};
    size_t length = 0;
    char *content = fff_read_file(&report, LARGEST_FILE, &length);
    fff_tokenizer *tokenizer = content != NULL ? fff_tokenizer_read(path, content, length, error, error_size) : NULL;
    free(content);
    return tokenizer;
}

void fff_tokenizer_close(fff_tokenizer *tokenizer) {
    if (tokenizer == NULL) {
        return;
    }
    for (size_t i = 0; i < tokenizer->piece_count && tokenizer->pieces != NULL; i++) {
        free(tokenizer->pieces[i]);
    }
    for (size_t i = 0; i < tokenizer->special_count; i++) {
        fff_text_free(&tokenizer->specials[i].content);
    }
    for (size_t i = 0; i < tokenizer->step_count; i++) {
        fff_text_free(&tokenizer->steps[i].from);
        fff_text_free(&tokenizer->steps[i].to);
    }
    free(tokenizer->pieces);
    free(tokenizer->slots);
    free(tokenizer->continuing);
    free(tokenizer->specials);
    free(tokenizer);
}

size_t fff_tokenizer_vocabulary(const fff_tokenizer *tokenizer) {
    return tokenizer->piece_count;
}

const char *fff_tokenizer_piece(const fff_tokenizer *tokenizer, int32_t id) {
    return id >= 0 && (size_t)id < tokenizer->piece_count ? tokenizer->pieces[id] : NULL;
}

int32_t fff_tokenizer_id(const fff_tokenizer *tokenizer, const char *piece) {
    return fff_tokenizer_find(tokenizer, piece, strlen(piece));
}

int32_t fff_tokenizer_mask(const fff_tokenizer *tokenizer) {
    int32_t id = fff_tokenizer_id(tokenizer, "[MASK]");
    return id >= 0 ? id : fff_tokenizer_id(tokenizer, "<mask>");
}

int32_t fff_tokenizer_pad(const fff_tokenizer *tokenizer) {
    int32_t id = fff_tokenizer_id(tokenizer, "[PAD]");
    id = id >= 0 ? id : fff_tokenizer_id(tokenizer, "<pad>");
    return id >= 0 ? id : 0;
}

/* ---- Encoding -------------------------------------------------------------------------------- */

/* Ids as they come, at most `most`. */
struct encoding {
    const fff_tokenizer *tokenizer;
    int32_t *ids;
    size_t count, capacity, most;
    char *word; /* UTF-8 of the word at hand */
    size_t word_capacity;
};

static bool is_full(const struct encoding *encoding) {
    return encoding->count >= encoding->most;
}

static bool emit(struct encoding *encoding, int32_t id) {
    if (is_full(encoding)) {
        return true;
    }
    if (encoding->count == encoding->capacity) {
        size_t capacity = encoding->capacity * 2 + 32;
        int32_t *ids = realloc(encoding->ids, capacity * sizeof *ids);
        if (ids == NULL) {
            return false;
        }
        encoding->ids = ids;
        encoding->capacity = capacity;
    }
    encoding->ids[encoding->count++] = id;
    return true;
}

/* The longest piece that begins at `start` of the word's `length` bytes; *end is where it ends. The prefix stands in
 * the bytes just before `start` meanwhile. -1 if there is none. */
static int32_t longest_piece(const struct encoding *encoding, char *word, size_t start, size_t length, size_t *end) {
    const fff_tokenizer *tokenizer = encoding->tokenizer;
    size_t prefix = start > 0 ? strlen(tokenizer->continuing) : 0;
    char saved[FFF_TOKENIZER_MAX_PREFIX];
    if (prefix >= tokenizer->longest_piece) {
        return -1; /* no piece can have it */
    }
    char *from = word + start - prefix;
    memcpy(saved, from, prefix);
    memcpy(from, tokenizer->continuing, prefix);
    size_t longest = tokenizer->longest_piece - prefix;
    int32_t id = -1;
    for (*end = length - start > longest ? start + longest : length; *end > start && id < 0;) {
        bool inside = *end < length && ((unsigned char)word[*end] & 0xc0) == 0x80; /* a character */
        id = inside ? -1 : fff_tokenizer_find(tokenizer, from, *end - start + prefix);
        *end -= id < 0;
    }
    memcpy(from, saved, prefix);
    return id;
}

/* One word, piece after piece; unknown as a whole if that comes to no end. */
static bool encode_word(struct encoding *encoding, const int32_t *points, size_t count) {
    const fff_tokenizer *tokenizer = encoding->tokenizer;
    if (count > tokenizer->longest_word) {
        return emit(encoding, tokenizer->unknown);
    }
    size_t prefix = strlen(tokenizer->continuing), needed = prefix + 4 * count + 1;
    if (needed > encoding->word_capacity) {
        char *more = realloc(encoding->word, needed);
        if (more == NULL) {
            return false;
        }
        encoding->word = more;
        encoding->word_capacity = needed;
    }
    char *word = encoding->word + prefix; /* room for the prefix before the first character */
    size_t length = 0, first = encoding->count;
    for (size_t i = 0; i < count; i++) {
        length += (size_t)utf8proc_encode_char(points[i], (utf8proc_uint8_t *)word + length);
    }
    for (size_t start = 0, end = 0; start < length; start = end) {
        int32_t id = longest_piece(encoding, word, start, length, &end);
        if (id < 0) {
            encoding->count = first;
            return emit(encoding, tokenizer->unknown);
        }
        if (!emit(encoding, id)) {
            return false;
        }
    }
    return true;
}

/* Normalised text, word after word. */
static bool encode_words(struct encoding *encoding, const struct fff_text *text) {
    enum fff_split split = encoding->tokenizer->split;
    for (size_t start = 0; start < text->count && !is_full(encoding);) {
        size_t end = start;
        while (end < text->count && (split == FFF_SPLIT_NONE || !fff_is_space(text->data[end])) &&
               (split != FFF_SPLIT_SPACE_AND_PUNCTUATION || !fff_is_punctuation(text->data[end]))) {
            end++;
        }
        if (end > start && !encode_word(encoding, text->data + start, end - start)) {
            return false;
        }
        if (end < text->count && !fff_is_space(text->data[end]) &&
            !encode_word(encoding, text->data + end, 1)) { /* punctuation is a word of its own */
            return false;
        }
        start = end + 1;
    }
    return true;
}

/* Raw text between special tokens. */
static bool encode_between(struct encoding *encoding, const int32_t *points, size_t count) {
    struct fff_text text = {0};
    bool ok = true;
    for (size_t i = 0; i < count && ok; i++) {
        ok = fff_text_append(&text, points[i]);
    }
    for (size_t i = 0; i < encoding->tokenizer->step_count && ok; i++) {
        ok = fff_normalize(&text, &encoding->tokenizer->steps[i]);
    }
    ok = ok && encode_words(encoding, &text);
    fff_text_free(&text);
    return ok;
}

static const struct fff_special *special_at(const fff_tokenizer *tokenizer, const struct fff_text *text, size_t at) {
    for (size_t i = 0; i < tokenizer->special_count; i++) {
        const struct fff_special *special = &tokenizer->specials[i];
        size_t length = special->content.count, end = at + length;
        if (length > text->count - at ||
            memcmp(text->data + at, special->content.data, length * sizeof *text->data) != 0) {
            continue;
        }
        bool alone =
            (at == 0 || !fff_is_word(text->data[at - 1])) && (end == text->count || !fff_is_word(text->data[end]));
        if (!special->single_word || alone) {
            return special;
        }
    }
    return NULL;
}

static bool encode_text(struct encoding *encoding, const struct fff_text *text) {
    size_t start = 0;
    for (size_t at = 0; at < text->count && !is_full(encoding);) {
        const struct fff_special *special = special_at(encoding->tokenizer, text, at);
        if (special == NULL) {
            at++;
            continue;
        }
        size_t before = at, after = at + special->content.count;
        while (special->takes_left_space && before > start && fff_is_space(text->data[before - 1])) {
            before--;
        }
        while (special->takes_right_space && after < text->count && fff_is_space(text->data[after])) {
            after++;
        }
        if (!encode_between(encoding, text->data + start, before - start) || !emit(encoding, special->id)) {
            return false;
        }
        start = at = after;
    }
    return is_full(encoding) || start == text->count ||
           encode_between(encoding, text->data + start, text->count - start);
}

bool fff_tokenizer_encode(const fff_tokenizer *tokenizer, const char *text, size_t length, size_t max_ids,
                          int32_t **ids, size_t *count) {
    size_t around = tokenizer->before_count + tokenizer->after_count;
    struct encoding encoding = {.tokenizer = tokenizer, .most = max_ids > around ? max_ids - around : 0};
    struct fff_text points = {0};
    encoding.most += tokenizer->before_count;
    bool ok = fff_text_append_utf8(&points, text, length);
    for (size_t i = 0; i < tokenizer->before_count && ok; i++) {
        ok = emit(&encoding, tokenizer->before[i]);
    }
    ok = ok && encode_text(&encoding, &points);
    encoding.most += tokenizer->after_count;
    for (size_t i = 0; i < tokenizer->after_count && ok; i++) {
        ok = emit(&encoding, tokenizer->after[i]);
    }
    fff_text_free(&points);
    free(encoding.word);
    if (!ok) {
        free(encoding.ids);
        return false;
    }
    *ids = encoding.ids;
    *count = encoding.count < max_ids ? encoding.count : max_ids;
    return true;
}
