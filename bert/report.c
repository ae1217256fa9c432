#include "bert/report.h"

#include <stdarg.h>
#include <stdio.h>

void fff_report(const struct fff_report *report, const char *format, ...) {
    int used = snprintf(report->text, report->size, "%s: ", report->path);
    if (used >= 0 && (size_t)used < report->size) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(report->text + used, report->size - (size_t)used, format, arguments);
        va_end(arguments);
    }
    for (char *c = report->text; report->size > 0 && *c != '\0'; c++) {
        if ((unsigned char)*c < ' ' || *c == 0x7f) {
            *c = '?';
        }
    }
}
