#include "tools/machine/timing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define MOST_LOST 0.05
#define MOST_STOLEN 0.05
#define LEAST_WATCHED 0.5 /* seconds: ticks have 10 ms */
#define WIDEST 2.0        /* the most over the least; the same work on a quiet machine stays far below */

static double seconds_of(clockid_t clock) {
    struct timespec t;
    return clock_gettime(clock, &t) == 0 ? (double)t.tv_sec + 1e-9 * (double)t.tv_nsec : 0;
}

double seconds_now(void) {
    return seconds_of(CLOCK_MONOTONIC);
}

static int compare_doubles(const void *a, const void *b) {
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

struct spread spread_of(const double *values, size_t count) {
    double sorted[MOST_TIMES] = {0};
    memcpy(sorted, values, count * sizeof *values);
    qsort(sorted, count, sizeof *sorted, compare_doubles);
    size_t tenth = count / 10;
    return (struct spread){sorted[tenth], 0.5 * (sorted[(count - 1) / 2] + sorted[count / 2]),
                           sorted[count - 1 - tenth]};
}

/* ---- A timed stretch of work ----------------------------------------------------------------- */

static long preemptions(size_t threads) {
    struct rusage usage;
    return getrusage(threads > 1 ? RUSAGE_SELF : RUSAGE_THREAD, &usage) == 0 ? usage.ru_nivcsw : 0;
}

static double cpu_seconds(size_t threads) {
    return seconds_of(threads > 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_THREAD_CPUTIME_ID);
}

struct stopwatch stopwatch_start(size_t threads, size_t cpus) {
    struct stopwatch watch = {.threads = threads, .cpus = threads < cpus ? threads : cpus};
    watch.preemptions = preemptions(threads);
    watch.cpu = cpu_seconds(threads);
    watch.wall = seconds_now();
    return watch;
}

struct timed stopwatch_stop(const struct stopwatch *watch) {
    double seconds = seconds_now() - watch->wall;
    double cpu = cpu_seconds(watch->threads) - watch->cpu;
    /* Threads of a pool may sleep because there is nothing to do; then nobody took their CPU from them. */
    bool waited = watch->threads == 1 || preemptions(watch->threads) > watch->preemptions;
    double lost = seconds > 0 && waited ? 1 - cpu / ((double)watch->cpus * seconds) : 0;
    return (struct timed){seconds, fmax(lost, 0)};
}

bool was_disturbed(struct timed timed) {
    return timed.lost > MOST_LOST;
}

/* ---- The machine meanwhile ------------------------------------------------------------------- */

/* The first line of /proc/stat, since boot: user nice system idle iowait irq softirq steal, in ticks. Zeros where
 * there is none. */
struct load_watch load_start(void) {
    struct load_watch watch = {.wall = seconds_now(), .own = seconds_of(CLOCK_PROCESS_CPUTIME_ID)};
    unsigned long long t[8] = {0};
    FILE *file = fopen("/proc/stat", "re");
    if (file == NULL) {
        return watch;
    }
    char line[512] = "";
    double tick = 1.0 / (double)sysconf(_SC_CLK_TCK);
    if (fgets(line, sizeof line, file) != NULL && sscanf(line, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &t[0],
                                                         &t[1], &t[2], &t[3], &t[4], &t[5], &t[6], &t[7]) >= 4) {
        watch.busy = tick * (double)(t[0] + t[1] + t[2] + t[5] + t[6]);
        watch.stolen = tick * (double)t[7];
    }
    fclose(file);
    return watch;
}

struct machine_load load_stop(const struct load_watch *watch) {
    struct load_watch now = load_start();
    double wall = now.wall - watch->wall, busy = now.busy - watch->busy;
    struct machine_load load = {.known = busy > 0 && wall >= LEAST_WATCHED,
                                .cpus = (double)sysconf(_SC_NPROCESSORS_ONLN)};
    if (load.known) {
        load.stolen = fmax(now.stolen - watch->stolen, 0) / (wall * load.cpus);
        load.others = fmax(busy - (now.own - watch->own), 0) / wall;
    }
    return load;
}

bool is_busy(size_t clean, size_t rounds, struct spread spread, struct machine_load load, char *text, size_t size) {
    char what[96], meanwhile[128] = "";
    if (2 * clean < rounds || clean == 0) {
        snprintf(what, sizeof what, "a computation waited for a CPU in %zu of %zu rounds", rounds - clean, rounds);
    } else if (load.stolen > MOST_STOLEN) {
        snprintf(what, sizeof what, "%.0f %% of the CPUs' time went to other virtual machines", 100 * load.stolen);
    } else if (!(spread.most <= WIDEST * spread.least)) {
        snprintf(what, sizeof what, "what the rounds say differs by more than %.0f times", WIDEST);
    } else {
        return false;
    }
    if (load.known) {
        snprintf(meanwhile, sizeof meanwhile, "; other programs kept %.1f of %.0f CPUs busy", load.others, load.cpus);
    }
    snprintf(text, size, "%s%s", what, meanwhile);
    return true;
}
