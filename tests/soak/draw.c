#include "tests/soak/draw.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum numbers soak_any_kind(uint64_t *state) {
    return chance(state, 3) ? (enum numbers)random_below(state, NUMBERS_KINDS) : NUMBERS_NORMAL;
}

enum numbers soak_finite_kind(uint64_t *state) {
    return chance(state, 3) ? NUMBERS_SMALL_INTEGERS : chance(state, 8) ? NUMBERS_TINY : NUMBERS_NORMAL;
}

static float unusual_number(enum numbers kind, uint64_t *state) {
    uint64_t choice = random_below(state, 5);
    uint32_t bits = (uint32_t)random_bits(state);
    float value;
    switch (kind) {
    case NUMBERS_SMALL_INTEGERS: return (float)choice - 2.0f;
    case NUMBERS_ANY_BITS: memcpy(&value, &bits, sizeof value); return value;
    case NUMBERS_TINY: return random_normal(state) * (choice == 0 ? 0x1p-140f : 0x1p-74f);
    case NUMBERS_HUGE: return random_normal(state) * (choice == 0 ? 0x1p124f : 0x1p63f);
    case NUMBERS_MIXED_SCALES: return ldexpf(random_normal(state), (int)random_below(state, 100) - 50);
    case NUMBERS_ZEROS: return choice < 2 ? 0.0f : -0.0f;
    case NUMBERS_NORMAL:
    case NUMBERS_KINDS: break;
    }
    return 0.0f;
}

float soak_number(enum numbers kind, uint64_t *state) {
    return kind == NUMBERS_NORMAL ? random_normal(state) : unusual_number(kind, state);
}

void soak_fill(float *numbers, size_t count, enum numbers kind, uint64_t *state) {
    for (size_t i = 0; i < count; i++) {
        numbers[i] = soak_number(kind, state);
    }
}

void *soak_allocate(size_t count, size_t size) {
    void *memory = calloc(count + 1, size);
    if (memory == NULL) {
        fputs("soak: no memory\n", stderr);
        exit(2);
    }
    return memory;
}
