#include "tests/soak/reference.h"

#include <math.h>
#include <string.h>

/* ---- The backward pass -------------------------------------------------------------------------- */

/* A token on its way back. */
struct token {
    const float *input, *output_gradient;
    float *input_gradient;
};

static float factor_of(const struct reference_part *part) {
    return part->factor != NULL ? *part->factor : 1.0f;
}

static void add_neuron(const struct reference_part *part, size_t neuron, float logit, const struct token *token,
                       struct reference_gradients *to) {
    const struct reference_matrix *inputs = part->leaf_width > 0 ? &part->neurons : &part->nodes;
    size_t in = inputs->width, out = part->outputs.width;
    float factor = factor_of(part);
    float dot = reference_dot(out, token->output_gradient, part->outputs.numbers + neuron * out) + 0.0f;
    float upstream = factor * dot;
    float slope = upstream * reference_derivative(part->activation, logit);
    float activation = reference_activation(part->activation, logit);
    float scaled = factor == 1.0f ? activation : activation * factor;
    reference_add_row(in, slope, inputs->numbers + neuron * in, token->input_gradient);
    to->biases[neuron] = to->biases[neuron] + slope;
    reference_add_row(in, slope, token->input, to->input_weights + neuron * in);
    reference_add_row(out, scaled, token->output_gradient, to->output_weights + neuron * out);
    to->met[neuron] = true;
}

static void add_part(const struct reference_part *part, const uint32_t *nodes, const float *logits,
                     const struct token *token, struct reference_gradients *to) {
    size_t entries = reference_entries(part), out = part->outputs.width;
    for (size_t tree = 0; tree < part->trees; tree++, nodes += entries, logits += entries) {
        for (size_t entry = reference_routers(part); entry < entries; entry++) {
            add_neuron(part, reference_neuron(part, tree, nodes[entry]), logits[entry], token, to);
        }
        if (part->leaf_width > 0) {
            size_t leaf = reference_neuron(part, tree, nodes[part->depth]) / part->leaf_width;
            reference_add_row(out, factor_of(part), token->output_gradient, to->leaf_output_biases + leaf * out);
        }
    }
}

void reference_backward(const struct reference_layer *layer, const float *input, const uint32_t *nodes,
                        const float *logits, const float *output_gradient, float *input_gradient,
                        struct reference_gradients *parts, float *output_bias) {
    struct token token = {input, output_gradient, input_gradient};
    memset(input_gradient, 0, layer->input_width * sizeof *input_gradient);
    for (size_t i = 0; i < layer->part_count; i++) {
        const struct reference_part *part = &layer->parts[i];
        size_t entries = part->trees * reference_entries(part);
        add_part(part, nodes, logits, &token, &parts[i]);
        nodes += entries;
        logits += entries;
    }
    reference_add_row(layer->output_width, 1.0f, output_gradient, output_bias);
}

/* ---- AdamW ---------------------------------------------------------------------------------------- */

static double power(double b, uint64_t n) {
    double r = 1.0;
    for (; n > 0; n /= 2) {
        if (n % 2 == 1) {
            r = r * b;
        }
        b = b * b;
    }
    return r;
}

struct reference_adam reference_adam_step(const fff_adam *settings) {
    double shrink = settings->learning_rate * settings->weight_decay;
    double left = 1.0 - power(settings->beta2, settings->step);
    return (struct reference_adam){
        .beta1 = (float)settings->beta1,
        .beta2 = (float)settings->beta2,
        .take1 = (float)(1.0 - settings->beta1),
        .take2 = (float)(1.0 - settings->beta2),
        .epsilon = (float)settings->epsilon,
        .root = (float)(1.0 / sqrt(left)),
        .rate = (float)(settings->learning_rate / (1.0 - power(settings->beta1, settings->step))),
        .decay = (float)(1.0 - shrink),
    };
}

void reference_adam_weight(const struct reference_adam *step, float gradient, float *weight, float *first_moment,
                           float *second_moment) {
    float first = step->take1 * gradient, square = gradient * gradient;
    float second = step->take2 * square;
    float m = fmaf(step->beta1, *first_moment, first), v = fmaf(step->beta2, *second_moment, second);
    float denominator = fmaf(sqrtf(v), step->root, step->epsilon);
    float quotient = m / denominator, kept = step->decay * *weight;
    *weight = fmaf(-step->rate, quotient, kept);
    *first_moment = m;
    *second_moment = v;
}
