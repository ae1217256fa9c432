/* A leaf layer in a layer file, as the module of arXiv 2308.14711 has it: depth, node_weights, node_biases, w1s, b1s,
 * w2s, b2s; and scales of those that are I8. */
#include "tools/files/tensors.h"

#include <stdlib.h>
#include <string.h>

/* As they lie in the file; numbers are float32. */
struct leaf_tensors {
    float *node_weights; /* nodes x input_width, or NULL where there are no nodes */
    float *node_biases;  /* nodes, or NULL */
    float *w1s;          /* leaves x input_width x leaf_width */
    float *b1s;          /* leaves x leaf_width, or NULL */
    float *w2s;          /* leaves x leaf_width x output_width */
    /* Of int8 weights, or NULL: one a node, and one a neuron each. */
    float *node_scales, *w1s_scales, *w2s_scales;
};

static const char NODE_SCALES[] = "node_weights_scales", W1S_SCALES[] = "w1s_scales", W2S_SCALES[] = "w2s_scales";

static void free_tensors(struct leaf_tensors *tensors) {
    free(tensors->node_weights);
    free(tensors->node_biases);
    free(tensors->w1s);
    free(tensors->b1s);
    free(tensors->w2s);
    free(tensors->node_scales);
    free(tensors->w1s_scales);
    free(tensors->w2s_scales);
}

static bool make_float32(const struct loading *loading, const struct leaf_tensors *from, size_t nodes,
                         const struct layer_data *part) {
    size_t in = part->input_width, width = part->leaf_width, out = part->output_width;
    size_t neurons = (part->trees << part->depth) * width;
    const struct integers integers[] = {
        {"node_weights", NODE_SCALES, from->node_weights, from->node_scales, nodes * in, in, 1},
        {"w1s", W1S_SCALES, from->w1s, from->w1s_scales, neurons * in, in * width, width},
        {"w2s", W2S_SCALES, from->w2s, from->w2s_scales, neurons * out, out, 1},
    };
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++) {
        if (!apply_scales(loading, &integers[i])) {
            return false;
        }
    }
    return true;
}

/* Nodes first, then neurons: one row of input weights each, and one bias. */
static bool join_inputs(const struct leaf_tensors *from, size_t nodes, struct layer_data *part) {
    size_t width = part->input_width, neurons = part->leaf_width;
    part->input_weights = allocate_matrix(part->rows, width);
    if (part->input_weights == NULL) {
        return false;
    }
    if (nodes > 0) {
        memcpy(part->input_weights, from->node_weights, nodes * width * sizeof(float));
    }
    for (size_t row = nodes; row < part->rows; row++) {
        size_t leaf = (row - nodes) / neurons, neuron = (row - nodes) % neurons;
        for (size_t i = 0; i < width; i++) {
            part->input_weights[row * width + i] = from->w1s[(leaf * width + i) * neurons + neuron];
        }
    }
    if (from->node_biases == NULL && from->b1s == NULL) {
        return true;
    }
    part->biases = calloc(part->rows, sizeof *part->biases);
    if (part->biases != NULL && from->node_biases != NULL) {
        memcpy(part->biases, from->node_biases, nodes * sizeof(float));
    }
    if (part->biases != NULL && from->b1s != NULL) {
        memcpy(part->biases + nodes, from->b1s, (part->rows - nodes) * sizeof(float));
    }
    return part->biases != NULL;
}

static bool join_outputs(const struct leaf_tensors *from, struct layer_data *part) {
    size_t rows = output_rows(part);
    part->output_weights = allocate_matrix(rows, part->output_width);
    for (size_t row = 0; row < rows && part->output_weights != NULL; row++) {
        for (size_t column = 0; column < part->output_width; column++) {
            part->output_weights[column * rows + row] = from->w2s[row * part->output_width + column];
        }
    }
    return part->output_weights != NULL;
}

/* node_biases are a column in the module, and a vector may be given. */
static size_t rank_of_biases(const struct loading *loading) {
    const fff_tensor *biases = find_tensor(loading, "node_biases");
    return biases != NULL && biases->rank == 1 ? 1 : 2;
}

static bool read_weights(const struct loading *loading, size_t nodes, struct layer_data *part) {
    size_t leaves = part->trees << part->depth, in = part->input_width, out = part->output_width;
    struct leaf_tensors from = {0};
    const struct wanted wanted[] = {
        {"node_weights", nodes > 0, WEIGHTS, 2, {nodes, in}, &from.node_weights, NULL},
        {"node_biases", false, HALVES_TOO, rank_of_biases(loading), {nodes, 1}, &from.node_biases, NULL},
        {"w1s", true, WEIGHTS, 3, {leaves, in, part->leaf_width}, &from.w1s, NULL},
        {"b1s", false, HALVES_TOO, 2, {leaves, part->leaf_width}, &from.b1s, NULL},
        {"w2s", true, WEIGHTS, 3, {leaves, part->leaf_width, out}, &from.w2s, NULL},
        {"b2s", false, HALVES_TOO, 2, {leaves, out}, &part->leaf_output_biases, NULL},
        {NODE_SCALES, is_i8(loading, "node_weights"), FLOAT32, 1, {nodes}, &from.node_scales, NULL},
        {W1S_SCALES, is_i8(loading, "w1s"), FLOAT32, 2, {leaves, part->leaf_width}, &from.w1s_scales, NULL},
        {W2S_SCALES, is_i8(loading, "w2s"), FLOAT32, 2, {leaves, part->leaf_width}, &from.w2s_scales, NULL},
    };
    size_t count = sizeof wanted / sizeof *wanted;
    bool ok = check_tensors(loading, wanted, count) && check_scales(loading, "node_weights", NODE_SCALES) &&
              check_scales(loading, "w1s", W1S_SCALES) && check_scales(loading, "w2s", W2S_SCALES) &&
              copy_tensors(loading, wanted, count);
    ok = ok && (!loading->copying || make_float32(loading, &from, nodes, part));
    if (ok && loading->copying) {
        ok = (join_inputs(&from, nodes, part) && join_outputs(&from, part)) ||
             FFF_FAIL(&loading->report, "out of memory");
    }
    free_tensors(&from);
    return ok;
}

/* The module keeps it as a scalar. */
static bool read_depth(const struct loading *loading, size_t *depth) {
    const fff_tensor *tensor = find_tensor(loading, "depth");
    const struct wanted wanted = {"depth", true, INT64, tensor != NULL && tensor->rank == 1, {1}, NULL, NULL};
    int64_t value;
    if (!check_tensors(loading, &wanted, 1) || tensor == NULL) {
        return false;
    }
    memcpy(&value, tensor->data, sizeof value);
    if (value < 0 || value > FFF_MAX_DEPTH) {
        return FFF_FAIL(&loading->report, "tensor '%sdepth' is %lld, which is not from 0 to %d", loading->prefix,
                        (long long)value, FFF_MAX_DEPTH);
    }
    *depth = (size_t)value;
    return true;
}

bool read_leaf_layer(const struct loading *loading, struct layer_data *part) {
    const fff_tensor *w1s = find_shaped(loading, "w1s", 3), *w2s = w1s != NULL ? find_shaped(loading, "w2s", 3) : NULL;
    part->trees = 1;
    if (w2s == NULL || !read_depth(loading, &part->depth) ||
        (find_metadata(loading, "trees") != NULL && !read_count(loading, "trees", UINT32_MAX, &part->trees))) {
        return false;
    }
    if (part->trees == 0 || w1s->shape[0] != part->trees << part->depth) {
        return FFF_FAIL(&loading->report, "tensor '%sw1s' has %zu leaves where %zu trees of depth %zu have %zu each",
                        loading->prefix, w1s->shape[0], part->trees, part->depth, (size_t)1 << part->depth);
    }
    part->input_width = w1s->shape[1];
    part->leaf_width = w1s->shape[2];
    part->output_width = w2s->shape[2];
    size_t nodes = part->trees * nodes_of_tree(part);      /* fewer than leaves, and these are in the file */
    part->rows = nodes + w1s->shape[0] * part->leaf_width; /* at most twice the neurons, likewise */
    return read_weights(loading, nodes, part);
}
