#include "bert/normalize.h"

#include "bert/characters.h"

#include <stdlib.h>
#include <utf8proc.h>

enum { GROWTH = 64, SMALLEST_LIMIT = 1024, LARGEST_LIMIT = 1 << 24 };

/* ---- Characters kept, added, replaced -------------------------------------------------------- */

static bool keep(enum fff_normalize_kind kind, int32_t c) {
    switch (kind) {
    case FFF_NORMALIZE_CLEAN: return c != 0 && c != 0xfffd && !fff_is_control(c);
    case FFF_NORMALIZE_DROP_NONSPACING: return !fff_is_nonspacing(c);
    default: return !fff_is_mark(c);
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

static void strip_right(struct fff_text *text) {
    while (text->count > 0 && fff_is_space(text->data[text->count - 1])) {
        text->count--;
    }
}

static bool strip_left(const struct fff_text *text, struct fff_text *result) {
    size_t start = 0;
    while (start < text->count && fff_is_space(text->data[start])) {
        start++;
    }
    return fff_text_append_points(result, start > 0 ? text->data + start : text->data, text->count - start);
}

static bool space_ideographs(const struct fff_text *text, struct fff_text *result) {
    for (size_t i = 0; i < text->count; i++) {
        int32_t c = text->data[i];
        bool apart = fff_is_ideograph(c);
        if ((apart && !fff_text_append(result, ' ')) || !fff_text_append(result, c) ||
            (apart && !fff_text_append(result, ' '))) {
            return false;
        }
    }
    return true;
}

/* Of all characters only U+0130 has a full lower case that is not its simple one, and that always: Unicode's
 * SpecialCasing. */
static bool lower(const struct fff_text *text, struct fff_text *result) {
    for (size_t i = 0; i < text->count; i++) {
        int32_t c = text->data[i];
        bool dotted = c == 0x130;
        if (!fff_text_append(result, dotted ? 'i' : utf8proc_tolower(c)) ||
            (dotted && !fff_text_append(result, 0x307))) {
            return false;
        }
    }
    return true;
}

static bool prepend(const struct fff_text *text, const struct fff_normalize_step *step, struct fff_text *result) {
    return text->count == 0 || (fff_text_append_points(result, step->to.data, step->to.count) &&
                                fff_text_append_points(result, text->data, text->count));
}

/* Where the step's pattern is, in an array to free(); and how long the text is afterwards, SIZE_MAX if too long. */
static int32_t *find_replaced(const struct fff_text *text, const struct fff_normalize_step *step, size_t *length) {
    int32_t *found = malloc((text->count + 1) * sizeof *found);
    if (found == NULL) {
        return NULL;
    }
    fff_matcher_run(&step->from, text->data, text->count, found);
    size_t places = 0, replaced = 0;
    for (size_t i = 0; i < text->count;) {
        size_t here = found[i] != FFF_NO_PATTERN ? step->from.patterns[0].count : 0;
        places += here > 0;
        replaced += here;
        i += here > 0 ? here : 1;
    }
    if (step->from.pattern_count == 0) {
        places = text->count > 0 ? text->count + 1 : 0;
    }
    if (__builtin_mul_overflow(places, step->to.count, length) ||
        __builtin_add_overflow(*length, text->count - replaced, length)) {
        *length = SIZE_MAX;
    }
    return found;
}

static bool replace(const struct fff_text *text, const struct fff_normalize_step *step, const int32_t *found,
                    struct fff_text *result) {
    bool everywhere = step->from.pattern_count == 0;
    for (size_t i = 0; i < text->count;) {
        bool here = found[i] != FFF_NO_PATTERN;
        if ((here || everywhere) && !fff_text_append_points(result, step->to.data, step->to.count)) {
            return false;
        }
        if (!here && !fff_text_append(result, text->data[i])) {
            return false;
        }
        i += here ? step->from.patterns[0].count : 1;
    }
    return !everywhere || text->count == 0 || fff_text_append_points(result, step->to.data, step->to.count);
}

/* ---- Unicode's normal forms ------------------------------------------------------------------ */

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
    if (!fff_text_reserve(&sorted, text->count)) {
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

/* ---- Steps ----------------------------------------------------------------------------------- */

/* One step that makes another text of it. */
static bool remake(const struct fff_text *text, const struct fff_normalize_step *step, struct fff_text *result) {
    switch (step->kind) {
    case FFF_NORMALIZE_SPACE_CHINESE: return space_ideographs(text, result);
    case FFF_NORMALIZE_LOWER: return lower(text, result);
    case FFF_NORMALIZE_STRIP_LEFT: return strip_left(text, result);
    default: return normalize_form(text, step->kind, result);
    }
}

static bool too_long(const struct fff_report *report, size_t count, size_t most) {
    return FFF_FAIL(report, "a text of %zu characters becomes longer than the %zu that it may have", count, most);
}

/* `original` is the text's length before the first step, `most` the most that it may become; it is no more now. */
static bool run_step(struct fff_text *text, const struct fff_normalize_step *step, size_t original, size_t most,
                     const struct fff_report *report) {
    struct fff_text result = {0};
    int32_t *found = NULL;
    size_t length = 0;
    bool ok;
    switch (step->kind) {
    case FFF_NORMALIZE_CLEAN:
    case FFF_NORMALIZE_DROP_NONSPACING:
    case FFF_NORMALIZE_DROP_MARKS: filter(text, step->kind); return true;
    case FFF_NORMALIZE_STRIP_RIGHT: strip_right(text); return true;
    case FFF_NORMALIZE_PREPEND:
        if (text->count > 0 && step->to.count > most - text->count) {
            return too_long(report, original, most);
        }
        ok = prepend(text, step, &result);
        break;
    case FFF_NORMALIZE_REPLACE:
        found = find_replaced(text, step, &length);
        if (found != NULL && length > most) {
            free(found);
            return too_long(report, original, most);
        }
        ok = found != NULL && replace(text, step, found, &result);
        break;
    default: ok = remake(text, step, &result);
    }
    free(found);
    if (!ok) {
        fff_text_free(&result);
        return FFF_FAIL(report, "out of memory");
    }
    fff_text_free(text);
    *text = result;
    return text->count <= most || too_long(report, original, most);
}

bool fff_normalize(struct fff_text *text, const struct fff_normalize_step *steps, size_t count,
                   const struct fff_report *report) {
    size_t original = text->count, most = LARGEST_LIMIT;
    if (original <= (LARGEST_LIMIT - SMALLEST_LIMIT) / GROWTH) {
        most = GROWTH * original + SMALLEST_LIMIT;
    } else if (original > LARGEST_LIMIT / 2) {
        most = 2 * original;
    }
    for (size_t i = 0; i < count; i++) {
        if (!run_step(text, &steps[i], original, most, report)) {
            return false;
        }
    }
    return true;
}

void fff_normalize_step_free(struct fff_normalize_step *step) {
    fff_text_free(&step->to);
    fff_matcher_free(&step->from);
}
