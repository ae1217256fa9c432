/* Runs a fuzz target once on each file of a folder. */
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

enum { LARGEST = 1 << 20 };

int main(int argc, char **argv) {
    DIR *folder = argc == 2 ? opendir(argv[1]) : NULL;
    size_t count = 0;
    if (folder == NULL) {
        fprintf(stderr, "usage: replay FOLDER\n");
        return 2;
    }
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        char path[4096];
        if (entry->d_name[0] == '.') {
            continue;
        }
        snprintf(path, sizeof path, "%s/%s", argv[1], entry->d_name);
        FILE *file = fopen(path, "rb");
        uint8_t *bytes = malloc(LARGEST);
        if (file == NULL || bytes == NULL) {
            perror(path);
            return 1;
        }
        size_t size = fread(bytes, 1, LARGEST, file);
        fclose(file);
        uint8_t *exact = realloc(bytes, size > 0 ? size : 1); /* so that reading past the end is caught */
        printf("%s: %zu bytes\n", path, size);
        LLVMFuzzerTestOneInput(exact != NULL ? exact : bytes, size);
        free(exact != NULL ? exact : bytes);
        count++;
    }
    closedir(folder);
    printf("%zu files\n", count);
    return count > 0 ? 0 : 1;
}
