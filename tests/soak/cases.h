/* Random layers, twice: as the library is told of them, and as the reference is. */
#ifndef FFF_TESTS_SOAK_CASES_H
#define FFF_TESTS_SOAK_CASES_H

#include "tests/soak/draw.h"
#include "tests/soak/reference.h"

enum { SOAK_MOST_PARTS = 4, SOAK_MOST_OWNED = SOAK_MOST_PARTS * 24 + 4 };

/* Memory whose floats a layer borrows. */
struct soak_borrowed {
    float *numbers;
    size_t count;
};

struct soak_case {
    bool quick;
    size_t tokens, input_width, output_width, part_count, path;
    fff_layer_desc desc[SOAK_MOST_PARTS]; /* each but the last linked to the next */
    struct reference_part parts[SOAK_MOST_PARTS];
    struct reference_layer layer;
    fff_weight_type stored_input[SOAK_MOST_PARTS], stored_output[SOAK_MOST_PARTS];
    float factors[SOAK_MOST_PARTS];
    fff_weight_type input_type; /* 16 bits: inputs are such numbers, for fff_forward_typed() */
    size_t input_stride;
    float *input;            /* tokens x input_width */
    const void *typed_input; /* the same numbers, as their type */
    struct soak_borrowed borrowed[SOAK_MOST_PARTS * 7 + 1];
    size_t borrowed_count;
    void *owned[SOAK_MOST_OWNED];
    size_t owned_count;
};

/* Memory, or random floats, that the case owns. */
void *soak_own(struct soak_case *by, size_t count, size_t size);
float *soak_own_floats(struct soak_case *by, size_t count, enum numbers kind, uint64_t *state);

/* The case that a seed stands for, or the quick one, which takes a twentieth of the time. The same seed makes the same
 * case on every machine. It must stay where it is. */
void soak_make_case(struct soak_case *to, uint64_t seed, bool quick);
void soak_free_case(struct soak_case *of);

/* Changes every number that the layer borrows or, the second time, changes them back. */
void soak_flip_borrowed(const struct soak_case *of);

/* For people: widths, tokens, and each part's shape, types and options. */
void soak_print_case(const struct soak_case *of);

#endif
