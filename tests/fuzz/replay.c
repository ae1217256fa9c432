/* Runs a fuzz target once on each file of some folders. */
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

enum { LARGEST = 1 << 20 };

static bool run_file(const char *path) {
    FILE *file = fopen(path, "rb");
    uint8_t *bytes = malloc(LARGEST);
    if (file == NULL || bytes == NULL) {
        perror(path);
        return false;
    }
    size_t size = fread(bytes, 1, LARGEST, file);
    fclose(file);
    uint8_t *exact = realloc(bytes, size > 0 ? size : 1); /* so that reading past the end is caught */
    printf("%s: %zu bytes\n", path, size);
    LLVMFuzzerTestOneInput(exact != NULL ? exact : bytes, size);
    free(exact != NULL ? exact : bytes);
    return true;
}

/* False, too, where there are no files. */
static bool run_folder(const char *name) {
    size_t count = 0;
    bool good = true;
    DIR *folder = opendir(name);
    if (folder == NULL) {
        perror(name);
        return false;
    }
    for (struct dirent *entry; good && (entry = readdir(folder)) != NULL;) {
        char path[4096];
        if (entry->d_name[0] == '.') {
            continue;
        }
        snprintf(path, sizeof path, "%s/%s", name, entry->d_name);
        good = run_file(path);
        count++;
    }
    closedir(folder);
    printf("%s: %zu files\n", name, count);
    return good && count > 0;
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: replay FOLDER...\n");
        return 2;
    }
    for (int at = 1; at < argc; at++) {
        if (!run_folder(argv[at])) {
            return 1;
        }
    }
    return 0;
}
