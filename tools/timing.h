/* Times, and what several of them say. */
#ifndef FFF_TOOLS_TIMING_H
#define FFF_TOOLS_TIMING_H

#include <stddef.h>

/* Seconds of a clock that never goes back. */
double seconds_now(void);

struct spread {
    double least, median, most;
};

enum { MOST_TIMES = 99 };

/* Of 1 to MOST_TIMES values, which stay in their order. */
struct spread spread_of(const double *values, size_t count);

#endif
