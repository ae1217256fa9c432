#include "layer/exact.h"

#include "kernels/half.h"
#include "kernels/toolbox.h"

#include <math.h>

/* A little more than a factor that covers the rounding of the bounds themselves. */
#define SLACK (1.0 + 0x1p-20)

/* What bounds a token's norm from below, squared: so no product of what is multiplied here underflows. */
#define LEAST_NORM_SQUARED 0x1p-60f
#define LEAST_SCALE 0x1p-60f
#define UNDERFLOW_A_COLUMN 0x1p-80

/* The least float that is not below. */
static float round_up(double value) {
    float rounded = (float)value;
    return (double)rounded < value ? nextafterf(rounded, INFINITY) : rounded;
}

/* How far a dot product of that width may be off, as a part of the product of norms: each product goes through the
 * additions of its chain and those of the halving tree. */
static double rounding_of_dot(size_t width) {
    size_t chain = (width + FFF_PARTIAL_SUMS - 1) / FFF_PARTIAL_SUMS;
    double product = (double)(chain + 5) * 0x1p-24;
    return product < 0.5 ? product / (1.0 - product) : INFINITY;
}

/* A stored weight, exactly. */
static double stored_weight(const struct fff_part *part, size_t row, size_t column) {
    const unsigned char *weights = part->trees.input_rows + row * part->trees.row_stride;
    switch (part->input_type) {
    case FFF_WEIGHT_BF16: return fff_widen_bf16(fff_load_u16(weights + 2 * fff_bf16_place(column)));
    case FFF_WEIGHT_F16: return fff_widen_f16(fff_load_u16(weights + 2 * column));
    case FFF_WEIGHT_I8: return (double)(int8_t)weights[column] * (double)part->trees.input_scales[row];
    case FFF_WEIGHT_F32: break;
    }
    float weight;
    memcpy(&weight, weights + 4 * column, sizeof weight);
    return weight;
}

void fff_measure_rows(struct fff_part *part) {
    const struct fff_trees *trees = &part->trees;
    size_t width = trees->input_width, rows = trees->tree_count * trees->node_count;
    float *errors = (float *)part->exact.errors, *norms = (float *)part->exact.norms; /* the layer's own memory */
    double rounding = rounding_of_dot(width), largest = 0.0;
    bool integers = part->input_type == FFF_WEIGHT_I8;
    for (size_t row = 0; row < rows; row++) {
        const unsigned char *exact = part->exact.trees.input_rows + row * part->exact.trees.row_stride;
        double of_error = 0.0, of_exact = 0.0, of_stored = 0.0;
        for (size_t column = 0; column < width; column++) {
            float weight;
            memcpy(&weight, exact + 4 * column, sizeof weight);
            double stored = stored_weight(part, row, column), error = stored - (double)weight;
            of_error += error * error;
            of_exact += (double)weight * (double)weight;
            of_stored += stored * stored;
        }
        double norm = sqrt(of_exact), stored_norm = sqrt(of_stored);
        double error = sqrt(of_error) + rounding * norm + (integers ? 0x1p-22 : rounding) * stored_norm +
                       (double)width * UNDERFLOW_A_COLUMN;
        bool bounded = isfinite(error) && !(integers && trees->input_scales[row] < LEAST_SCALE);
        errors[row] = bounded ? round_up(error * SLACK) : INFINITY;
        norms[row] = bounded ? round_up(stored_norm * SLACK) : INFINITY;
        if (bounded) {
            largest = fmax(largest, fmax(norm, stored_norm));
        }
    }
    /* of a square, each step of the chains, and of the columns beyond them, which come one by one */
    part->exact.norm_factor = round_up((1.0 + rounding + 0x1p-18) * SLACK);
    part->exact.error_factor = round_up(0.5001 * sqrt((double)width) * SLACK);
    /* Beyond it, a sum on its way could overflow in one of the two dot products only. */
    part->exact.norm_limit = (float)((double)FLT_MAX / 8.0 / fmax(largest, 1.0));
}

struct fff_exact_token fff_measure_token(const struct fff_part *part, const float *input,
                                         const unsigned char *quantised) {
    static const uint32_t ONLY = 0;
    static const float NO_BIAS = 0.0f;
    /* Kernels may read what lies behind a row's incomplete step, but nobody what lies behind an input. */
    size_t width = part->trees.input_width, whole = width - width % FFF_ROW_STEP;
    const struct fff_trees itself = {
        .input_rows = (const unsigned char *)input,
        .biases = &NO_BIAS,
        .input_bytes = whole * sizeof(float),
        .input_width = whole,
        .tree_count = 1,
        .level_count = 1,
        .node_count = 1,
    };
    float squared = 0.0f;
    if (whole > 0) {
        part->exact.node_dot(&itself, 0, 1, &ONLY, input, 0, &squared, 1);
    }
    for (size_t column = whole; column < width; column++) {
        squared += input[column] * input[column];
    }
    struct fff_exact_token token = {.input = input, .norm = sqrtf(squared) * part->exact.norm_factor};
    if (!(squared >= LEAST_NORM_SQUARED && token.norm <= part->exact.norm_limit)) {
        token.norm = INFINITY;
    }
    if (quantised != NULL) {
        token.error = fff_scale_of_quantised(quantised, width) * part->exact.error_factor;
    }
    return token;
}

/* ---- A token at its leaves -------------------------------------------------------------------- */

/* Whether a narrow row's logit leads where the float32 row's would. A bound that is infinite or NaN decides nothing,
 * nor does a logit. Rounding keeps a sum on its side of 0, but not of a threshold. */
static bool decided(const struct fff_part *part, const struct fff_exact_token *token, size_t row, float logit) {
    float bound = token->norm * part->exact.errors[row] + token->error * part->exact.norms[row];
    float size = fabsf(logit);
    if (part->trees.thresholds != NULL) {
        float threshold = part->trees.thresholds[row];
        size = fabsf(logit - threshold) - (fabsf(logit) + fabsf(threshold)) * 0x1p-22f;
    }
    return size > bound && size <= FLT_MAX;
}

/* One logit of one row, of this or that kind. */
static float logit_of(fff_node_dot_function *node_dot, const struct fff_trees *trees, size_t row, const void *input) {
    static const uint32_t ONLY = 0;
    float logit;
    node_dot(trees, row, 1, &ONLY, input, 0, &logit, 1);
    return logit;
}

bool fff_fetch_undecided(const struct fff_part *part, size_t first, size_t trees, const struct fff_exact_token *token,
                         const uint32_t *nodes, const float *logits) {
    size_t levels = part->trees.level_count, routing = fff_routing_levels(part);
    bool any = false;
    for (size_t tree = first; tree < first + trees; tree++, nodes += levels, logits += levels) {
        for (size_t level = 0; level < routing; level++) {
            size_t row = tree * part->trees.node_count + nodes[level];
            if (!decided(part, token, row, logits[level])) {
                const struct fff_trees *exact = &part->exact.trees;
                fff_fetch_l2(exact->input_rows + row * exact->row_stride, exact->input_bytes);
                any = true;
            }
        }
    }
    return any;
}

void fff_settle(const struct fff_part *part, size_t first, size_t trees, const struct fff_exact_token *token,
                const void *input, uint32_t *nodes, float *logits) {
    size_t levels = part->trees.level_count, routing = fff_routing_levels(part);
    for (size_t tree = first; tree < first + trees; tree++, nodes += levels, logits += levels) {
        bool again = false; /* it goes another way than by its narrow rows, from here on */
        for (size_t level = 0; level < levels; level++) {
            size_t row = tree * part->trees.node_count + nodes[level];
            if (again) {
                logits[level] = logit_of(fff_input_kernels(part)->node_dot, &part->trees, row, input);
            }
            if (level == routing) {
                break;
            }
            if (!decided(part, token, row, logits[level])) {
                logits[level] = logit_of(part->exact.node_dot, &part->exact.trees, row, token->input);
            }
            if (level + 1 < levels) {
                uint32_t child = fff_child(nodes[level], logits[level], fff_threshold_of(&part->trees, row));
                again = again || child != nodes[level + 1];
                nodes[level + 1] = child;
            }
        }
    }
}
