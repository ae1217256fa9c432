#include "tools/arguments.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

bool read_size(const char *what, const char *text, size_t *size) {
    char *end = NULL;
    errno = 0;
    unsigned long long value = text != NULL ? strtoull(text, &end, 10) : 0;
    if (text == NULL || *text < '0' || *text > '9' || *end != '\0' || errno != 0) {
        fprintf(stderr, "%s: '%s' is no whole number\n", what, text != NULL ? text : "");
        return false;
    }
    *size = (size_t)value;
    return true;
}
