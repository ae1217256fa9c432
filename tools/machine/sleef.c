#include "tools/machine/sleef.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "3.6.1" if the file, links followed, is a libsleef.so.3.6.1, or as auditwheel calls its copies,
 * libsleef-HASH.so.3.6.1; else "of unknown version". */
static void find_version(const char *path, char *version, size_t size) {
    char *real = realpath(path, NULL);
    const char *name = real != NULL ? strrchr(real, '/') : NULL;
    const char *suffix = "";
    if (name != NULL && strncmp(name, "/libsleef", 9) == 0 && (name[9] == '.' || name[9] == '-')) {
        const char *extension = strstr(name, ".so.");
        suffix = extension != NULL ? extension + 4 : "";
    }
    bool is_version = strchr(suffix, '.') != NULL && strspn(suffix, "0123456789.") == strlen(suffix);
    snprintf(version, size, "%s", is_version ? suffix : "of unknown version");
    free(real);
}

void describe_sleef(char *text, size_t size) {
    const char *path = fff_sleef_path();
    if (path == NULL) {
        snprintf(text, size, "of unknown version from an unknown file");
        return;
    }
    char version[32];
    find_version(path, version, sizeof version);
    snprintf(text, size, "%s from %s", version, path);
}

bool sleef_as_recorded(const fff_isa *isas, size_t count) {
    bool recorded = true;
    for (size_t i = 0; i < count; i++) {
        recorded = recorded && fff_sleef_check(isas[i]) == FFF_OK;
    }
    return recorded;
}
