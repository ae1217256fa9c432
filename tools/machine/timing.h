/* Times, what several of them say, and whether the machine let them be taken. */
#ifndef FFF_TOOLS_MACHINE_TIMING_H
#define FFF_TOOLS_MACHINE_TIMING_H

#include <stdbool.h>
#include <stddef.h>

/* Seconds of a clock that never goes back. */
double seconds_now(void);

/* Of values in order of size: the least and the most leave out a tenth of them at either end. */
struct spread {
    double least, median, most;
};

enum { MOST_TIMES = 99 };

/* Of 1 to MOST_TIMES values, which stay in their order. */
struct spread spread_of(const double *values, size_t count);

/* ---- A timed stretch of work ----------------------------------------------------------------- */

struct timed {
    double seconds;
    double lost; /* the share of them in which a thread that wanted a CPU had none */
};

struct stopwatch {
    size_t threads; /* that compute: 1 is the calling one */
    size_t cpus;    /* that they keep busy */
    double wall, cpu;
    long preemptions;
};
/* Of so many threads, on so many CPUs at most. */
struct stopwatch stopwatch_start(size_t threads, size_t cpus);
struct timed stopwatch_stop(const struct stopwatch *watch);

/* Whether another program had the CPU for so long that the time says nothing of the work. Computing alone loses under
 * 1 % of a stretch of half a millisecond or more, and a stretch that another busy program shares, a third at least. */
bool was_disturbed(struct timed timed);

/* ---- The machine meanwhile ------------------------------------------------------------------- */

struct machine_load {
    bool known;    /* there is a /proc/stat, and it was watched for long enough */
    double stolen; /* the share of its CPUs' time that the hypervisor gave to other machines */
    double others; /* CPUs that other programs kept busy, on average */
    double cpus;
};

struct load_watch {
    double wall, own, busy, stolen; /* seconds */
};
struct load_watch load_start(void);
struct machine_load load_stop(const struct load_watch *watch);

/* Why times say nothing, if they do not: too few of the rounds were clean, too much was stolen, or the spread of what
 * they say is too wide. False, with `text` untouched, if they are to be believed. */
bool is_busy(size_t clean, size_t rounds, struct spread spread, struct machine_load load, char *text, size_t size);

#endif
