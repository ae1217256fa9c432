#include "tools/dense/stored_numbers.h"

#include "tools/dense/f64.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- 16 bits --------------------------------------------------------------------------------- */

/* Binary floating-point formats: the digits of a significand, the least exponent of a normal number, the largest
 * number.
 */
static const struct {
    int digits, least_exponent;
    double largest;
} formats[] = {
    [FFF_WEIGHT_BF16] = {8, -126, 0x1.fep127},
    [FFF_WEIGHT_F16] = {11, -14, 65504},
};

float round_to_type(fff_weight_type type, float value) {
    if (type == FFF_WEIGHT_F32 || !isfinite(value) || value == 0) {
        return value;
    }
    int exponent = ilogb((double)value);
    exponent = exponent > formats[type].least_exponent ? exponent : formats[type].least_exponent;
    int last_digit = exponent - (formats[type].digits - 1);
    double rounded = ldexp(nearbyint(ldexp((double)value, -last_digit)), last_digit);
    return fabs(rounded) <= formats[type].largest ? (float)rounded : copysignf(INFINITY, value);
}

/* ---- int8 ------------------------------------------------------------------------------------ */

/* A matrix as the data hold it, and the integers that were given, if any. */
struct matrix {
    const float *floats;
    const struct given_weights *given;
    size_t rows, columns, row_stride, column_stride;
};

/* The integers and scales of all rows; false when out of memory. An output row of zeros has scale 0. */
static bool store_integers(const struct matrix *matrix, bool outputs, float *integers, float **scales) {
    float *run = malloc(2 * (matrix->columns + 1) * sizeof *run), *of_run = run != NULL ? run + matrix->columns : NULL;
    *scales = calloc(matrix->rows, sizeof **scales);
    const signed char *given = matrix->given->type == FFF_WEIGHT_I8 ? matrix->given->data : NULL;
    for (size_t row = 0; row < matrix->rows && run != NULL && *scales != NULL; row++) {
        size_t at = row * matrix->row_stride;
        for (size_t column = 0; column < matrix->columns; column++) {
            run[column] = matrix->floats[at + column * matrix->column_stride];
        }
        float scale = given != NULL ? matrix->given->scales[row] : quantise_row(run, matrix->columns, of_run);
        bool zeros = outputs;
        for (size_t column = 0; column < matrix->columns; column++) {
            size_t place = at + column * matrix->column_stride;
            integers[place] = given != NULL ? (float)given[place] : of_run[column];
            zeros = zeros && integers[place] == 0;
        }
        (*scales)[row] = zeros ? 0 : scale;
    }
    free(run);
    return run != NULL && *scales != NULL;
}

/* ---- Both ------------------------------------------------------------------------------------ */

/* One matrix; false when out of memory. */
static bool store_matrix(const struct matrix *matrix, bool outputs, fff_weight_type type, float **numbers,
                         float **scales) {
    size_t count = matrix->rows * matrix->columns;
    *numbers = calloc(count > 0 ? count : 1, sizeof **numbers);
    if (*numbers == NULL) {
        return false;
    }
    if (type == FFF_WEIGHT_I8) {
        return store_integers(matrix, outputs, *numbers, scales);
    }
    for (size_t i = 0; i < count; i++) {
        (*numbers)[i] = round_to_type(type, matrix->floats[i]);
    }
    return true;
}

/* One part; false when out of memory. */
static bool store_part(struct layer_data *stored, const struct layer_data *data) {
    size_t outputs = output_rows(data);
    const struct matrix in = {data->input_weights, &data->given_input, data->rows,
                              data->input_width,   data->input_width,  1};
    const struct matrix out = {data->output_weights, &data->given_output, outputs, data->output_width, 1, outputs};
    *stored = *data;
    stored->given_input = stored->given_output = (struct given_weights){FFF_WEIGHT_F32, NULL, NULL, NULL};
    stored->store = (struct store){FFF_CHOOSE_DEFAULT, FFF_CHOOSE_DEFAULT, FFF_ROUTES_STORED};
    stored->input_weights = stored->output_weights = NULL;
    stored->next = NULL;
    return store_matrix(&in, false, stored_input_type(data), &stored->input_weights, &stored->integer_input_scales) &&
           store_matrix(&out, true, stored_output_type(data), &stored->output_weights, &stored->integer_output_scales);
}

int stored_numbers_make(struct layer_data *stored, const struct layer_data *data) {
    struct layer_data *part = stored;
    for (;; data = data->next) {
        if (!store_part(part, data)) {
            break;
        }
        if (data->next == NULL) {
            return 0;
        }
        part->next = calloc(1, sizeof *part->next);
        if (part->next == NULL) {
            break;
        }
        part = part->next;
    }
    stored_numbers_free(stored);
    return -1;
}

void stored_numbers_free(struct layer_data *stored) {
    if (stored->next != NULL) {
        stored_numbers_free(stored->next);
        free(stored->next);
    }
    free(stored->input_weights);
    free(stored->output_weights);
    free(stored->integer_input_scales);
    free(stored->integer_output_scales);
    *stored = (struct layer_data){0};
}
