#include "bert/characters.h"

#include <stddef.h>
#include <utf8proc.h>

struct range {
    int32_t first, last;
};

static bool is_among(int32_t c, const struct range *ranges, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (c >= ranges[i].first && c <= ranges[i].last) {
            return true;
        }
    }
    return false;
}

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

/* Alphabetic, marks, decimal digits, connectors, joiners. Alphabetic is the letters, the letter numbers, some marks,
 * and four blocks of circled and squared letters. */
bool fff_is_word(int32_t c) {
    static const struct range others[] = {
        {0x200c, 0x200d}, {0x24b6, 0x24e9}, {0x1f130, 0x1f149}, {0x1f150, 0x1f169}, {0x1f170, 0x1f189}};
    utf8proc_category_t category = utf8proc_category(c);
    return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NL) || category == UTF8PROC_CATEGORY_PC ||
           is_among(c, others, sizeof others / sizeof *others);
}

bool fff_is_control(int32_t c) {
    utf8proc_category_t category = utf8proc_category(c);
    return c != '\t' && c != '\n' && c != '\r' &&
           (category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CF || category == UTF8PROC_CATEGORY_CO ||
            category == UTF8PROC_CATEGORY_CS);
}

bool fff_is_ideograph(int32_t c) {
    static const struct range blocks[] = {{0x4e00, 0x9fff},   {0x3400, 0x4dbf},   {0x20000, 0x2a6df},
                                          {0x2a700, 0x2b73f}, {0x2b740, 0x2b81f}, {0x2b920, 0x2ceaf},
                                          {0xf900, 0xfaff},   {0x2f800, 0x2fa1f}};
    return is_among(c, blocks, sizeof blocks / sizeof *blocks);
}

bool fff_is_mark(int32_t c) {
    utf8proc_category_t category = utf8proc_category(c);
    return category >= UTF8PROC_CATEGORY_MN && category <= UTF8PROC_CATEGORY_ME;
}

bool fff_is_nonspacing(int32_t c) {
    return utf8proc_category(c) == UTF8PROC_CATEGORY_MN;
}
