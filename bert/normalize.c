#include "bert/normalize.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

static const int32_t REPLACEMENT = 0xfffd;

/* ---- Text ------------------------------------------------------------------------------------ */

static bool reserve(struct fff_text *text, size_t count) {
    if (count <= text->capacity) {
        return true;
    }
    size_t capacity = text->capacity + text->capacity / 2;
    capacity = capacity > count ? capacity : count + 16;
    if (capacity < count || capacity > SIZE_MAX / sizeof *text->data) {
        return false;
    }
    int32_t *data = realloc(text->data, capacity * sizeof *data);
    if (data != NULL) {
        text->data = data;
        text->capacity = capacity;
    }
    return data != NULL;
}

bool fff_text_append(struct fff_text *text, int32_t point) {
    if (!reserve(text, text->count + 1)) {
        return false;
    }
    text->data[text->count++] = point;
    return true;
}

bool fff_text_append_utf8(struct fff_text *text, const char *bytes, size_t length) {
    for (size_t at = 0; at < length;) {
        utf8proc_int32_t point = REPLACEMENT;
        size_t left = length - at < 4 ? length - at : 4;
        utf8proc_ssize_t used = utf8proc_iterate((const utf8proc_uint8_t *)bytes + at, (utf8proc_ssize_t)left, &point);
        if (!fff_text_append(text, used > 0 ? point : REPLACEMENT)) {
            return false;
        }
        at += used > 0 ? (size_t)used : 1;
    }
    return true;
}

void fff_text_free(struct fff_text *text) {
    free(text->data);
    *text = (struct fff_text){0};
}

/* ---- Kinds of characters --------------------------------------------------------------------- */

bool fff_is_space(int32_t c) {
    return (c >= 0x09 && c <= 0x0d) || c == ' ' || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool fff_is_punctuation(int32_t c) {
    if (c < 0x80) {
        return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
    }
    utf8proc_category_t category = utf8proc_category(c);
    return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

bool fff_is_word(int32_t c) {
    utf8proc_category_t category = utf8proc_category(c);
    return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_ND) || category == UTF8PROC_CATEGORY_PC;
}

/* Control, format, private use: what BERT's clean-up drops, but for the white space among it. */
static bool is_control(int32_t c) {
    utf8proc_category_t category = utf8proc_category(c);
    return c != '\t' && c != '\n' && c != '\r' &&
           (category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CF || category == UTF8PROC_CATEGORY_CO ||
            category == UTF8PROC_CATEGORY_CS);
}

/* Blocks of CJK ideographs, as BERT's own list has them: no kana, no Hangul. */
static bool is_ideograph(int32_t c) {
    static const int32_t blocks[][2] = {{0x4e00, 0x9fff},   {0x3400, 0x4dbf},   {0x20000, 0x2a6df}, {0x2a700, 0x2b73f},
                                        {0x2b740, 0x2b81f}, {0x2b920, 0x2ceaf}, {0xf900, 0xfaff},   {0x2f800, 0x2fa1f}};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        if (c >= blocks[i][0] && c <= blocks[i][1]) {
            return true;
        }
    }
    return false;
}

/* ---- Steps ----------------------------------------------------------------------------------- */

static bool keep(enum fff_normalize_kind kind, int32_t c) {
    utf8proc_category_t category = utf8proc_category(c);
    switch (kind) {
    case FFF_NORMALIZE_CLEAN: return c != 0 && c != REPLACEMENT && !is_control(c);
    case FFF_NORMALIZE_DROP_NONSPACING: return category != UTF8PROC_CATEGORY_MN;
    default: return category < UTF8PROC_CATEGORY_MN || category > UTF8PROC_CATEGORY_ME;
    }
}

/* Keeps some characters, in place. */
static void filter(struct fff_text *text, enum fff_normalize_kind kind) {
    size_t kept = 0;
    for (size_t i = 0; i < text->count; i++) {
        int32_t c = text->data[i];
        if (keep(kind, c)) {
            text->data[kept++] = kind == FFF_NORMALIZE_CLEAN && fff_is_space(c) ? ' ' : c;
        }
    }
    text->count = kept;
}

static bool space_ideographs(const struct fff_text *text, struct fff_text *result) {
    for (size_t i = 0; i < text->count; i++) {
        int32_t c = text->data[i];
        bool apart = is_ideograph(c);
        if ((apart && !fff_text_append(result, ' ')) || !fff_text_append(result, c) ||
            (apart && !fff_text_append(result, ' '))) {
            return false;
        }
    }
    return true;
}

static bool replace(const struct fff_text *text, const struct fff_normalize_step *step, struct fff_text *result) {
    size_t length = step->from.count;
    for (size_t i = 0; i < text->count;) {
        bool here = length > 0 && text->count - i >= length &&
                    memcmp(text->data + i, step->from.data, length * sizeof *text->data) == 0;
        for (size_t j = 0; here && j < step->to.count; j++) {
            if (!fff_text_append(result, step->to.data[j])) {
                return false;
            }
        }
        if (!here && !fff_text_append(result, text->data[i])) {
            return false;
        }
        i += here ? length : 1;
    }
    return true;
}

/* Characters with marks into characters and marks, these in canonical order. */
static bool decompose(const struct fff_text *text, bool compatibly, struct fff_text *result) {
    const utf8proc_option_t options =
        (utf8proc_option_t)((unsigned)UTF8PROC_DECOMPOSE | (compatibly ? (unsigned)UTF8PROC_COMPAT : 0u));
    for (size_t i = 0; i < text->count; i++) {
        utf8proc_int32_t parts[32]; /* no character has more than 18 */
        int boundary = 0;
        utf8proc_ssize_t count = utf8proc_decompose_char(text->data[i], parts, 32, options, &boundary);
        if (count < 0 || count > 32) {
            count = 1; /* not a character: as it is */
            parts[0] = text->data[i];
        }
        for (utf8proc_ssize_t j = 0; j < count; j++) {
            if (!fff_text_append(result, parts[j])) {
                return false;
            }
        }
    }
    return true;
}

static int combining_class(int32_t c) {
    return utf8proc_get_property(c)->combining_class;
}

/* Runs of marks sorted by class, stably, as Unicode's canonical ordering asks. */
static bool order_marks(struct fff_text *text) {
    struct fff_text sorted = {0};
    if (!reserve(&sorted, text->count)) {
        return false;
    }
    for (size_t i = 0; i < text->count;) {
        size_t end = i;
        unsigned char present[256] = {0};
        while (end < text->count && combining_class(text->data[end]) != 0) {
            present[combining_class(text->data[end++]) & 0xff] = 1;
        }
        for (int wanted = 1; wanted < 256 && end > i + 1; wanted++) {
            for (size_t j = i; present[wanted] != 0 && j < end; j++) {
                if (combining_class(text->data[j]) == wanted) {
                    sorted.data[sorted.count++] = text->data[j];
                }
            }
        }
        if (end <= i + 1) {
            sorted.data[sorted.count++] = text->data[i];
            end = i + 1;
        }
        i = end;
    }
    free(text->data);
    *text = sorted;
    return true;
}

static bool normalize_form(const struct fff_text *text, enum fff_normalize_kind kind, struct fff_text *result) {
    bool compatibly = kind == FFF_NORMALIZE_NFKC || kind == FFF_NORMALIZE_NFKD;
    if (!decompose(text, compatibly, result) || !order_marks(result)) {
        return false;
    }
    if (kind == FFF_NORMALIZE_NFC || kind == FFF_NORMALIZE_NFKC) {
        utf8proc_ssize_t count =
            utf8proc_normalize_utf32(result->data, (utf8proc_ssize_t)result->count, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
        result->count = count >= 0 ? (size_t)count : result->count;
    }
    return true;
}

bool fff_normalize(struct fff_text *text, const struct fff_normalize_step *step) {
    struct fff_text result = {0};
    bool ok = false;
    switch (step->kind) {
    case FFF_NORMALIZE_CLEAN:
    case FFF_NORMALIZE_DROP_NONSPACING:
    case FFF_NORMALIZE_DROP_MARKS: filter(text, step->kind); return true;
    case FFF_NORMALIZE_LOWER:
        for (size_t i = 0; i < text->count; i++) {
            text->data[i] = utf8proc_tolower(text->data[i]);
        }
        return true;
    case FFF_NORMALIZE_SPACE_CHINESE: ok = space_ideographs(text, &result); break;
    case FFF_NORMALIZE_REPLACE: ok = replace(text, step, &result); break;
    case FFF_NORMALIZE_NFC:
    case FFF_NORMALIZE_NFD:
    case FFF_NORMALIZE_NFKC:
    case FFF_NORMALIZE_NFKD: ok = normalize_form(text, step->kind, &result); break;
    }
    if (!ok) {
        fff_text_free(&result);
        return false;
    }
    fff_text_free(text);
    *text = result;
    return true;
}
