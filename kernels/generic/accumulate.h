#ifndef FFF_KERNELS_GENERIC_ACCUMULATE_H
#define FFF_KERNELS_GENERIC_ACCUMULATE_H

#include "kernels/generic/row.h"

#include <math.h>

/* The factors of a token in one tree as integers; their unit is returned. */
static inline float quantise_factors(const float *factors, size_t count, int *integers) {
    float largest = 0.0f;
    for (size_t i = 0; i < count; i++) {
        float size = fabsf(factors[i]);
        largest = size <= largest || isnan(largest) ? largest : size; /* a NaN wins, and stays */
    }
    struct fff_quantiser quantiser = fff_make_quantiser(largest, FFF_FACTOR_MOST);
    for (size_t i = 0; i < count; i++) {
        integers[i] = quantiser.factor > 0.0f ? (int)rintf(factors[i] * quantiser.factor) : 0;
    }
    return quantiser.scale;
}

/* One token's output of one tree of I8 rows with integer sums. */
static inline void add_integers(const struct fff_trees *trees, size_t tree, const uint32_t *nodes, const float *factors,
                                float *y) {
    int integers[FFF_MAX_DEPTH + 1];
    float unit = quantise_factors(factors, trees->level_count, integers);
    for (size_t column = 0; column < trees->output_width; column++) {
        struct fff_integer_place place = fff_integer_place(column, trees->output_width);
        int32_t sum = 0;
        for (size_t level = 0; level < trees->level_count; level++) {
            size_t row = tree * trees->node_count + nodes[level];
            unsigned char byte = trees->output_rows[row * trees->output_row_stride + place.byte];
            sum += integers[level] * (place.offset > 0 ? byte - place.offset : (int8_t)byte);
        }
        y[column] = fmaf((float)sum, unit, y[column]);
    }
}

static void KERNEL(accumulate)(const struct fff_trees *trees, size_t count, const uint32_t *tokens,
                               const uint32_t *nodes, const float *factors, unsigned write, float *output,
                               size_t output_stride) {
    size_t entries = trees->tree_count * trees->level_count;
    for (size_t i = 0; i < count; i++, nodes += entries, factors += entries) {
        float *y = output + tokens[i] * output_stride;
        for (size_t column = 0; column < trees->output_width && (write & FFF_WRITE_CONTINUE) == 0; column++) {
            y[column] = 0.0f;
        }
        if (ROW_TYPE == FFF_WEIGHT_I8 && fff_has_integer_sums(trees->level_count)) {
            for (size_t tree = 0; tree < trees->tree_count; tree++) {
                size_t entry = tree * trees->level_count;
                add_integers(trees, tree, nodes + entry, factors + entry, y);
            }
            continue;
        }
        for (size_t entry = 0; entry < entries; entry++) {
            size_t row = entry / trees->level_count * trees->node_count + nodes[entry];
            const unsigned char *weights = trees->output_rows + row * trees->output_row_stride;
            for (size_t column = 0; column < trees->output_width; column++) {
                y[column] = fmaf(factors[entry], weight_of(weights, column), y[column]);
            }
        }
    }
}

#endif
