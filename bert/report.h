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

/* Writes "path: message". What is not printable in it (names come from files) becomes '?'. */
void fff_report(const struct fff_report *report, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same as an expression that is false, for functions that return whether they succeeded. */
#define FFF_FAIL(...) (fff_report(__VA_ARGS__), false)

#endif
