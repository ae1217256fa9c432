/* Reading the values of options. */
#ifndef FFF_TOOLS_ARGUMENTS_H
#define FFF_TOOLS_ARGUMENTS_H

#include <stdbool.h>
#include <stddef.h>

/* A whole number of decimal digits. False, with a line on stderr that begins with `what`, if the text (or NULL) is
 * none. */
bool read_size(const char *what, const char *text, size_t *size);

#endif
