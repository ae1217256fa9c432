/* Bytes in memory as files that have paths: for readers that open them. */
#ifndef FFF_TESTS_FUZZ_FILES_H
#define FFF_TESTS_FUZZ_FILES_H

#include <stdbool.h>
#include <stddef.h>

enum { FUZZ_PATH = 64, FUZZ_MOST_FILES = 12 };

/* A file without a name; `descriptor` begins as -1. */
struct fuzz_file {
    int descriptor;
    char path[FUZZ_PATH];
};
/* Makes these bytes all that it holds. */
void fuzz_write(struct fuzz_file *file, const void *bytes, size_t size);

/* A folder of such files, under names that are given once, one of which may be in a folder of its own. It is removed
 * when the program ends. */
struct fuzz_folder {
    char path[FUZZ_PATH];
    const char *const *names; /* NULL after the last one */
    struct fuzz_file files[FUZZ_MOST_FILES];
};
void fuzz_make_folder(struct fuzz_folder *folder, const char *const *names);
/* File `index` holds these bytes, or is not there. */
void fuzz_put(struct fuzz_folder *folder, size_t index, bool there, const void *bytes, size_t size);

/* Of what a reader said when it refused: nothing, or more than there is room for, is a fault. */
void fuzz_check_message(const char *error, size_t size);

/* Takes what stands before the first 0 byte off the bytes, and the 0; all of them where there is none. */
struct fuzz_text {
    const char *bytes;
    size_t length;
};
struct fuzz_text fuzz_take_text(const unsigned char **bytes, size_t *size);

#endif
