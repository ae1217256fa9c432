#include "bert/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool fff_join_path(const char *directory, const char *name, char path[FFF_LONGEST_PATH], char *error,
                   size_t error_size) {
    int length = snprintf(path, FFF_LONGEST_PATH, "%s/%s", directory, name);
    const struct fff_report report = {name, error, error_size};
    return (length >= 0 && length < FFF_LONGEST_PATH) ||
           FFF_FAIL(&report, "the path of its folder is too long: %zu bytes", strlen(directory));
}

bool fff_exists(const char *path) {
    struct stat about;
    return lstat(path, &about) == 0;
}

bool fff_stays_inside(const char *name) {
    if (*name == '/') {
        return false;
    }
    for (const char *part = name; part != NULL; part = strchr(part, '/')) {
        part += *part == '/';
        size_t length = strcspn(part, "/");
        if (length == 2 && memcmp(part, "..", 2) == 0) {
            return false;
        }
    }
    return true;
}

static const char *type_of(mode_t mode) {
    return S_ISDIR(mode) ? "a folder" : S_ISFIFO(mode) ? "a FIFO" : S_ISSOCK(mode) ? "a socket" : "a device";
}

int fff_open_file(const struct fff_report *report, size_t *size) {
    struct stat about;
    int descriptor = open(report->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int why = errno;
    bool known = (descriptor >= 0 ? fstat(descriptor, &about) : stat(report->path, &about)) == 0;
    /* A socket, and a device without a driver, cannot even be opened. */
    if (known && !S_ISREG(about.st_mode) && (descriptor >= 0 || why == ENXIO)) {
        fff_report(report, "%s, not a regular file", type_of(about.st_mode));
    } else if (descriptor < 0 || !known) {
        fff_report(report, "%s", strerror(descriptor < 0 ? why : errno));
    } else {
        *size = (size_t)about.st_size;
        return descriptor;
    }
    if (descriptor >= 0) {
        close(descriptor);
    }
    return -1;
}

/* Up to `size` bytes; fewer only where the file ends. */
static bool read_all(const struct fff_report *report, int descriptor, char *content, size_t size, size_t *length) {
    for (*length = 0; *length < size;) {
        ssize_t got = read(descriptor, content + *length, size - *length);
        if (got < 0 && errno != EINTR) {
            return FFF_FAIL(report, "%s", strerror(errno));
        }
        if (got == 0) {
            break;
        }
        *length += got > 0 ? (size_t)got : 0;
    }
    return true;
}

/* One byte more than there should be is asked for: files of /proc say that they have none. */
static char *read_whole(const struct fff_report *report, int descriptor, size_t size, size_t *length) {
    char *content = malloc(size + 1);
    if (content == NULL) {
        fff_report(report, "out of memory");
        return NULL;
    }
    if (read_all(report, descriptor, content, size + 1, length)) {
        if (*length == size) {
            content[size] = '\0';
            return content;
        }
        fff_report(report, "%s than the %zu bytes that the system says it has", *length > size ? "more" : "less", size);
    }
    free(content);
    return NULL;
}

char *fff_read_file(const struct fff_report *report, size_t largest, size_t *length) {
    size_t size = 0;
    int descriptor = fff_open_file(report, &size);
    if (descriptor < 0) {
        return NULL;
    }
    char *content = NULL;
    if (size > largest) {
        fff_report(report, "%zu bytes are more than the %zu that such a file may have", size, largest);
    } else {
        content = read_whole(report, descriptor, size, length);
    }
    close(descriptor);
    return content;
}
