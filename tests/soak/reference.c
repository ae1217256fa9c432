#include "tests/soak/reference.h"

#include "kernels/erf_f32.h" /* the table alone */

#include <float.h>
#include <math.h>
#include <sleef.h>
#include <string.h>

/* ---- Types ------------------------------------------------------------------------------------ */

/* A type of 16 bits: how many binary places follow the first digit, and the least exponent of a normal number. */
struct binary {
    int places, least_exponent;
    float largest;
};

static struct binary binary_of(fff_weight_type type) {
    return type == FFF_WEIGHT_BF16 ? (struct binary){7, -126, 0x1.fep127f} : (struct binary){10, -14, 65504.0f};
}

float reference_round(fff_weight_type type, float value) {
    if (type == FFF_WEIGHT_F32 || value == 0.0f || !isfinite(value)) {
        return value;
    }
    struct binary binary = binary_of(type);
    int exponent = ilogbf(value);
    double place = ldexp(1.0, (exponent > binary.least_exponent ? exponent : binary.least_exponent) - binary.places);
    double rounded = nearbyint((double)value / place) * place; /* all exact but the rounding to an integer */
    return fabs(rounded) > (double)binary.largest ? copysignf(INFINITY, value) : copysignf((float)rounded, value);
}

uint16_t reference_encode(fff_weight_type type, float value) {
    struct binary binary = binary_of(type);
    unsigned exponents = type == FFF_WEIGHT_BF16 ? 255 : 31, sign = signbit(value) ? 0x8000 : 0;
    if (!isfinite(value)) {
        return (uint16_t)(sign | exponents << binary.places | (isnan(value) ? 1u : 0u));
    }
    double size = fabs((double)value);
    if (size < ldexp(1.0, binary.least_exponent)) {
        return (uint16_t)(sign | (unsigned)ldexp(size, binary.places - binary.least_exponent));
    }
    int exponent = ilogb(size);
    unsigned fraction = (unsigned)(ldexp(size, binary.places - exponent) - ldexp(1.0, binary.places));
    return (uint16_t)(sign | (unsigned)(exponent - binary.least_exponent + 1) << binary.places | fraction);
}

/* The largest size; infinite if any number is not finite. */
static float largest_of(size_t count, const float *numbers) {
    float largest = 0.0f;
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(numbers[i])) {
            return INFINITY;
        }
        largest = fabsf(numbers[i]) > largest ? fabsf(numbers[i]) : largest;
    }
    return largest;
}

/* Numbers to integers up to `most` in size, and their unit. */
static float to_integers(size_t count, float *numbers, float most) {
    float largest = largest_of(count, numbers);
    if (!isfinite(largest) || largest < 0x1p-100f) {
        memset(numbers, 0, count * sizeof *numbers);
        return isfinite(largest) ? 1.0f : NAN;
    }
    float factor = most / largest;
    for (size_t i = 0; i < count; i++) {
        float product = numbers[i] * factor;
        numbers[i] = nearbyintf(product) + 0.0f; /* an integer 0 has no sign */
    }
    return largest / most;
}

float reference_quantise(size_t count, float *numbers) {
    return to_integers(count, numbers, 127.0f);
}

/* ---- Activations ------------------------------------------------------------------------------ */

/* erf(z / sqrt 2) */
static float scaled_erf(float z) {
    if (isnan(z)) {
        return z;
    }
    float d = fabsf(z) < 5.555f ? fabsf(z) : 5.555f;
    int k = (int)floorf(fmaf(d, 1.44f, 192.0f)) - 192;
    float v = d - FFF_ERF.centre[k];
    float p = FFF_ERF.factors[6][k];
    for (int i = 5; i >= 0; i--) {
        p = fmaf(p, v, FFF_ERF.factors[i][k]);
    }
    return copysignf(fmaf(p, v, k == 0 ? d : FFF_ERF.base[k]), z);
}

static float relu(float z) {
    return z <= 0.0f ? 0.0f : z;
}

static float gelu_tanh(float z) {
    const float root = 0.797884561f; /* of 2 / pi, rounded */
    float half = 0.5f * z, square = z * z;
    float cubic = 0.044715f * square;
    float inner = root * fmaf(cubic, z, z);
    float sum = 1.0f + Sleef_cinz_tanhf1_u10purec(inner);
    return half * sum;
}

static float activation(fff_activation kind, float z) {
    switch (kind) {
    case FFF_ACTIVATION_GELU: return fmaf(0.5f * z, scaled_erf(z), 0.5f * z);
    case FFF_ACTIVATION_GELU_TANH: return gelu_tanh(z);
    case FFF_ACTIVATION_RELU: return relu(z);
    case FFF_ACTIVATION_RELU2: return relu(z) * relu(z);
    case FFF_ACTIVATION_SILU: {
        float sum = 1.0f + Sleef_cinz_expf1_u10purec(-z);
        return z / sum;
    }
    case FFF_ACTIVATION_IDENTITY: return z;
    }
    return NAN;
}

/* ---- Logits ----------------------------------------------------------------------------------- */

static float float_logit(size_t width, const float *x, const float *w, float bias) {
    float s[32] = {0};
    for (size_t i = 0; i < (width + 31) / 32 * 32; i++) {
        s[i % 32] = i < width ? fmaf(x[i], w[i], s[i % 32]) : fmaf(0.0f, 0.0f, s[i % 32]);
    }
    for (size_t half = 16; half >= 1; half /= 2) {
        for (size_t j = 0; j < half; j++) {
            s[j] = s[j] + s[j + half];
        }
    }
    return s[0] + bias;
}

/* A token as the rows of a part want it. */
struct token {
    const float *input;
    const float *integers;
    float scale;
};

static float stored_logit(const struct reference_matrix *matrix, size_t row, const struct token *token, float bias) {
    const float *w = matrix->numbers + row * matrix->width;
    if (matrix->scales == NULL) {
        return float_logit(matrix->width, token->input, w, bias);
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
    double size = fabs((double)narrow - (double)threshold);
    if (!isfinite(bound) || !isfinite(narrow) || size * 1.0001 < bound || input < 0.9999 * 0x1p-30) {
        return EXACT;
    }
    /* Where a sum on its way may overflow nothing decides. The norm's square is a float32, too, and may overflow. */
    double limit = (double)FLT_MAX / 8.0, reach = input * part->largest_norm;
    if (reach > limit * 1.0001 || input > 0x1.001p64) {
        return EXACT;
    }
    bool certain = size > bound * 1.0001 && input > 1.0001 * 0x1p-30 && input < 0x1.ffp63 && reach < limit * 0.9999 &&
                   (!integers || part->nodes.scales[row] > 0x1p-59f);
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
        router = float_logit(part->nodes.width, token->input, part->exact_nodes + row * part->nodes.width, bias);
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
    float factor = activation(part->activation, logit);
    if (part->outputs.scales != NULL) {
        factor = factor * part->outputs.scales[row];
    }
    if (part->factor != NULL) {
        factor = *part->factor * factor;
    }
    return factor;
}

static void add_row(const float *row, size_t width, float factor, float *output) {
    for (size_t j = 0; j < width; j++) {
        output[j] = fmaf(factor, row[j], output[j]);
    }
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
            add_row(part->outputs.numbers + (first_row + nodes[level]) * width, width, factors[level], output);
        }
        return;
    }
    float unit = to_integers(levels, factors, 32767.0f);
    for (size_t j = 0; j < width; j++) {
        int64_t sum = 0;
        for (size_t level = 0; level < levels; level++) {
            sum += (int64_t)factors[level] * (int64_t)part->outputs.numbers[(first_row + nodes[level]) * width + j];
        }
        output[j] = fmaf((float)sum, unit, output[j]);
    }
}

/* ---- Layers ------------------------------------------------------------------------------------ */

/* One tree; returns how many entries its path has. */
static size_t add_tree(const struct reference_part *part, size_t tree, const struct token *token, const float *seen,
                       uint32_t *nodes, float *logits, float *output, uint64_t *open) {
    bool leaves = part->leaf_width > 0;
    size_t leaf_count = (size_t)1 << part->depth, node_count = leaves ? leaf_count - 1 : 2 * leaf_count - 1;
    size_t first_row = tree * node_count, entry = 0;
    uint32_t node = 0;
    for (; entry < part->depth; entry++) {
        float threshold = part->thresholds != NULL ? part->thresholds[first_row + node] : 0.0f;
        bool right;
        nodes[entry] = node;
        logits[entry] = node_logit(part, first_row + node, token, threshold, seen[entry], open, &right);
        node = 2 * node + (right ? 2 : 1);
    }
    if (!leaves) {
        size_t row = first_row + node;
        nodes[entry] = node;
        logits[entry] = stored_logit(&part->nodes, row, token, part->biases != NULL ? part->biases[row] : 0.0f);
        add_path(part, first_row, nodes, logits, output);
        return entry + 1;
    }
    size_t leaf = node - node_count, width = part->outputs.width;
    for (size_t j = 0; j < part->leaf_width; j++, entry++) {
        size_t row = (tree * leaf_count + leaf) * part->leaf_width + j;
        nodes[entry] = (uint32_t)(node_count + leaf * part->leaf_width + j);
        logits[entry] =
            stored_logit(&part->neurons, row, token, part->leaf_biases != NULL ? part->leaf_biases[row] : 0.0f);
        add_row(part->outputs.numbers + row * width, width, factor_of(part, row, logits[entry]), output);
    }
    if (part->leaf_output_biases != NULL) {
        add_row(part->leaf_output_biases + (tree * leaf_count + leaf) * width, width,
                part->factor != NULL ? *part->factor : 1.0f, output);
    }
    return entry;
}

void reference_token(const struct reference_layer *layer, const float *input, const float *seen, float *scratch,
                     uint32_t *nodes, float *logits, float *output, uint64_t *open) {
    struct token token = {.input = input, .integers = scratch};
    for (size_t i = 0; i < layer->input_width; i++) {
        scratch[i] = input[i];
    }
    token.scale = reference_quantise(layer->input_width, scratch);
    for (size_t j = 0; j < layer->output_width; j++) {
        output[j] = layer->output_bias != NULL ? layer->output_bias[j] : 0.0f;
    }
    for (size_t i = 0; i < layer->part_count; i++) {
        const struct reference_part *part = &layer->parts[i];
        for (size_t tree = 0; tree < part->trees; tree++) {
            size_t entries = add_tree(part, tree, &token, seen, nodes, logits, output, open);
            nodes += entries;
            logits += entries;
            seen += entries;
        }
    }
}
