/* What the command knows of the machine: spreads of times, whether it was busy, how much memory is free. The linker
 * calls __wrap_fopen() in place of fopen(): files of the system have the text that a test gives them. */
#include "tests/support.h"
#include "tools/machine/free_memory.h"
#include "tools/machine/timing.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- Files of the system --------------------------------------------------------------------------- */

struct system_file {
    const char *path, *text;
};
static const struct system_file *files; /* the last one's path is NULL; all others are absent */

static FILE *open_system_file(const char *path) {
    for (const struct system_file *file = files; file != NULL && file->path != NULL; file++) {
        if (strcmp(file->path, path) == 0) {
            return fmemopen((void *)file->text, strlen(file->text), "r");
        }
    }
    return NULL;
}

FILE *__wrap_fopen(const char *path, const char *mode);
FILE *__wrap_fopen64(const char *path, const char *mode);

FILE *__wrap_fopen(const char *path, const char *mode) {
    assert_string_equal(mode, "re");
    return open_system_file(path);
}

/* What glibc calls it where files may be large. */
FILE *__wrap_fopen64(const char *path, const char *mode) {
    return __wrap_fopen(path, mode);
}

/* ---- Times ----------------------------------------------------------------------------------------- */

static void expect_spread(const double *values, size_t count, double least, double median, double most) {
    struct spread spread = spread_of(values, count);
    assert_true(spread.least == least);
    assert_true(spread.median == median);
    assert_true(spread.most == most);
}

/* A tenth at either end is left out, of ten values and more; the values stay in their order. */
static void test_spread_of(void **unused) {
    (void)unused;
    double values[MOST_TIMES];
    const double few[] = {3, 1, 2, 10};
    expect_spread(few, 1, 3, 3, 3);
    expect_spread(few, 2, 1, 2, 3);
    expect_spread(few, 3, 1, 2, 3);
    expect_spread(few, 4, 1, 2.5, 10);
    assert_true(few[0] == 3 && few[3] == 10);
    for (size_t i = 0; i < MOST_TIMES; i++) {
        values[i] = (double)(i * 50 % MOST_TIMES); /* 0 to 98, each once */
    }
    expect_spread(values, MOST_TIMES, 9, 49, 89);
    const double ten[] = {9, 0, 8, 1, 7, 2, 6, 3, 5, 4};
    expect_spread(ten, 9, 0, 5, 9);
    expect_spread(ten, 10, 1, 4.5, 8);
}

static void expect_busy(size_t clean, size_t rounds, struct spread spread, struct machine_load load,
                        const char *expected) {
    char text[256] = "untouched";
    bool busy = is_busy(clean, rounds, spread, load, text, sizeof text);
    assert_int_equal(busy, expected != NULL);
    assert_string_equal(text, expected != NULL ? expected : "untouched");
}

static void test_is_busy(void **unused) {
    (void)unused;
    const struct spread calm = {1, 1.5, 2}, wide = {1, 1.5, 2.1}, none = {1, NAN, NAN};
    const struct machine_load quiet = {.known = true, .others = 0.5, .cpus = 4};
    const struct machine_load stolen = {.known = true, .stolen = 0.06, .others = 1.5, .cpus = 4};
    expect_busy(4, 8, calm, quiet, NULL);
    expect_busy(3, 8, calm, quiet,
                "a computation waited for a CPU in 5 of 8 rounds; other programs kept 0.5 of 4 CPUs busy");
    expect_busy(0, 0, calm, (struct machine_load){0}, "a computation waited for a CPU in 0 of 0 rounds");
    expect_busy(8, 8, calm, stolen,
                "6 % of the CPUs' time went to other virtual machines; other programs kept 1.5 of 4 CPUs busy");
    expect_busy(8, 8, wide, (struct machine_load){0}, "what the rounds say differs by more than 2 times");
    expect_busy(8, 8, none, (struct machine_load){0}, "what the rounds say differs by more than 2 times");
}

static void test_was_disturbed(void **unused) {
    (void)unused;
    assert_false(was_disturbed((struct timed){1, 0.01}));
    assert_true(was_disturbed((struct timed){1, 0.3}));
}

/* Ticks of 10 ms in /proc/stat; what this process used itself is not others'. */
static void test_load(void **unused) {
    (void)unused;
    static const struct system_file before[] = {{"/proc/stat", "cpu 100 20 30 5000 7 1 2 40 9 9\ncpu0 1 2 3 4\n"}, {0}};
    static const struct system_file after[] = {{"/proc/stat", "cpu 100000 20 30 99999 7 1 2 50040 9 9\ncpu0 1 2 3 4\n"},
                                               {0}};
    files = before;
    struct load_watch watch = load_start();
    watch.wall -= 10; /* seconds ago */
    files = after;
    struct machine_load load = load_stop(&watch);
    assert_true(load.known && load.cpus >= 1);
    double ticks = 99900.0 / 100, lost = 50000.0 / 100;
    assert_true(load.others > 0.9 * ticks / 10 && load.others < 1.001 * ticks / 10);
    assert_true(load.stolen * load.cpus > 0.9 * lost / 10 && load.stolen * load.cpus < 1.001 * lost / 10);
    watch.wall += 9.9;
    assert_false(load_stop(&watch).known); /* too short for ticks */
    files = NULL;
    assert_false(load_stop(&watch).known);
}

/* ---- Memory ---------------------------------------------------------------------------------------- */

#define MEMORY                                                                                                         \
    { "/proc/meminfo", "MemTotal:    9000 kB\nMemFree:     100 kB\nMemAvailable:   8000 kB\n" }
#define GROUP "/sys/fs/cgroup/a/b"

static void expect_free(const struct system_file *system, size_t expected) {
    files = system;
    assert_int_equal(free_memory(), expected);
    files = NULL;
}

static void test_system_memory(void **unused) {
    (void)unused;
    static const struct system_file system[] = {MEMORY, {0}};
    expect_free(system, 8000 * 1024);
    expect_free(NULL, SIZE_MAX);
}

/* The least of what the group and those above it leave, wherever among them it is. */
static void test_nested_groups(void **unused) {
    (void)unused;
    for (size_t tightest = 0; tightest < 3; tightest++) {
        const char *limits[3] = {"900000", "900000", "900000"};
        limits[tightest] = "700000";
        const struct system_file system[] = {
            MEMORY,
            {"/proc/self/cgroup", "1:name=x:/y\n0::/a/b\n"},
            {GROUP "/memory.max", limits[0]},
            {GROUP "/memory.current", "100000\n"},
            {GROUP "/memory.stat", "anon 5\nactive_file 3\ninactive_file 40000\n"},
            {"/sys/fs/cgroup/a/memory.max", limits[1]},
            {"/sys/fs/cgroup/a/memory.current", "100000\n"},
            {"/sys/fs/cgroup/memory.max", limits[2]},
            {"/sys/fs/cgroup/memory.current", "100000\n"},
            {0},
        };
        expect_free(system, tightest == 0 ? 640000 : 600000);
    }
    static const struct system_file unlimited[] = {MEMORY,
                                                   {"/proc/self/cgroup", "0::/a/b\n"},
                                                   {GROUP "/memory.max", "max\n"},
                                                   {GROUP "/memory.current", "1\n"},
                                                   {0}};
    expect_free(unlimited, 8000 * 1024);
    static const struct system_file full[] = {MEMORY,
                                              {"/proc/self/cgroup", "0::/a/b\n"},
                                              {GROUP "/memory.max", "5\n"},
                                              {GROUP "/memory.current", "6\n"},
                                              {0}};
    expect_free(full, 0);
    static const struct system_file top[] = {MEMORY,
                                             {"/proc/self/cgroup", "0::/\n"},
                                             {"/sys/fs/cgroup//memory.max", "9\n"},
                                             {"/sys/fs/cgroup//memory.current", "2\n"},
                                             {0}};
    expect_free(top, 7);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spread_of), cmocka_unit_test(test_is_busy),       cmocka_unit_test(test_was_disturbed),
        cmocka_unit_test(test_load),      cmocka_unit_test(test_system_memory), cmocka_unit_test(test_nested_groups),
    };
    return cmocka_run_group_tests_name("machine", tests, NULL, NULL);
}
