/* Whether floats have the same bits; all NaNs count as the same. */
#ifndef FFF_TOOLS_VERIFY_BITS_H
#define FFF_TOOLS_VERIFY_BITS_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline bool same_float(float a, float b) {
    uint32_t bits_a, bits_b;
    memcpy(&bits_a, &a, sizeof bits_a);
    memcpy(&bits_b, &b, sizeof bits_b);
    return bits_a == bits_b || (isnan(a) && isnan(b));
}

static inline size_t differing_floats(const float *a, const float *b, size_t count) {
    size_t differing = 0;
    for (size_t i = 0; i < count; i++) {
        differing += !same_float(a[i], b[i]);
    }
    return differing;
}

#endif
