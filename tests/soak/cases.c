#include "tests/soak/cases.h"

#include "tests/soak/matrices.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *soak_own(struct soak_case *by, size_t count, size_t size) {
    if (by->owned_count == SOAK_MOST_OWNED) {
        abort();
    }
    void *memory = soak_allocate(count, size);
    by->owned[by->owned_count++] = memory;
    return memory;
}

float *soak_own_floats(struct soak_case *by, size_t count, enum numbers kind, uint64_t *state) {
    float *numbers = soak_own(by, count, sizeof *numbers);
    soak_fill(numbers, count, kind, state);
    return numbers;
}

/* What a part that borrows is given; NULL is nothing. */
static void lend(struct soak_case *of, const void *numbers, size_t count) {
    if (numbers != NULL) {
        of->borrowed[of->borrowed_count++] = (struct soak_borrowed){(float *)numbers, count};
    }
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

static enum size any_size(bool quick, uint64_t *state) {
    if (quick) {
        return chance(state, 5) ? USUAL : SMALL;
    }
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
    struct soak_place place = soak_any_row_major(leaves * width, in, state);
    if (desc->borrow == 0 && chance(state, 2)) { /* leaf by leaf, each transposed */
        place = (struct soak_place){width, in * width, 1, width, leaves * width * in};
        desc->leaf_stride = in * width;
    }
    struct soak_matrix neurons =
        soak_make_matrix(of, SOAK_INPUTS, leaves * width, in, desc->weight_type, stored, &place, state);
    desc->leaf_weights = neurons.view;
    desc->leaf_scales = neurons.given_scales;
    part->neurons = neurons.stored;
    part->leaf_biases = desc->leaf_biases =
        chance(state, 2) ? soak_own_floats(of, leaves * width, soak_any_kind(state), state) : NULL;
    if (chance(state, 2)) {
        float *biases = soak_own_floats(of, leaves * out, soak_any_kind(state), state);
        desc->leaf_output_biases = (fff_weights){biases, out, 1};
        part->leaf_output_biases = biases;
    }
}

/* Biases of which dot products are a few last places, and thresholds that are the bias or a neighbour of it: the
 * rounding of a logit decides on which side of the threshold it is. */
static void make_close(float *biases, float *thresholds, size_t count, uint64_t *state) {
    for (size_t i = 0; i < count; i++) {
        biases[i] = ldexpf(chance(state, 3) ? 1.0f : random_normal(state), (int)between(state, 21, 26));
        thresholds[i] = biases[i];
        float towards = chance(state, 2) ? INFINITY : -INFINITY;
        for (uint64_t steps = random_below(state, 3); steps > 0; steps--) {
            thresholds[i] = nextafterf(thresholds[i], towards);
        }
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
    struct soak_place input_place =
        desc->borrow ? soak_any_row_major(nodes, in, state) : soak_any_place(nodes, in, state);
    struct soak_place output_place =
        desc->borrow ? soak_any_row_major(outputs, out, state) : soak_any_place(outputs, out, state);
    if (nodes > 0) {
        struct soak_matrix matrix =
            soak_make_matrix(of, SOAK_INPUTS, nodes, in, desc->weight_type, stored_input, &input_place, state);
        desc->input_weights = matrix.view;
        desc->input_scales = matrix.given_scales;
        part->nodes = matrix.stored;
        part->exact_nodes = desc->routes == FFF_ROUTES_EXACT ? matrix.exact : NULL;
        float *biases = chance(state, 2) ? soak_own_floats(of, nodes, soak_any_kind(state), state) : NULL;
        float *thresholds = chance(state, 3) ? soak_own_floats(of, nodes, soak_finite_kind(state), state) : NULL;
        if (biases != NULL && thresholds != NULL && chance(state, 2)) {
            make_close(biases, thresholds, nodes, state);
        }
        part->biases = desc->biases = biases;
        part->thresholds = desc->thresholds = thresholds;
    }
    if (width > 0) {
        make_leaves(of, desc, part, stored_input, state);
    }
    struct soak_matrix matrix =
        soak_make_matrix(of, SOAK_OUTPUTS, outputs, out, given_output, stored_output, &output_place, state);
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

/* What a case takes, more or less: entries of all tokens' paths, times what an entry takes. */
static size_t work_of(enum size size, bool quick) {
    return quick ? 50000 : size == LONG ? 20000000 : size == WIDE ? 6000000 : 1000000;
}

void soak_make_case(struct soak_case *to, uint64_t seed, bool quick) {
    uint64_t start = seed, scrambled = random_bits(&start), *state = &scrambled;
    enum size size = any_size(quick, state);
    bool floats = chance(state, 2); /* all parts, so that there is a backward pass */
    *to = (struct soak_case){
        .quick = quick,
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
        to->desc[0].output_bias = soak_own_floats(to, to->output_width, soak_any_kind(state), state);
        lend(to, to->desc[0].borrow ? to->desc[0].output_bias : NULL, to->output_width);
    }
    to->layer =
        (struct reference_layer){to->input_width, to->output_width, to->part_count, to->parts, to->desc[0].output_bias};
    /* As many tokens as make a case's work about the same, but sometimes few. */
    size_t work = to->path * (to->input_width + to->output_width + 64);
    size_t most = work_of(size, quick) / work + 1;
    most = most > 4000 && size != LONG ? 4000 : most;
    to->tokens = size != LONG && chance(state, 4) ? between(state, 1, most) : most;
    to->input_type =
        chance(state, 3) ? (fff_weight_type)between(state, FFF_WEIGHT_BF16, FFF_WEIGHT_F16) : FFF_WEIGHT_F32;
    to->input_stride = to->input_width + (chance(state, 2) ? random_below(state, 4) : 0);
    size_t numbers = to->tokens * to->input_stride;
    to->input = soak_own_floats(to, numbers, soak_any_kind(state), state);
    if (to->input_type != FFF_WEIGHT_F32) {
        uint16_t *typed = soak_own(to, numbers, sizeof *typed);
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
