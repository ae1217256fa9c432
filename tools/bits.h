/* Whether floats have the same bits; all NaNs count as the same. */
#ifndef FFF_TOOLS_BITS_H
#define FFF_TOOLS_BITS_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

static inline bool same_float(float a, float b) {
    return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b));
}

static inline size_t differing_floats(const float *a, const float *b, size_t count) {
    size_t differing = 0;
    for (size_t i = 0; i < count; i++) {
        differing += !same_float(a[i], b[i]);
    }
    return differing;
}

#endif
