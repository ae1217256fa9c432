/* What the vector instruction sets share for the outputs of trees of int8 rows with integer sums: a token's factors as
 * integers, and the loops. They differ in integer_columns() and quantise_factors().
 *
 * One token at a time: what four tokens could share is two loads and four instructions of eight, for which they would
 * have to be compared pair by pair, and it is no faster (docs/trials.md).
 *
 * Everything here is inlined into the functions that use it; no copy is left to the linker. */
#ifndef FFF_KERNELS_INTEGER_SUMS_H
#define FFF_KERNELS_INTEGER_SUMS_H

#include "kernels/accumulate.h"
#include "kernels/half.h"

/* The rows of a token's path down one tree in pairs; one that is left over comes twice, the second time with factor 0.
 */
enum { FFF_PATH_ROWS = (FFF_MAX_DEPTH + 2) / 2 * 2 };
struct fff_integer_path {
    const unsigned char *rows[FFF_PATH_ROWS];
    int16_t factors[FFF_PATH_ROWS];
    size_t pairs;
    float unit;        /* of the factors */
    int32_t of_offset; /* what the offset of every second column of whole steps adds to its sum */
};

/* The folder's: output[c] = the sum of column `column` + c of a path, times its unit, `add`ed to what is there, for
 * `steps` times FFF_INTEGER_STEP columns; `stream`: by such stores. Steps, which begin with a whole one, are a constant
 * wherever this is inlined. */
FFF_INLINE void integer_columns(const struct fff_integer_path *path, size_t column, int steps, bool add, bool stream,
                                float *output);

/* The folder's: a token's factors in one tree, `count` of them. */
FFF_INLINE void quantise_factors(const float *factors, size_t count, struct fff_integer_path *path);

/* Numbers of less than 2^15 to the nearest integers, ties to even: what comes last in a float that is as large as its
 * mantissa is long. Of all it can be written in, compilers make vectors of this. */
FFF_INLINE int16_t fff_to_int16(float x) {
    return (int16_t)(fff_bits_of_float(x + 0x1.8p23f) & 0xffff);
}

/* It in plain C. */
FFF_INLINE void fff_quantise_factors(const float *factors, size_t count, struct fff_integer_path *path) {
    uint32_t largest = 0; /* sizes are ordered as their bits are, those of NaN above all */
    for (size_t i = 0; i < count; i++) {
        uint32_t size = fff_bits_of_float(factors[i]) & 0x7fffffff;
        largest = size > largest ? size : largest;
    }
    struct fff_quantiser quantiser = fff_make_quantiser(fff_float_of_bits(largest), FFF_FACTOR_MOST);
    int32_t sum = 0;
    path->unit = quantiser.scale;
    for (size_t i = 0; i < count; i++) {
        path->factors[i] = quantiser.factor > 0.0f ? fff_to_int16(factors[i] * quantiser.factor) : 0;
        sum += path->factors[i];
    }
    path->factors[count] = 0; /* of a single row's second time */
    path->of_offset = FFF_INTEGER_OFFSET * sum;
}

/* Those of the last columns that make no step: in the rows they come in their order, and have no offset. */
FFF_INLINE void fff_last_integer_columns(const struct fff_integer_path *path, size_t column, size_t count, bool add,
                                         float *output) {
    enum { TOGETHER = FFF_ROW_STEP / 2 };
    for (size_t start = 0; start < count; start += TOGETHER) {
        int32_t sums[TOGETHER] = {0};
        for (size_t i = 0; i < 2 * path->pairs; i++) {
            const unsigned char *row = path->rows[i] + column + start;
            for (int c = 0; c < TOGETHER; c++) { /* what is beyond the row is not stored */
                sums[c] += path->factors[i] * (int8_t)row[c];
            }
        }
        /* through a copy: of a conditional load compilers make a masked one, whose other lanes QEMU reads, too */
        float y[TOGETHER] = {0};
        size_t bytes = fff_min(count - start, TOGETHER) * sizeof *y;
        if (add) {
            memcpy(y, output + start, bytes);
        }
        for (int c = 0; c < TOGETHER; c++) {
            y[c] = __builtin_fmaf((float)sums[c], path->unit, y[c]);
        }
        memcpy(output + start, y, bytes);
    }
}

/* A token's output from one tree, `steps` steps at a time. */
FFF_INLINE void fff_sum_path(const struct fff_integer_path *path, size_t width, int steps, bool add, bool stream,
                             float *output) {
    size_t column = 0, at_once = steps * (size_t)FFF_INTEGER_STEP;
    for (; column + at_once <= width; column += at_once) {
        integer_columns(path, column, steps, add, stream, output + column);
    }
    for (; steps > 1 && column + FFF_INTEGER_STEP <= width; column += FFF_INTEGER_STEP) {
        integer_columns(path, column, 1, add, stream, output + column);
    }
    fff_last_integer_columns(path, column, width - column, add, output + column);
}

/* accumulate. */
FFF_INLINE void fff_sum_integers(const struct fff_trees *trees, size_t count, const uint32_t *tokens,
                                 const uint32_t *nodes, const float *factors, unsigned write, float *output,
                                 size_t output_stride, int steps) {
    size_t levels = trees->level_count;
    struct fff_integer_path path;
    path.pairs = (levels + 1) / 2;
    for (size_t i = 0; i < count; i++) {
        float *y = output + tokens[i] * output_stride;
        bool stream = trees->tree_count == 1 && fff_may_stream(write, y);
        const unsigned char *rows = trees->output_rows;
        for (size_t tree = 0; tree < trees->tree_count; tree++, nodes += levels, factors += levels) {
            for (size_t level = 0; level < levels; level++) {
                path.rows[level] = rows + nodes[level] * trees->output_row_stride;
            }
            path.rows[levels] = path.rows[levels - 1];
            quantise_factors(factors, levels, &path);
            fff_sum_path(&path, trees->output_width, steps, tree > 0 || (write & FFF_WRITE_CONTINUE) != 0, stream, y);
            rows += trees->node_count * trees->output_row_stride;
        }
    }
}

#endif
