#include "tools/machine/free_memory.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { LONGEST_LINE = 512 };

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

/* The first line of a file that begins so, without that and the newline. */
static bool read_line(const char *path, const char *beginning, char line[LONGEST_LINE]) {
    FILE *file = fopen(path, "re");
    size_t length = strlen(beginning);
    bool found = false;
    while (file != NULL && !found && fgets(line, LONGEST_LINE, file) != NULL) {
        found = strncmp(line, beginning, length) == 0;
    }
    if (file != NULL) {
        fclose(file);
    }
    if (found) {
        memmove(line, line + length, strlen(line + length) + 1);
        line[strcspn(line, "\n")] = '\0';
    }
    return found;
}

/* A number of `unit` bytes; SIZE_MAX if there is none, as for a limit of "max". */
static size_t read_bytes(const char *path, const char *beginning, size_t unit) {
    char line[LONGEST_LINE];
    unsigned long long value = 0;
    size_t bytes = 0;
    bool ok = read_line(path, beginning, line) && sscanf(line, "%llu", &value) == 1 &&
              !__builtin_mul_overflow((size_t)value, unit, &bytes);
    return ok ? bytes : SIZE_MAX;
}

/* What the control group and those above it leave (version 2). */
static size_t free_in_group(void) {
    char group[LONGEST_LINE], path[LONGEST_LINE + 64];
    size_t least = SIZE_MAX;
    if (!read_line("/proc/self/cgroup", "0::", group)) {
        return SIZE_MAX;
    }
    for (bool top = false; !top;) {
        char *slash = strrchr(group, '/');
        top = slash == NULL || slash[1] == '\0'; /* "/", or "" after the last cut */
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.max", group);
        size_t limit = read_bytes(path, "", 1);
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.current", group);
        size_t used = read_bytes(path, "", 1);
        if (limit != SIZE_MAX && used != SIZE_MAX) {
            least = smaller(least, limit > used ? limit - used : 0);
        }
        if (slash != NULL) {
            *slash = '\0';
        }
    }
    return least;
}

static size_t free_addresses(void) {
    struct rlimit limit;
    char line[LONGEST_LINE];
    unsigned long long pages = 0;
    if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY ||
        !read_line("/proc/self/statm", "", line) || sscanf(line, "%llu", &pages) != 1) {
        return SIZE_MAX;
    }
    size_t used = (size_t)pages * (size_t)sysconf(_SC_PAGESIZE);
    return limit.rlim_cur > used ? (size_t)limit.rlim_cur - used : 0;
}

size_t free_memory(void) {
    size_t system = read_bytes("/proc/meminfo", "MemAvailable:", 1024);
    return smaller(system, smaller(free_in_group(), free_addresses()));
}
