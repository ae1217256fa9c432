#include "tests/subject.h"

#include <stdlib.h>

float *random_floats(struct subject *s, enum fill kind, size_t count, uint64_t *state) {
    float *floats = test_allocate(count, sizeof *floats);
    fill_floats(kind, floats, count, state);
    s->owned[s->owned_count++] = floats;
    return floats;
}

static float *finite_floats(struct subject *s, size_t count, uint64_t *state) {
    return random_floats(s, chance(state, 2) ? FILL_FEW_VALUES : FILL_NORMAL, count, state);
}

static void make_part(struct subject *s, size_t index, size_t in, size_t out, enum fill kind, uint64_t *state) {
    fff_layer_desc *desc = &s->desc[index];
    size_t depth = random_below(state, 5), trees = 1 + random_below(state, 3);
    size_t width = chance(state, 3) ? 0 : 1 + random_below(state, chance(state, 8) ? 80 : 9);
    if (width == 0 && chance(state, 3)) { /* always-on neurons */
        depth = 0;
        trees = 1 + random_below(state, 40);
    }
    size_t leaves = trees << depth, nodes = width > 0 ? leaves - trees : 2 * leaves - trees;
    size_t neurons = width > 0 ? leaves * width : nodes;
    *desc = (fff_layer_desc){
        .struct_size = sizeof *desc,
        .input_width = in,
        .output_width = out,
        .depth = depth,
        .trees = trees,
        .activation = (fff_activation)random_below(state, FFF_ACTIVATION_COUNT),
        .routing = (fff_routing)random_below(state, 2),
        .sleef = FFF_SLEEF_ANY,
        .input_weights = {random_floats(s, kind, nodes * in, state), in, 1},
        .output_weights = {random_floats(s, kind, neurons * out, state), out, 1},
        .biases = chance(state, 2) ? random_floats(s, kind, nodes, state) : NULL,
        .thresholds = chance(state, 2) ? finite_floats(s, nodes, state) : NULL,
        .leaf_width = width,
    };
    s->path += trees * (width > 0 ? depth + width : depth + 1);
    if (chance(state, 2)) {
        fill_floats(FILL_NORMAL, &s->factors[index], 1, state);
        desc->factor = &s->factors[index];
    }
    if (width == 0) {
        return;
    }
    desc->leaf_weights = (fff_weights){random_floats(s, kind, neurons * in, state), in, 1};
    if (chance(state, 2)) { /* as PyTorch modules of this layer have them: leaves, inputs, neurons */
        desc->leaf_weights.node_stride = 1;
        desc->leaf_weights.column_stride = width;
        desc->leaf_stride = in * width;
    }
    desc->leaf_biases = chance(state, 2) ? random_floats(s, kind, neurons, state) : NULL;
    if (chance(state, 2)) {
        desc->leaf_output_biases = (fff_weights){random_floats(s, kind, leaves * out, state), out, 1};
    }
}

struct subject make_subject(enum fill kind, size_t in, size_t out, uint64_t *state) {
    struct subject s = {.parts = 1 + random_below(state, MOST_PARTS),
                        .tokens = 1 + random_below(state, is_short() ? 20 : FEW)};
    if (chance(state, is_short() ? 8 : 3)) {
        s.tokens = MANY / 4 + random_below(state, MANY);
    }
    s.input = random_floats(&s, kind, s.tokens * in, state);
    for (size_t i = 0; i < s.parts; i++) {
        make_part(&s, i, in, out, kind, state);
    }
    if (chance(state, 2)) {
        s.desc[0].output_bias = random_floats(&s, kind, out, state);
    }
    return s;
}

void link_parts(struct subject *s) {
    for (size_t i = 0; i + 1 < s->parts; i++) {
        s->desc[i].next = &s->desc[i + 1];
    }
    for (size_t i = 0; i < s->parts; i++) {
        if (s->desc[i].factor != NULL) {
            s->desc[i].factor = &s->factors[i];
        }
    }
}

void free_subject(struct subject *s) {
    for (size_t i = 0; i < s->owned_count; i++) {
        free(s->owned[i]);
    }
}

void count_rows(const fff_layer_desc *desc, size_t *nodes, size_t *neurons) {
    size_t leaves = desc->trees << desc->depth;
    *nodes = desc->leaf_width > 0 ? leaves - desc->trees : 2 * leaves - desc->trees;
    *neurons = leaves * desc->leaf_width;
}
