#include "tests/soak/run.h"

#include <math.h>
#include <string.h>

static uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

void soak_compare_floats(struct soak_run *run, const char *what, size_t rows, size_t width, const float *actual,
                         size_t stride, const float *expected, size_t expected_stride) {
    run->counts->values += rows * width;
    for (size_t row = 0; row < rows; row++, actual += stride, expected += expected_stride) {
        if (memcmp(actual, expected, width * sizeof *actual) == 0) {
            continue;
        }
        for (size_t i = 0; i < width; i++) {
            uint32_t differing = bits_of(actual[i]) ^ bits_of(expected[i]);
            if (differing != 0 && !(isnan(actual[i]) && isnan(expected[i]))) {
                soak_differ(run, what, row, i, differing, (double)actual[i], (double)expected[i]);
            }
        }
    }
}

void soak_compare_indices(struct soak_run *run, const char *what, size_t rows, size_t width, const uint32_t *actual,
                          size_t stride, const uint32_t *expected) {
    run->counts->values += rows * width;
    for (size_t row = 0; row < rows; row++, actual += stride, expected += width) {
        for (size_t i = 0; i < width; i++) {
            if (actual[i] != expected[i]) {
                soak_differ(run, what, row, i, actual[i] ^ expected[i], actual[i], expected[i]);
            }
        }
    }
}

void soak_compare_halves(struct soak_run *run, const char *what, fff_weight_type type, size_t rows, size_t width,
                         const uint16_t *actual, size_t stride, const float *expected) {
    unsigned infinity = type == FFF_WEIGHT_BF16 ? 0x7f80 : 0x7c00;
    run->counts->values += rows * width;
    for (size_t row = 0; row < rows; row++, actual += stride, expected += width) {
        for (size_t i = 0; i < width; i++) {
            uint16_t half = reference_encode(type, reference_round(type, expected[i]));
            bool not_number = (actual[i] & 0x7fffu) > infinity;
            if (isnan(expected[i]) ? !not_number : actual[i] != half) {
                soak_differ(run, what, row, i, actual[i] ^ half, actual[i], half);
            }
        }
    }
}
