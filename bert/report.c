#include "bert/report.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { LONGEST_MESSAGE = 8192 };

/* The well-formed UTF-8 character at `bytes`, and how many bytes it has; 0 if there is none (RFC 3629, section 4). */
static size_t decode(const char *bytes, size_t length, uint32_t *point) {
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *c = (const unsigned char *)bytes;
    size_t count = c[0] < 0x80 ? 1 : c[0] < 0xc0 ? 0 : c[0] < 0xe0 ? 2 : c[0] < 0xf0 ? 3 : c[0] < 0xf8 ? 4 : 0;
    if (count == 0 || count > length) {
        return 0;
    }
    *point = count == 1 ? c[0] : c[0] & (0x7fu >> count);
    for (size_t i = 1; i < count; i++) {
        if ((c[i] & 0xc0) != 0x80) {
            return 0;
        }
        *point = *point << 6 | (c[i] & 0x3fu);
    }
    bool surrogate = *point >= 0xd800 && *point < 0xe000;
    return *point >= smallest[count] && *point <= 0x10ffff && !surrogate ? count : 0;
}

/* What a terminal may obey instead of showing it: controls, ends of lines, and directions of writing. */
static bool is_obeyed(uint32_t c) {
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x61c || c == 0x200e || c == 0x200f ||
           (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

void fff_escape(char *text, size_t size, const char *bytes, size_t length) {
    size_t used = 0;
    for (size_t at = 0; at < length;) {
        uint32_t point = 0;
        size_t count = decode(bytes + at, length - at, &point);
        char escaped[8] = "";
        if (count == 0) {
            snprintf(escaped, sizeof escaped, "\\x%02x", (unsigned)(unsigned char)bytes[at]);
        } else if (is_obeyed(point)) {
            snprintf(escaped, sizeof escaped, point < 0x80 ? "\\x%02x" : "\\u%04x", (unsigned)point);
        }
        size_t needed = escaped[0] != '\0' ? strlen(escaped) : count;
        if (used + needed >= size) {
            break;
        }
        memcpy(text + used, escaped[0] != '\0' ? escaped : bytes + at, needed);
        used += needed;
        at += count > 0 ? count : 1;
    }
    if (size > 0) {
        text[used] = '\0';
    }
}

int fff_shown(const char *bytes, size_t length, size_t most) {
    size_t shown = 0;
    while (shown < length) {
        uint32_t point;
        size_t count = decode(bytes + shown, length - shown, &point);
        count = count > 0 ? count : 1;
        if (shown + count > most) {
            break;
        }
        shown += count;
    }
    return (int)shown;
}

void fff_report(const struct fff_report *report, const char *format, ...) {
    char raw[LONGEST_MESSAGE];
    int path = snprintf(raw, sizeof raw, "%s: ", report->path), message = 0;
    if (path >= 0 && path < LONGEST_MESSAGE) {
        va_list arguments;
        va_start(arguments, format);
        message = vsnprintf(raw + path, sizeof raw - (size_t)path, format, arguments);
        va_end(arguments);
    }
    size_t length = strlen(raw);
    bool cut = path >= LONGEST_MESSAGE || message >= LONGEST_MESSAGE - path;
    for (size_t back = 1; cut && back < 4 && back < length; back++) {
        unsigned char last = (unsigned char)raw[length - back];
        if (last >= 0xc0) { /* a character begins, and may not end */
            length -= back;
            break;
        }
    }
    fff_escape(report->text, report->size, raw, length);
}
