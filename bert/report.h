/* One-line error messages about files. */
#ifndef FFF_REPORT_H
#define FFF_REPORT_H

#include <stdbool.h>
#include <stddef.h>

/* Where a message goes, and the file it is about. */
struct fff_report {
    const char *path;
    char *text;
    size_t size; /* of text */
};

/* Writes "path: message", printable as fff_escape() makes it. The message may quote the report's own text. */
void fff_report(const struct fff_report *report, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same as an expression that is false, for functions that return whether they succeeded. */
#define FFF_FAIL(...) (fff_report(__VA_ARGS__), false)

/* Bytes of a file as a terminal may show them, in UTF-8 and with a 0 byte: what is no UTF-8 as \xff, control characters
 * and those that end lines or turn the direction of writing as \x1b or \u202e. What is more than `size` bytes is cut
 * off, at the end of a character. */
void fff_escape(char *text, size_t size, const char *bytes, size_t length);

/* How many of the bytes to show if they are to be `most` at most: no character is cut. For "%.*s". */
int fff_shown(const char *bytes, size_t length, size_t most);

#endif
