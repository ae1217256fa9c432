#include "tests/soak/cases.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *own(struct soak_case *by, size_t count, size_t size) {
    if (by->owned_count == SOAK_MOST_OWNED) {
        abort();
    }
    void *memory = soak_allocate(count, size);
    by->owned[by->owned_count++] = memory;
    return memory;
}

/* What a part that borrows is given; NULL is nothing. */
static void lend(struct soak_case *of, const void *numbers, size_t count) {
    if (numbers != NULL) {
        of->borrowed[of->borrowed_count++] = (struct soak_borrowed){(float *)numbers, count};
    }
}

static float *random_floats(struct soak_case *by, size_t count, enum numbers kind, uint64_t *state) {
    float *numbers = own(by, count, sizeof *numbers);
    soak_fill(numbers, count, kind, state);
    return numbers;
}

/* ---- Matrices --------------------------------------------------------------------------------- */

/* Where elements lie: row r, column c at (r / group) * group_stride + (r % group) * row_stride + c * column_stride. */
struct place {
    size_t group, group_stride, row_stride, column_stride, elements;
};

static struct place row_major(size_t rows, size_t stride) {
    return (struct place){rows + 1, 0, stride, 1, rows * stride};
}

/* With a few elements between rows or, mostly, none. */
static struct place any_row_major(size_t rows, size_t width, uint64_t *state) {
    return row_major(rows, width + (chance(state, 2) ? random_below(state, 4) : 0));
}

static struct place any_place(size_t rows, size_t width, uint64_t *state) {
    if (chance(state, 3)) {
        return (struct place){rows + 1, 0, 1, rows, rows * width};
    }
    return any_row_major(rows, width, state);
}

static size_t index_of(const struct place *place, size_t row, size_t column) {
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

/* A matrix as it is given, and what becomes of it. */
struct matrix {
    fff_weights view;
    const float *given_scales;
    struct reference_matrix stored;
    const float *exact; /* the given numbers as float32 */
};

static struct matrix make_matrix(struct soak_case *by, size_t rows, size_t width, fff_weight_type given,
                                 fff_weight_type stored, const struct place *place, uint64_t *state) {
    static const size_t SIZES[FFF_WEIGHT_TYPE_COUNT] = {4, 2, 2, 1};
    enum numbers kind = soak_any_kind(state);
    float *numbers = random_floats(by, rows * width, kind, state);
    float *scales = NULL;
    if (given == FFF_WEIGHT_I8) {
        scales = own(by, rows, sizeof *scales);
        for (size_t row = 0; row < rows; row++) {
            scales[row] =
                ldexpf(1.0f + (float)random_below(state, 1 << 23) * 0x1p-23f, (int)random_below(state, 12) - 10);
        }
    }
    float *exact = own(by, rows * width, sizeof *exact);
    void *data = own(by, place->elements, SIZES[given]);
    for (size_t i = 0; i < rows * width; i++) {
        if (given == FFF_WEIGHT_I8) {
            numbers[i] = (float)random_below(state, 255) - 127.0f;
            exact[i] = numbers[i] * scales[i / width];
        } else {
            numbers[i] = fits(numbers[i], given, stored) ? numbers[i] : random_normal(state);
            exact[i] = numbers[i] = reference_round(given, numbers[i]);
        }
        write_element(data, given, index_of(place, i / width, i % width), numbers[i]);
    }
    float *stored_scales = scales;
    if (stored == FFF_WEIGHT_I8 && given != FFF_WEIGHT_I8) {
        stored_scales = own(by, rows, sizeof *stored_scales);
        for (size_t row = 0; row < rows; row++) {
            stored_scales[row] = reference_to_integers(width, numbers + row * width, 127.0f);
        }
    }
    for (size_t i = 0; i < rows * width && stored != FFF_WEIGHT_I8; i++) {
        numbers[i] = reference_round(stored, exact[i]);
    }
    return (struct matrix){
        .view = {data, place->row_stride, place->column_stride},
        .given_scales = scales,
        .stored = {width, numbers, stored == FFF_WEIGHT_I8 ? stored_scales : NULL},
        .exact = exact,
    };
}

/* ---- Parts ------------------------------------------------------------------------------------ */

static void choose_types(fff_layer_desc *desc, bool floats, uint64_t *state) {
    if (floats) {
        desc->borrow = chance(state, 3);
        return;
    }
    desc->weight_type = chance(state, 2) ? FFF_WEIGHT_F32 : (fff_weight_type)random_below(state, FFF_WEIGHT_TYPE_COUNT);
    desc->output_weight_type = (fff_weight_choice)(chance(state, 2) ? 0 : random_below(state, FFF_CHOOSE_I8 + 1));
    desc->store_input = (fff_weight_choice)random_below(state, FFF_CHOOSE_I8 + 1);
    desc->store_output = (fff_weight_choice)random_below(state, FFF_CHOOSE_I8 + 1);
    desc->routes = chance(state, 2) ? FFF_ROUTES_EXACT : FFF_ROUTES_STORED;
}

/* Most cases are small, which makes many evaluations a second; few are as large as layers are, or nearly. Deep ones
 * have many tokens, which are sorted by subtrees; wide ones have columns enough to be shared among tasks; long ones
 * have so many tokens and neurons that a backward pass takes them in several chunks. */
enum size { SMALL, USUAL, DEEP, WIDE, LARGE, LONG };

static enum size any_size(uint64_t *state) {
    return chance(state, 400)   ? LARGE
           : chance(state, 400) ? LONG
           : chance(state, 100) ? WIDE
           : chance(state, 40)  ? DEEP
           : chance(state, 5)   ? USUAL
                                : SMALL;
}

static void choose_shape(fff_layer_desc *desc, enum size size, uint64_t *state) {
    if (size == SMALL) {
        desc->depth = random_below(state, 4);
        desc->trees = between(state, 1, desc->depth == 0 ? 4 : 2);
        desc->leaf_width = chance(state, 3) ? between(state, 1, 3) : 0;
        return;
    }
    if (size == DEEP) {
        desc->depth = between(state, 4, 10);
        desc->trees = between(state, 1, 2);
        desc->leaf_width = chance(state, 4) ? between(state, 1, 3) : 0;
        return;
    }
    if (size == LONG) {
        desc->depth = random_below(state, 3);
        desc->trees = between(state, 10, desc->depth == 0 ? 60 : 20);
        desc->leaf_width = chance(state, 4) ? between(state, 1, 4) : 0;
        return;
    }
    if (size == WIDE) {
        desc->depth = random_below(state, 5);
        desc->trees = between(state, 1, desc->depth == 0 ? 12 : 2);
        desc->leaf_width = chance(state, 4) ? between(state, 1, 3) : 0;
        return;
    }
    desc->depth = random_below(state, size == LARGE ? 9 : chance(state, 4) ? 7 : 4);
    desc->trees = between(state, 1, chance(state, 4) ? 5 : 2);
    desc->leaf_width = chance(state, 3) ? between(state, 1, chance(state, 6) ? 40 : 6) : 0;
    if (desc->leaf_width == 0 && chance(state, 6)) { /* a dense layer */
        desc->depth = 0;
        desc->trees = between(state, 1, 40);
    }
}

static fff_weight_type chosen(fff_weight_choice choice, fff_weight_type otherwise) {
    return choice == FFF_CHOOSE_DEFAULT ? otherwise : (fff_weight_type)(choice - 1);
}

/* The leaves' neurons and output biases. */
static void make_leaves(struct soak_case *of, fff_layer_desc *desc, struct reference_part *part, fff_weight_type stored,
                        uint64_t *state) {
    size_t in = of->input_width, out = of->output_width, leaves = desc->trees << desc->depth, width = desc->leaf_width;
    struct place place = any_row_major(leaves * width, in, state);
    if (desc->borrow == 0 && chance(state, 2)) { /* leaf by leaf, each transposed */
        place = (struct place){width, in * width, 1, width, leaves * width * in};
        desc->leaf_stride = in * width;
    }
    struct matrix neurons = make_matrix(of, leaves * width, in, desc->weight_type, stored, &place, state);
    desc->leaf_weights = neurons.view;
    desc->leaf_scales = neurons.given_scales;
    part->neurons = neurons.stored;
    part->leaf_biases = desc->leaf_biases =
        chance(state, 2) ? random_floats(of, leaves * width, soak_any_kind(state), state) : NULL;
    if (chance(state, 2)) {
        float *biases = random_floats(of, leaves * out, soak_any_kind(state), state);
        desc->leaf_output_biases = (fff_weights){biases, out, 1};
        part->leaf_output_biases = biases;
    }
}

static void make_part(struct soak_case *of, size_t index, enum size size, bool floats, uint64_t *state) {
    fff_layer_desc *desc = &of->desc[index];
    struct reference_part *part = &of->parts[index];
    size_t in = of->input_width, out = of->output_width;
    *desc = (fff_layer_desc){
        .struct_size = sizeof *desc,
        .input_width = in,
        .output_width = out,
        .activation = (fff_activation)random_below(state, FFF_ACTIVATION_COUNT),
        .routing = (fff_routing)random_below(state, 2),
        .sleef = FFF_SLEEF_ANY,
    };
    choose_shape(desc, size, state);
    choose_types(desc, floats || chance(state, 4), state);
    size_t leaves = desc->trees << desc->depth, width = desc->leaf_width;
    size_t nodes = width > 0 ? leaves - desc->trees : 2 * leaves - desc->trees;
    size_t outputs = width > 0 ? leaves * width : nodes;
    *part = (struct reference_part){
        .depth = desc->depth,
        .trees = desc->trees,
        .leaf_width = width,
        .activation = desc->activation,
        .routing = desc->routing,
    };
    fff_weight_type stored_input = chosen(desc->store_input, desc->weight_type);
    fff_weight_type given_output = chosen(desc->output_weight_type, desc->weight_type);
    fff_weight_type stored_output = chosen(desc->store_output, given_output);
    of->stored_input[index] = stored_input;
    of->stored_output[index] = stored_output;
    struct place input_place = desc->borrow ? any_row_major(nodes, in, state) : any_place(nodes, in, state);
    struct place output_place = desc->borrow ? any_row_major(outputs, out, state) : any_place(outputs, out, state);
    if (nodes > 0) {
        struct matrix matrix = make_matrix(of, nodes, in, desc->weight_type, stored_input, &input_place, state);
        desc->input_weights = matrix.view;
        desc->input_scales = matrix.given_scales;
        part->nodes = matrix.stored;
        part->exact_nodes = desc->routes == FFF_ROUTES_EXACT ? matrix.exact : NULL;
        part->biases = desc->biases = chance(state, 2) ? random_floats(of, nodes, soak_any_kind(state), state) : NULL;
        part->thresholds = desc->thresholds =
            chance(state, 3) ? random_floats(of, nodes, soak_finite_kind(state), state) : NULL;
    }
    if (width > 0) {
        make_leaves(of, desc, part, stored_input, state);
    }
    struct matrix matrix = make_matrix(of, outputs, out, given_output, stored_output, &output_place, state);
    desc->output_weights = matrix.view;
    desc->output_scales = matrix.given_scales;
    part->outputs = matrix.stored;
    if (chance(state, 3)) {
        of->factors[index] = soak_number(soak_finite_kind(state), state);
        part->factor = desc->factor = &of->factors[index];
    }
    reference_prepare(part);
    if (desc->borrow) {
        lend(of, desc->input_weights.data, nodes * desc->input_weights.node_stride);
        lend(of, desc->biases, nodes);
        lend(of, desc->leaf_weights.data, leaves * width * desc->leaf_weights.node_stride);
        lend(of, desc->leaf_biases, leaves * width);
        lend(of, desc->leaf_output_biases.data, leaves * out);
        lend(of, desc->output_weights.data, outputs * desc->output_weights.node_stride);
    }
    of->path += desc->trees * (width > 0 ? desc->depth + width : desc->depth + 1);
}

/* ---- Cases ------------------------------------------------------------------------------------ */

static size_t any_width(enum size size, uint64_t *state) {
    switch (size) {
    case SMALL: return between(state, 1, 12);
    case USUAL: return between(state, 1, chance(state, 3) ? 130 : 40);
    case DEEP: return between(state, 1, 24);
    case WIDE: return chance(state, 3) ? between(state, 1, 40) : between(state, 100, 3000);
    case LARGE: return between(state, 1, 800);
    case LONG: break;
    }
    return between(state, 1, 4);
}

void soak_make_case(struct soak_case *to, uint64_t seed) {
    uint64_t start = seed, scrambled = random_bits(&start), *state = &scrambled;
    enum size size = any_size(state);
    bool floats = chance(state, 2); /* all parts, so that there is a backward pass */
    *to = (struct soak_case){
        .input_width = any_width(size, state),
        .output_width = any_width(size, state),
        .part_count = chance(state, size == SMALL ? 6 : 2) ? between(state, 1, SOAK_MOST_PARTS) : 1,
    };
    for (size_t i = 0; i < to->part_count; i++) {
        make_part(to, i, size, floats, state);
        if (i > 0) {
            to->desc[i - 1].next = &to->desc[i];
        }
    }
    if (chance(state, 3)) {
        to->desc[0].output_bias = random_floats(to, to->output_width, soak_any_kind(state), state);
        lend(to, to->desc[0].borrow ? to->desc[0].output_bias : NULL, to->output_width);
    }
    to->layer =
        (struct reference_layer){to->input_width, to->output_width, to->part_count, to->parts, to->desc[0].output_bias};
    /* As many tokens as make a case's work about the same, but sometimes few. */
    size_t work = to->path * (to->input_width + to->output_width + 64);
    size_t most = (size == LONG ? 20000000 : size == WIDE ? 6000000 : 1000000) / work + 1;
    most = most > 4000 && size != LONG ? 4000 : most;
    to->tokens = size != LONG && chance(state, 4) ? between(state, 1, most) : most;
    to->input_type =
        chance(state, 3) ? (fff_weight_type)between(state, FFF_WEIGHT_BF16, FFF_WEIGHT_F16) : FFF_WEIGHT_F32;
    to->input_stride = to->input_width + (chance(state, 2) ? random_below(state, 4) : 0);
    size_t numbers = to->tokens * to->input_stride;
    to->input = random_floats(to, numbers, soak_any_kind(state), state);
    if (to->input_type != FFF_WEIGHT_F32) {
        uint16_t *typed = own(to, numbers, sizeof *typed);
        for (size_t i = 0; i < numbers; i++) {
            to->input[i] = reference_round(to->input_type, to->input[i]);
            typed[i] = reference_encode(to->input_type, to->input[i]);
        }
        to->typed_input = typed;
    } else {
        to->typed_input = to->input;
    }
}

void soak_flip_borrowed(const struct soak_case *of) {
    for (size_t i = 0; i < of->borrowed_count; i++) {
        for (size_t j = 0; j < of->borrowed[i].count; j++) {
            uint32_t bits;
            memcpy(&bits, &of->borrowed[i].numbers[j], sizeof bits);
            bits = ~bits;
            memcpy(&of->borrowed[i].numbers[j], &bits, sizeof bits);
        }
    }
}

void soak_free_case(struct soak_case *of) {
    for (size_t i = 0; i < of->owned_count; i++) {
        free(of->owned[i]);
    }
    of->owned_count = 0;
}

void soak_print_case(const struct soak_case *of) {
    printf("  %zu tokens, %zu wide in, %zu out, inputs of %s%s\n", of->tokens, of->input_width, of->output_width,
           fff_weight_type_name(of->input_type), of->layer.output_bias != NULL ? ", an output bias" : "");
    for (size_t i = 0; i < of->part_count; i++) {
        const fff_layer_desc *desc = &of->desc[i];
        fff_weight_type given_output = chosen(desc->output_weight_type, desc->weight_type);
        printf("  part %zu: %zux%zu, leaves %zu wide, activation %d, rule %d, input %s as %s, output %s as "
               "%s%s%s%s%s%s%s%s\n",
               i, desc->trees, desc->depth, desc->leaf_width, (int)desc->activation, (int)desc->routing,
               fff_weight_type_name(desc->weight_type),
               fff_weight_type_name(chosen(desc->store_input, desc->weight_type)), fff_weight_type_name(given_output),
               fff_weight_type_name(chosen(desc->store_output, given_output)),
               desc->routes == FFF_ROUTES_EXACT ? ", exact routes" : "", desc->borrow ? ", borrowed" : "",
               desc->biases != NULL ? ", biases" : "", desc->thresholds != NULL ? ", thresholds" : "",
               desc->factor != NULL ? ", factor" : "", desc->leaf_biases != NULL ? ", leaf biases" : "",
               desc->leaf_output_biases.data != NULL ? ", leaf output biases" : "");
    }
}
