/* The SLEEF that is loaded, for people: it may be another than the library was built with. */
#ifndef FFF_TOOLS_MACHINE_SLEEF_H
#define FFF_TOOLS_MACHINE_SLEEF_H

#include <fff/fff.h>
#include <stdbool.h>

enum { SLEEF_TEXT = 4200 }; /* room for any path */

/* "3.6.1 from /usr/lib/libsleef.so.3"; its version is what the file is really called. */
void describe_sleef(char *text, size_t size);

/* Whether all its functions return the recorded bits on these instruction sets. */
bool sleef_as_recorded(const fff_isa *isas, size_t count);

#endif
