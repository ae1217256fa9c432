#include "tools/demo/folder.h"

#include "tools/files/temporary.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FOLDER = 256, FILES = 2, PATH = FOLDER + 64 };

static char folder[FOLDER], files[FILES][PATH];

void demo_folder_remove(void) {
    for (size_t i = 0; i < FILES; i++) {
        temporary_remove(files[i]);
    }
    temporary_remove(folder);
}

bool demo_folder_make(char *error, size_t error_size) {
    static const char *const names[FILES] = {"config.json", "model.safetensors"};
    const char *given = getenv("TMPDIR"), *temporary = given != NULL && *given != '\0' ? given : "/tmp";
    int length = snprintf(folder, sizeof folder, "%s/fff_demo_XXXXXX", temporary);
    if (length < 0 || (size_t)length >= sizeof folder) {
        snprintf(error, error_size, "TMPDIR is too long");
        return false;
    }
    if (!temporary_folder(folder)) {
        snprintf(error, error_size, "no temporary folder can be made as %s: %s", folder, strerror(errno));
        return false;
    }
    for (size_t i = 0; i < FILES; i++) {
        snprintf(files[i], sizeof files[i], "%s/%s", folder, names[i]);
        (void)temporary_name(files[i]); /* there is room for these */
    }
    return true;
}

const char *demo_folder(void) {
    return folder;
}
