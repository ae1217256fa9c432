/* Random layers, twice: as the library is told of them, and as the reference is. */
#ifndef FFF_TESTS_SOAK_CASES_H
#define FFF_TESTS_SOAK_CASES_H

#include "tests/soak/reference.h"

enum { SOAK_MOST_PARTS = 4, SOAK_MOST_OWNED = SOAK_MOST_PARTS * 24 + 4 };

struct soak_case {
    size_t tokens, input_width, output_width, part_count, path;
    fff_layer_desc desc[SOAK_MOST_PARTS]; /* linked by soak_link() */
    struct reference_part parts[SOAK_MOST_PARTS];
    struct reference_layer layer;
    float factors[SOAK_MOST_PARTS];
    fff_weight_type input_type; /* 16 bits: inputs are such numbers, for fff_forward_typed() */
    float *input;               /* tokens x input_width */
    void *owned[SOAK_MOST_OWNED];
    size_t owned_count;
};

/* `count` elements of `size` bytes, zeros; ends the program if there is no memory. */
void *soak_allocate(size_t count, size_t size);

/* The case that a seed stands for. The same seed makes the same case on every machine. It must stay where it is. */
void soak_make_case(struct soak_case *to, uint64_t seed);
void soak_free_case(struct soak_case *of);

/* For people: widths, tokens, and each part's shape, types and options. */
void soak_print_case(const struct soak_case *of);

#endif
