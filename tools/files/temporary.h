/* Files and folders that are not to outlive the program, also where a signal (an interrupt, say) ends it. */
#ifndef FFF_TOOLS_FILES_TEMPORARY_H
#define FFF_TOOLS_FILES_TEMPORARY_H

#include <stdbool.h>
#include <stdio.h>

/* A new file to write, or NULL and errno. */
FILE *temporary_file(const char *path);

/* A new folder, as mkdtemp() makes it; false and errno. */
bool temporary_folder(char *path);

/* Something in a temporary folder that is to be removed with it. False if the path is too long, or they are too many.
 */
bool temporary_name(const char *path);

/* Removes one of these, if it is there, and forgets it. */
void temporary_remove(const char *path);

#endif
