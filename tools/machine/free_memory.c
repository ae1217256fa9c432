#include "tools/machine/free_memory.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { LONGEST_LINE = 512 };

static uint64_t smaller(uint64_t a, uint64_t b) {
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

/* A number of `unit` bytes; UINT64_MAX if there is none, as for a limit of "max". */
static uint64_t read_bytes(const char *path, const char *beginning, uint64_t unit) {
    char line[LONGEST_LINE];
    unsigned long long value = 0;
    uint64_t bytes = 0;
    bool ok = read_line(path, beginning, line) && sscanf(line, "%llu", &value) == 1 &&
              !__builtin_mul_overflow(value, unit, &bytes);
    return ok ? bytes : UINT64_MAX;
}

/* The bytes of a control group's file. */
static uint64_t read_of_group(const char *group, const char *file, const char *beginning) {
    char path[LONGEST_LINE + 64];
    snprintf(path, sizeof path, "/sys/fs/cgroup%s/%s", group, file);
    return read_bytes(path, beginning, 1);
}

/* What is used of a group's limit. Pages of files that nobody has asked for lately are given back when others are
 * wanted. */
static uint64_t used_in_group(const char *group) {
    uint64_t used = read_of_group(group, "memory.current", "");
    uint64_t inactive = read_of_group(group, "memory.stat", "inactive_file ");
    if (used == UINT64_MAX || inactive == UINT64_MAX) {
        return used;
    }
    return used > inactive ? used - inactive : 0;
}

/* What the control group and those above it leave (version 2). */
static uint64_t free_in_group(void) {
    char group[LONGEST_LINE];
    uint64_t least = UINT64_MAX;
    if (!read_line("/proc/self/cgroup", "0::", group)) {
        return UINT64_MAX;
    }
    for (bool top = false; !top;) {
        char *slash = strrchr(group, '/');
        top = slash == NULL || slash[1] == '\0'; /* "/", or "" after the last cut */
        uint64_t limit = read_of_group(group, "memory.max", ""), used = used_in_group(group);
        if (limit != UINT64_MAX && used != UINT64_MAX) {
            least = smaller(least, limit > used ? limit - used : 0);
        }
        if (slash != NULL) {
            *slash = '\0';
        }
    }
    return least;
}

static uint64_t free_addresses(void) {
    struct rlimit limit;
    char line[LONGEST_LINE];
    unsigned long long pages = 0;
    if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY ||
        !read_line("/proc/self/statm", "", line) || sscanf(line, "%llu", &pages) != 1) {
        return UINT64_MAX;
    }
    uint64_t used = pages * (uint64_t)sysconf(_SC_PAGESIZE);
    return limit.rlim_cur > used ? limit.rlim_cur - used : 0;
}

size_t free_memory(void) {
    uint64_t system = read_bytes("/proc/meminfo", "MemAvailable:", 1024);
    return (size_t)smaller(SIZE_MAX, smaller(system, smaller(free_in_group(), free_addresses())));
}
