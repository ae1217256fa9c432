#include "tests/soak/reference.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* ---- Logits ----------------------------------------------------------------------------------- */

/* A token as the rows of a part want it. */
struct token {
    const float *input;
    const float *integers;
    float scale;
};

static float stored_logit(const struct reference_matrix *matrix, size_t row, const struct token *token, float bias) {
    const float *w = matrix->numbers + row * matrix->width;
    if (matrix->scales == NULL) {
        return reference_dot(matrix->width, token->input, w) + bias;
    }
    int64_t sum = 0;
    for (size_t i = 0; i < matrix->width; i++) {
        sum += (int64_t)token->integers[i] * (int64_t)w[i];
    }
    float scale = token->scale * matrix->scales[row];
    return fmaf((float)sum, scale, bias);
}

/* ---- Exact routes ------------------------------------------------------------------------------ */

enum choice { NARROW, EXACT, OPEN };

static double norm_of(size_t width, const float *numbers, double scale) {
    double sum = 0.0;
    for (size_t i = 0; i < width; i++) {
        sum += (double)numbers[i] * scale * ((double)numbers[i] * scale);
    }
    return sqrt(sum);
}

void reference_prepare(struct reference_part *part) {
    size_t width = part->nodes.width, leaves = part->trees << part->depth;
    size_t rows = part->leaf_width > 0 ? leaves - part->trees : 2 * leaves - part->trees;
    part->largest_norm = 0.0;
    for (size_t row = 0; row < rows && part->exact_nodes != NULL; row++) {
        double exact = norm_of(width, part->exact_nodes + row * width, 1.0);
        double scale = part->nodes.scales != NULL ? (double)part->nodes.scales[row] : 1.0;
        double stored = norm_of(width, part->nodes.numbers + row * width, scale);
        if (isfinite(exact) && isfinite(stored)) { /* else the row's bound is infinite as it is */
            part->largest_norm = fmax(part->largest_norm, fmax(exact, stored));
        }
    }
}

/* Which logit a node has, by the bound in "Exact routes". What the words do not fix, the rounding of the bound, is
 * within one part in 10000. */
static enum choice choose(const struct reference_part *part, size_t row, const struct token *token, float narrow,
                          float threshold) {
    size_t width = part->nodes.width;
    const float *exact = part->exact_nodes + row * width, *stored = part->nodes.numbers + row * width;
    bool integers = part->nodes.scales != NULL;
    double k = (double)((width + 31) / 32 + 5), u = 0x1p-24, gamma = k * u / (1 - k * u);
    double scale = integers ? (double)part->nodes.scales[row] : 1.0;
    double of_input = 0, of_exact = 0, of_stored = 0, of_difference = 0;
    for (size_t i = 0; i < width; i++) {
        double x = (double)token->input[i], w = (double)exact[i], s = (double)stored[i] * scale;
        of_input += x * x;
        of_exact += w * w;
        of_stored += s * s;
        of_difference += (w - s) * (w - s);
    }
    double input = sqrt(of_input), norm = sqrt(of_stored);
    double error =
        sqrt(of_difference) + gamma * sqrt(of_exact) + (integers ? 4 * u : gamma) * norm + (double)width * 0x1p-80;
    double token_error = integers ? 0.5001 * sqrt((double)width) * (double)token->scale : 0.0;
    double bound = input * error + token_error * norm;
    double size = fabs((double)narrow), rounding = 0.0;
    if (part->thresholds != NULL) {
        threshold = part->routing == FFF_ROUTING_GREATER ? threshold : nextafterf(threshold, -INFINITY);
        double difference = fabs((double)narrow - (double)threshold), both = size + fabs((double)threshold);
        size = difference - 0x1p-22 * both;
        rounding = 4 * u * (difference + 0x1p-22 * both);
    }
    if (!isfinite(bound) || !isfinite(narrow) || (size + rounding) * 1.0001 < bound || input < 0.9999 * 0x1p-30) {
        return EXACT;
    }
    /* Where a sum on its way may overflow nothing decides. The norm's square is a float32, too, and may overflow. */
    double limit = (double)FLT_MAX / 8.0, reach = input * part->largest_norm;
    if (reach > limit * 1.0001 || input > 0x1.001p64) {
        return EXACT;
    }
    bool certain = size - rounding > bound * 1.0001 && input > 1.0001 * 0x1p-30 && input < 0x1.ffp63 &&
                   reach < limit * 0.9999 && (!integers || part->nodes.scales[row] > 0x1p-59f);
    return certain ? NARROW : OPEN;
}

static bool same_bits(float a, float b) {
    return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b));
}

/* The logit of a node that has children. */
static float node_logit(const struct reference_part *part, size_t row, const struct token *token, float threshold,
                        float seen, uint64_t *open, bool *right) {
    float bias = part->biases != NULL ? part->biases[row] : 0.0f;
    float logit = stored_logit(&part->nodes, row, token, bias), router = logit;
    if (part->exact_nodes != NULL) {
        router = reference_dot(part->nodes.width, token->input, part->exact_nodes + row * part->nodes.width) + bias;
        enum choice choice = choose(part, row, token, logit, threshold);
        if (choice == OPEN && !same_bits(logit, router)) {
            *open += 1;
            choice = same_bits(seen, router) ? EXACT : NARROW;
        }
        logit = choice == EXACT ? router : logit;
    }
    *right = part->routing == FFF_ROUTING_GREATER ? router > threshold : router >= threshold;
    return logit;
}

/* ---- Sums ------------------------------------------------------------------------------------- */

/* What an entry of a path is multiplied by: of the output row `row`. */
static float factor_of(const struct reference_part *part, size_t row, float logit) {
    float factor = reference_activation(part->activation, logit);
    if (part->outputs.scales != NULL) {
        factor = factor * part->outputs.scales[row];
    }
    if (part->factor != NULL) {
        factor = *part->factor * factor;
    }
    return factor;
}

/* The rows of one path of a path sum. */
static void add_path(const struct reference_part *part, size_t first_row, const uint32_t *nodes, const float *logits,
                     float *output) {
    size_t width = part->outputs.width, levels = part->depth + 1;
    float factors[FFF_MAX_DEPTH + 1];
    for (size_t level = 0; level < levels; level++) {
        factors[level] = factor_of(part, first_row + nodes[level], logits[level]);
    }
    if (part->outputs.scales == NULL || part->depth <= 2) {
        for (size_t level = 0; level < levels; level++) {
            reference_add_row(width, factors[level], part->outputs.numbers + (first_row + nodes[level]) * width,
                              output);
        }
        return;
    }
    float unit = reference_to_integers(levels, factors, 32767.0f);
    for (size_t j = 0; j < width; j++) {
        int64_t sum = 0;
        for (size_t level = 0; level < levels; level++) {
            sum += (int64_t)factors[level] * (int64_t)part->outputs.numbers[(first_row + nodes[level]) * width + j];
        }
        output[j] = fmaf((float)sum, unit, output[j]);
    }
}

/* ---- Shapes ----------------------------------------------------------------------------------- */

size_t reference_nodes(const struct reference_part *part) {
    size_t leaves = (size_t)1 << part->depth;
    return part->leaf_width > 0 ? leaves - 1 : 2 * leaves - 1;
}

size_t reference_neurons(const struct reference_part *part) {
    return part->leaf_width > 0 ? (part->trees << part->depth) * part->leaf_width : part->trees * reference_nodes(part);
}

size_t reference_routers(const struct reference_part *part) {
    return part->leaf_width > 0 ? part->depth : 0;
}

size_t reference_entries(const struct reference_part *part) {
    return part->depth + (part->leaf_width > 0 ? part->leaf_width : 1);
}

size_t reference_neuron(const struct reference_part *part, size_t tree, uint32_t node) {
    size_t nodes = reference_nodes(part);
    return part->leaf_width > 0 ? (tree << part->depth) * part->leaf_width + node - nodes : tree * nodes + node;
}

/* ---- Layers ----------------------------------------------------------------------------------- */

static struct token make_token(size_t width, const float *input, float *scratch) {
    memcpy(scratch, input, width * sizeof *scratch);
    float scale = reference_to_integers(width, scratch, 127.0f);
    return (struct token){.input = input, .integers = scratch, .scale = scale};
}

static float at_or_zero(const float *numbers, size_t index) {
    return numbers != NULL ? numbers[index] : 0.0f;
}

static void route_tree(const struct reference_part *part, size_t tree, const struct token *token, const float *seen,
                       uint32_t *nodes, float *logits, uint64_t *open) {
    size_t node_count = reference_nodes(part), first_row = tree * node_count, entry = 0;
    uint32_t node = 0;
    for (; entry < part->depth; entry++) {
        bool right;
        nodes[entry] = node;
        logits[entry] = node_logit(part, first_row + node, token, at_or_zero(part->thresholds, first_row + node),
                                   seen[entry], open, &right);
        node = 2 * node + (right ? 2 : 1);
    }
    if (part->leaf_width == 0) {
        nodes[entry] = node;
        logits[entry] = stored_logit(&part->nodes, first_row + node, token, at_or_zero(part->biases, first_row + node));
        return;
    }
    size_t leaf = node - node_count;
    for (size_t j = 0; j < part->leaf_width; j++, entry++) {
        nodes[entry] = (uint32_t)(node_count + leaf * part->leaf_width + j);
        size_t row = reference_neuron(part, tree, nodes[entry]);
        logits[entry] = stored_logit(&part->neurons, row, token, at_or_zero(part->leaf_biases, row));
    }
}

void reference_route(const struct reference_layer *layer, const float *input, const float *seen, float *scratch,
                     uint32_t *nodes, float *logits, uint64_t *open) {
    struct token token = make_token(layer->input_width, input, scratch);
    for (size_t i = 0; i < layer->part_count; i++) {
        const struct reference_part *part = &layer->parts[i];
        size_t entries = reference_entries(part);
        for (size_t tree = 0; tree < part->trees; tree++) {
            route_tree(part, tree, &token, seen, nodes, logits, open);
            nodes += entries;
            logits += entries;
            seen += entries;
        }
    }
}

/* A leaf's neurons, then its output bias. */
static void add_leaf(const struct reference_part *part, size_t tree, const uint32_t *nodes, const float *logits,
                     float *output) {
    size_t width = part->outputs.width, first = reference_neuron(part, tree, nodes[part->depth]);
    for (size_t j = 0; j < part->leaf_width; j++) {
        float factor = factor_of(part, first + j, logits[part->depth + j]);
        reference_add_row(width, factor, part->outputs.numbers + (first + j) * width, output);
    }
    if (part->leaf_output_biases != NULL) {
        const float *biases = part->leaf_output_biases + first / part->leaf_width * width;
        reference_add_row(width, part->factor != NULL ? *part->factor : 1.0f, biases, output);
    }
}

void reference_accumulate(const struct reference_layer *layer, const uint32_t *nodes, const float *logits,
                          float *output) {
    for (size_t j = 0; j < layer->output_width; j++) {
        output[j] = at_or_zero(layer->output_bias, j);
    }
    for (size_t i = 0; i < layer->part_count; i++) {
        const struct reference_part *part = &layer->parts[i];
        size_t entries = reference_entries(part);
        for (size_t tree = 0; tree < part->trees; tree++, nodes += entries, logits += entries) {
            if (part->leaf_width > 0) {
                add_leaf(part, tree, nodes, logits, output);
            } else {
                add_path(part, tree * reference_nodes(part), nodes, logits, output);
            }
        }
    }
}

/* ---- Given rows ------------------------------------------------------------------------------- */

void reference_dot_rows(const struct reference_layer *layer, const float *input, size_t count, const uint32_t *rows,
                        float *scratch, float *logits) {
    const struct reference_part *part = &layer->parts[0];
    struct token token = make_token(layer->input_width, input, scratch);
    for (size_t e = 0; e < count; e++) {
        logits[e] = stored_logit(&part->nodes, rows[e], &token, at_or_zero(part->biases, rows[e]));
    }
}

void reference_sum_rows(const struct reference_layer *layer, size_t count, const uint32_t *rows, const float *factors,
                        float *output) {
    const struct reference_matrix *rows_of = &layer->parts[0].outputs;
    size_t width = layer->output_width;
    memset(output, 0, width * sizeof *output);
    for (size_t e = 0; e < count; e++) {
        float factor = rows_of->scales != NULL ? factors[e] * rows_of->scales[rows[e]] : factors[e];
        reference_add_row(width, factor, rows_of->numbers + rows[e] * width, output);
    }
}
