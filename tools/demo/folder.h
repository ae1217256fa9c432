/* The temporary folder of the demo's model. */
#ifndef FFF_TOOLS_DEMO_FOLDER_H
#define FFF_TOOLS_DEMO_FOLDER_H

#include <stdbool.h>
#include <stddef.h>

/* Makes it, in TMPDIR, or in /tmp where that is unset or empty; false, with a sentence in `error`, if that cannot be.
 * From then on a signal that ends the program (an interrupt, say) removes it first. */
bool demo_folder_make(char *error, size_t error_size);

/* Its path, once it is made. */
const char *demo_folder(void);

/* Removes it, and the model that may be in it. */
void demo_folder_remove(void);

#endif
