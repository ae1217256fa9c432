/* What a backward pass is given, and what the reference says of it. */
#include "tests/soak/run.h"

#include <stdlib.h>
#include <string.h>

/* ---- Nodes and logits ------------------------------------------------------------------------------ */

/* One tree's entries, replaced by others that are allowed: any nodes of a path sum; of a leaf layer the neurons of any
 * leaf, and anything for the nodes that route. Some logits are replaced, too. */
static void disturb_tree(const struct reference_part *part, uint32_t *nodes, float *logits, uint64_t *state) {
    size_t node_count = reference_nodes(part), leaf = random_below(state, (uint64_t)1 << part->depth);
    for (size_t entry = 0; entry < reference_entries(part); entry++) {
        if (part->leaf_width == 0) {
            nodes[entry] = (uint32_t)random_below(state, node_count);
        } else if (entry < part->depth) {
            nodes[entry] = (uint32_t)random_bits(state);
        } else {
            nodes[entry] = (uint32_t)(node_count + leaf * part->leaf_width + entry - part->depth);
        }
        if (chance(state, 3)) {
            logits[entry] = soak_number(soak_any_kind(state), state);
        }
    }
}

static void disturb_token(const struct reference_layer *layer, uint32_t *nodes, float *logits, uint64_t *state) {
    for (size_t i = 0; i < layer->part_count; i++) {
        const struct reference_part *part = &layer->parts[i];
        size_t entries = reference_entries(part);
        for (size_t tree = 0; tree < part->trees; tree++, nodes += entries, logits += entries) {
            if (chance(state, 2)) {
                disturb_tree(part, nodes, logits, state);
            }
        }
    }
}

static void draw_paths(struct soak_backward *b, const struct soak_case *of, const struct soak_forward *forward,
                       uint64_t *state) {
    bool disturbed = chance(state, 2);
    b->node_stride = of->path + random_below(state, 3);
    b->logit_stride = of->path + random_below(state, 3);
    b->nodes = soak_allocate(of->tokens * b->node_stride, sizeof(uint32_t));
    b->logits = soak_allocate(of->tokens * b->logit_stride, sizeof(float));
    b->output = soak_allocate(of->tokens * of->output_width, sizeof(float));
    for (size_t t = 0; t < of->tokens; t++) {
        uint32_t *nodes = b->nodes + t * b->node_stride;
        float *logits = b->logits + t * b->logit_stride;
        memcpy(nodes, forward->nodes + t * of->path, of->path * sizeof *nodes);
        memcpy(logits, forward->logits + t * of->path, of->path * sizeof *logits);
        if (disturbed && chance(state, 3)) {
            disturb_token(&of->layer, nodes, logits, state);
        }
        reference_accumulate(&of->layer, nodes, logits, b->output + t * of->output_width);
    }
}

/* ---- Gradients ------------------------------------------------------------------------------------- */

static bool stores_floats(const struct soak_case *of) {
    for (size_t i = 0; i < of->part_count; i++) {
        if (of->stored_input[i] != FFF_WEIGHT_F32 || of->stored_output[i] != FFF_WEIGHT_F32) {
            return false;
        }
    }
    return true;
}

static size_t leaves_of(const struct reference_part *part) {
    return part->leaf_width > 0 ? part->trees << part->depth : 0;
}

static struct reference_gradients allocate_gradients(const struct soak_case *of, const struct reference_part *part) {
    size_t neurons = reference_neurons(part);
    return (struct reference_gradients){
        .input_weights = soak_allocate(neurons * of->input_width, sizeof(float)),
        .biases = soak_allocate(neurons, sizeof(float)),
        .output_weights = soak_allocate(neurons * of->output_width, sizeof(float)),
        .leaf_output_biases = soak_allocate(leaves_of(part) * of->output_width, sizeof(float)),
        .met = soak_allocate(neurons, sizeof(bool)),
    };
}

static void free_gradients(struct reference_gradients *gradients) {
    free(gradients->input_weights);
    free(gradients->biases);
    free(gradients->output_weights);
    free(gradients->leaf_output_biases);
    free(gradients->met);
}

static void fill_gradients(const struct soak_case *of, const struct reference_part *part,
                           struct reference_gradients *gradients, uint64_t *state) {
    size_t neurons = reference_neurons(part);
    enum numbers kind = soak_any_kind(state);
    soak_fill(gradients->input_weights, neurons * of->input_width, kind, state);
    soak_fill(gradients->biases, neurons, kind, state);
    soak_fill(gradients->output_weights, neurons * of->output_width, kind, state);
    soak_fill(gradients->leaf_output_biases, leaves_of(part) * of->output_width, kind, state);
}

static void copy_gradients(const struct soak_case *of, const struct reference_part *part,
                           struct reference_gradients *to, const struct reference_gradients *from) {
    size_t neurons = reference_neurons(part);
    memcpy(to->input_weights, from->input_weights, neurons * of->input_width * sizeof(float));
    memcpy(to->biases, from->biases, neurons * sizeof(float));
    memcpy(to->output_weights, from->output_weights, neurons * of->output_width * sizeof(float));
    memcpy(to->leaf_output_biases, from->leaf_output_biases, leaves_of(part) * of->output_width * sizeof(float));
}

static void add_tokens(const struct soak_backward *b, const struct soak_case *of, size_t first, size_t count,
                       struct reference_gradients *parts, float *output_bias) {
    for (size_t t = first; t < first + count; t++) {
        reference_backward(&of->layer, of->input + t * of->input_stride, b->nodes + t * b->node_stride,
                           b->logits + t * b->logit_stride, b->output_gradient + t * b->gradient_stride,
                           b->input_gradient + t * of->input_width, parts, output_bias);
    }
}

static void ask_for_gradients(struct soak_backward *b, const struct soak_case *of, uint64_t *state) {
    size_t out = of->output_width;
    b->gradient_stride = out + random_below(state, 3);
    b->output_gradient = soak_allocate(of->tokens * b->gradient_stride, sizeof(float));
    soak_fill(b->output_gradient, of->tokens * b->gradient_stride, soak_any_kind(state), state);
    b->input_gradient = soak_allocate(of->tokens * of->input_width, sizeof(float));
    b->start_bias = soak_allocate(out, sizeof(float));
    b->all_bias = soak_allocate(out, sizeof(float));
    b->some_bias = soak_allocate(out, sizeof(float));
    soak_fill(b->start_bias, out, soak_any_kind(state), state);
    memcpy(b->all_bias, b->start_bias, out * sizeof(float));
    memcpy(b->some_bias, b->start_bias, out * sizeof(float));
    for (size_t i = 0; i < of->part_count; i++) {
        b->start[i] = allocate_gradients(of, &of->parts[i]);
        b->all[i] = allocate_gradients(of, &of->parts[i]);
        b->some[i] = allocate_gradients(of, &of->parts[i]);
        fill_gradients(of, &of->parts[i], &b->start[i], state);
        copy_gradients(of, &of->parts[i], &b->all[i], &b->start[i]);
    }
    b->some_count = chance(state, 4) ? of->tokens : between(state, 1, of->tokens);
    b->some_first = random_below(state, of->tokens - b->some_count + 1);
    add_tokens(b, of, b->some_first, b->some_count, b->some, b->some_bias);
    add_tokens(b, of, 0, of->tokens, b->all, b->all_bias);
}

struct soak_backward soak_begin_backward(const struct soak_case *of, const struct soak_forward *forward,
                                         uint64_t *state) {
    struct soak_backward backward = {.has_gradients = stores_floats(of)};
    draw_paths(&backward, of, forward, state);
    if (backward.has_gradients) {
        ask_for_gradients(&backward, of, state);
    }
    return backward;
}

void soak_end_backward(struct soak_backward *backward, const struct soak_case *of) {
    for (size_t i = 0; backward->has_gradients && i < of->part_count; i++) {
        free_gradients(&backward->start[i]);
        free_gradients(&backward->all[i]);
        free_gradients(&backward->some[i]);
    }
    free(backward->nodes);
    free(backward->logits);
    free(backward->output);
    free(backward->output_gradient);
    free(backward->input_gradient);
    free(backward->start_bias);
    free(backward->all_bias);
    free(backward->some_bias);
}
