#include "bert/file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* The rest of an open file; it may have changed its size meanwhile, which only cuts what is read. */
static char *read_rest(const struct fff_report *report, FILE *file, size_t largest, size_t *length) {
    struct stat status;
    if (fstat(fileno(file), &status) != 0) {
        fff_report(report, "%s", strerror(errno));
        return NULL;
    }
    if (!S_ISREG(status.st_mode)) {
        fff_report(report, "not a regular file");
        return NULL;
    }
    if ((unsigned long long)status.st_size > largest) {
        fff_report(report, "%lld bytes are more than the %zu that such a file may have", (long long)status.st_size,
                   largest);
        return NULL;
    }
    char *content = malloc((size_t)status.st_size + 1);
    if (content == NULL) {
        fff_report(report, "out of memory");
        return NULL;
    }
    *length = fread(content, 1, (size_t)status.st_size, file);
    content[*length] = '\0';
    if (ferror(file)) {
        fff_report(report, "%s", strerror(errno));
        free(content);
        return NULL;
    }
    return content;
}

char *fff_read_file(const struct fff_report *report, size_t largest, size_t *length) {
    FILE *file = fopen(report->path, "rbe");
    if (file == NULL) {
        fff_report(report, "%s", strerror(errno));
        return NULL;
    }
    char *content = read_rest(report, file, largest, length);
    fclose(file);
    return content;
}
