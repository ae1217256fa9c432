#include "tests/soak/matrices.h"

#include <math.h>

static struct soak_place row_major(size_t rows, size_t stride) {
    return (struct soak_place){rows + 1, 0, stride, 1, rows * stride};
}

struct soak_place soak_any_row_major(size_t rows, size_t width, uint64_t *state) {
    return row_major(rows, width + (chance(state, 2) ? random_below(state, 4) : 0));
}

struct soak_place soak_any_place(size_t rows, size_t width, uint64_t *state) {
    if (chance(state, 3)) {
        return (struct soak_place){rows + 1, 0, 1, rows, rows * width};
    }
    return soak_any_row_major(rows, width, state);
}

static size_t index_of(const struct soak_place *place, size_t row, size_t column) {
    return row / place->group * place->group_stride + row % place->group * place->row_stride +
           column * place->column_stride;
}

static void write_element(void *data, fff_weight_type type, size_t index, float number) {
    if (type == FFF_WEIGHT_F32) {
        ((float *)data)[index] = number;
    } else if (type == FFF_WEIGHT_I8) {
        ((int8_t *)data)[index] = (int8_t)number;
    } else {
        ((uint16_t *)data)[index] = reference_encode(type, number);
    }
}

/* Whether a number can be given and stored as these types. */
static bool fits(float number, fff_weight_type given, fff_weight_type stored) {
    bool half = given == FFF_WEIGHT_F16 || stored == FFF_WEIGHT_F16;
    bool integer = given == FFF_WEIGHT_I8 || stored == FFF_WEIGHT_I8;
    return half ? fabsf(number) <= 60000.0f : !integer || fabsf(number) <= 0x1p126f;
}

static bool all_zeros(size_t count, const float *numbers) {
    for (size_t i = 0; i < count; i++) {
        if (numbers[i] != 0.0f) {
            return false;
        }
    }
    return true;
}

struct soak_matrix soak_make_matrix(struct soak_case *by, enum soak_side side, size_t rows, size_t width,
                                    fff_weight_type given, fff_weight_type stored, const struct soak_place *place,
                                    uint64_t *state) {
    static const size_t SIZES[FFF_WEIGHT_TYPE_COUNT] = {4, 2, 2, 1};
    enum numbers kind = soak_any_kind(state);
    float *numbers = soak_own_floats(by, rows * width, kind, state);
    float *scales = NULL;
    if (given == FFF_WEIGHT_I8) {
        scales = soak_own(by, rows, sizeof *scales);
        for (size_t row = 0; row < rows; row++) {
            scales[row] =
                ldexpf(1.0f + (float)random_below(state, 1 << 23) * 0x1p-23f, (int)random_below(state, 12) - 10);
        }
    }
    float *exact = soak_own(by, rows * width, sizeof *exact);
    void *data = soak_own(by, place->elements, SIZES[given]);
    bool some_zeros = chance(state, 3), zeros = false; /* rows of zeros among the others */
    for (size_t i = 0; i < rows * width; i++) {
        zeros = i % width == 0 ? some_zeros && chance(state, 3) : zeros;
        if (zeros) {
            numbers[i] = exact[i] = 0.0f;
        } else if (given == FFF_WEIGHT_I8) {
            numbers[i] = (float)random_below(state, 255) - 127.0f;
            exact[i] = numbers[i] * scales[i / width];
        } else {
            numbers[i] = fits(numbers[i], given, stored) ? numbers[i] : random_normal(state);
            exact[i] = numbers[i] = reference_round(given, numbers[i]);
        }
        write_element(data, given, index_of(place, i / width, i % width), numbers[i]);
    }
    float *stored_scales = NULL;
    if (stored == FFF_WEIGHT_I8) {
        stored_scales = soak_own(by, rows, sizeof *stored_scales);
        for (size_t row = 0; row < rows; row++) {
            float *of_row = numbers + row * width;
            float scale = given == FFF_WEIGHT_I8 ? scales[row] : reference_to_integers(width, of_row, 127.0f);
            stored_scales[row] = side == SOAK_OUTPUTS && all_zeros(width, of_row) ? 0.0f : scale;
        }
    }
    for (size_t i = 0; i < rows * width && stored != FFF_WEIGHT_I8; i++) {
        numbers[i] = reference_round(stored, exact[i]);
    }
    return (struct soak_matrix){
        .view = {data, place->row_stride, place->column_stride},
        .given_scales = scales,
        .stored = {width, numbers, stored_scales},
        .exact = exact,
    };
}
