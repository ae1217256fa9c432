/* What a layer computes, in plain loops, written from the words of docs/numerics.md alone: for every kind of part and
 * every stored type. It shares nothing with the library but SLEEF's exp and tanh and the table of erf, which are part
 * of the definition. tests/soak/soak.c holds the library against it. */
#ifndef FFF_TESTS_SOAK_REFERENCE_H
#define FFF_TESTS_SOAK_REFERENCE_H

#include <fff/fff.h>
#include <stdbool.h>

/* A matrix as a layer stores it, row after row: numbers of float32, bfloat16 or float16 as the floats that they are,
 * integers as floats, too, with a scale for each row. */
struct reference_matrix {
    size_t width;
    float *numbers;
    float *scales; /* NULL where numbers are no integers */
};

struct reference_part {
    size_t depth, trees, leaf_width;
    fff_activation activation;
    fff_routing routing;
    struct reference_matrix nodes, neurons, outputs; /* neurons: of leaves */
    const float *exact_nodes;                        /* the given rows of nodes, where routes are exact; else NULL */
    double largest_norm;                             /* of these and of the stored ones: reference_prepare() */
    const float *biases, *leaf_biases, *leaf_output_biases, *thresholds, *factor; /* or NULL */
};

struct reference_layer {
    size_t input_width, output_width, part_count;
    const struct reference_part *parts;
    const float *output_bias; /* or NULL */
};

/* The number nearest to `value` that the type can hold, ties to even; of FFF_WEIGHT_F32 the value itself. Not for int8.
 */
float reference_round(fff_weight_type type, float value);
/* The 16 bits of a number that FFF_WEIGHT_BF16 or FFF_WEIGHT_F16 can hold. */
uint16_t reference_encode(fff_weight_type type, float value);

/* Replaces numbers, as a row of weights or a token's input, by integers, and returns their scale. */
float reference_quantise(size_t count, float *numbers);

/* Fills in what is known of a part before its tokens come. */
void reference_prepare(struct reference_part *part);

/* One token: its path, in the order of fff_route(), and its output. The words leave a little room in which of two
 * logits a node with exact routes has, since they do not say how its bound is rounded: there the one that is `seen` is
 * taken, if it is one of the two, and *open counts it. `scratch` has room for input_width floats. */
void reference_token(const struct reference_layer *layer, const float *input, const float *seen, float *scratch,
                     uint32_t *nodes, float *logits, float *output, uint64_t *open);

#endif
