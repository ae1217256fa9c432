#include "tools/progress.h"

#include "tools/machine/timing.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define OFTEN 0.1 /* seconds between two lines: a terminal takes time, too */

static bool shown;
static double last;

/* Columns of the terminal that can erase a line; 0: there is none. */
static size_t columns(void) {
    const char *kind = getenv("TERM");
    struct winsize size;
    if (!isatty(STDERR_FILENO) || kind == NULL || strcmp(kind, "dumb") == 0) {
        return 0;
    }
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

void show_progress(const char *format, ...) {
    char line[200];
    size_t width = columns();
    if (width < 2 || (shown && seconds_now() - last < OFTEN)) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (length < 0) {
        return;
    }
    width = width - 1 < sizeof line - 1 ? width - 1 : sizeof line - 1; /* a line that wraps cannot be erased */
    line[(size_t)length < width ? (size_t)length : width] = '\0';
    fflush(stdout);
    fprintf(stderr, "\r\033[K%s", line);
    fflush(stderr);
    shown = true;
    last = seconds_now();
}

void end_progress(void) {
    if (shown) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
        shown = false;
    }
}
