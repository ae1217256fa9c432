/* Random matrices: as they are given, in memory of any order and type, and as a layer stores them. */
#ifndef FFF_TESTS_SOAK_MATRICES_H
#define FFF_TESTS_SOAK_MATRICES_H

#include "tests/soak/cases.h"

/* Where elements lie: row r, column c at (r / group) * group_stride + (r % group) * row_stride + c * column_stride. */
struct soak_place {
    size_t group, group_stride, row_stride, column_stride, elements;
};

/* Row after row, with a few elements between them or, mostly, none. */
struct soak_place soak_any_row_major(size_t rows, size_t width, uint64_t *state);
/* So, or column after column. */
struct soak_place soak_any_place(size_t rows, size_t width, uint64_t *state);

/* A matrix as it is given, and what becomes of it. */
struct soak_matrix {
    fff_weights view;
    const float *given_scales;
    struct reference_matrix stored;
    const float *exact; /* the given numbers as float32 */
};

enum soak_side { SOAK_INPUTS, SOAK_OUTPUTS };

/* Numbers that both types can hold; the case owns the memory. */
struct soak_matrix soak_make_matrix(struct soak_case *of, enum soak_side side, size_t rows, size_t width,
                                    fff_weight_type given, fff_weight_type stored, const struct soak_place *place,
                                    uint64_t *state);

#endif
