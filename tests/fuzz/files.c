#include "tests/fuzz/files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static void require(bool held) {
    if (!held) {
        perror("fuzz");
        abort();
    }
}

void fuzz_write(struct fuzz_file *file, const void *bytes, size_t size) {
    if (file->descriptor < 0) {
        file->descriptor = memfd_create("fuzz", 0);
        require(file->descriptor >= 0);
        snprintf(file->path, sizeof file->path, "/proc/self/fd/%d", file->descriptor);
    }
    require(ftruncate(file->descriptor, 0) == 0 && pwrite(file->descriptor, bytes, size, 0) == (ssize_t)size);
}

/* ---- Folders ---------------------------------------------------------------------------------- */

static struct fuzz_folder *made[2];

static void join(const struct fuzz_folder *folder, const char *name, char *path, size_t size) {
    require(snprintf(path, size, "%s/%s", folder->path, name) < (int)size);
}

/* The folder that a name is in, if it is in one. */
static bool inner_folder(const struct fuzz_folder *folder, const char *name, char *path, size_t size) {
    const char *slash = strchr(name, '/');
    join(folder, name, path, size);
    if (slash != NULL) {
        path[strlen(folder->path) + 1 + (size_t)(slash - name)] = '\0';
    }
    return slash != NULL;
}

static void remove_folders(void) {
    for (size_t i = 0; i < sizeof made / sizeof *made && made[i] != NULL; i++) {
        char path[256];
        for (const char *const *name = made[i]->names; *name != NULL; name++) {
            join(made[i], *name, path, sizeof path);
            unlink(path);
            if (inner_folder(made[i], *name, path, sizeof path)) {
                rmdir(path);
            }
        }
        rmdir(made[i]->path);
    }
}

void fuzz_make_folder(struct fuzz_folder *folder, const char *const *names) {
    size_t number = made[0] != NULL;
    require(made[number] == NULL);
    snprintf(folder->path, sizeof folder->path, "/tmp/fff-fuzz-XXXXXX");
    require(mkdtemp(folder->path) != NULL);
    folder->names = names;
    for (size_t i = 0; names[i] != NULL; i++) {
        char path[256];
        require(i < FUZZ_MOST_FILES);
        folder->files[i].descriptor = -1;
        require(!inner_folder(folder, names[i], path, sizeof path) || mkdir(path, 0700) == 0);
    }
    made[number] = folder;
    if (number == 0) {
        atexit(remove_folders);
    }
}

void fuzz_put(struct fuzz_folder *folder, size_t index, bool there, const void *bytes, size_t size) {
    char path[256];
    join(folder, folder->names[index], path, sizeof path);
    if (!there) {
        unlink(path);
        return;
    }
    fuzz_write(&folder->files[index], bytes, size);
    require(access(path, F_OK) == 0 || symlink(folder->files[index].path, path) == 0);
}

/* ---- Inputs ----------------------------------------------------------------------------------- */

void fuzz_check_message(const char *error, size_t size) {
    if (strlen(error) == 0 || strlen(error) >= size) {
        abort();
    }
}

struct fuzz_text fuzz_take_text(const unsigned char **bytes, size_t *size) {
    const unsigned char *zero = *size > 0 ? memchr(*bytes, 0, *size) : NULL;
    struct fuzz_text text = {(const char *)*bytes, zero != NULL ? (size_t)(zero - *bytes) : *size};
    size_t taken = text.length + (zero != NULL);
    *bytes += taken;
    *size -= taken;
    return text;
}
