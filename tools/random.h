/* Seeded numbers that are the same on every machine: integer arithmetic, then exact conversions. */
#ifndef FFF_TOOLS_RANDOM_H
#define FFF_TOOLS_RANDOM_H

#include <stdint.h>

/* SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014). */
static inline uint64_t random_bits(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Uniform from 0 to below `limit` (at least 1), near enough for tests. */
static inline uint64_t random_below(uint64_t *state, uint64_t limit) {
    return random_bits(state) % limit;
}

/* Close to normal with mean 0 and variance 1: the sum of four 16-bit uniforms, scaled. */
static inline float random_normal(uint64_t *state) {
    uint64_t bits = random_bits(state);
    int32_t sum = (int32_t)((bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48)) - 131070;
    return (float)sum * (1.0f / 37837.0f); /* 65536 * sqrt(4 / 12) */
}

#endif
