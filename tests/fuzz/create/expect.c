#include "tests/fuzz/create/description.h"

#include <math.h>
#include <string.h>

/* As a program of its version sees it, whose description ends sooner. */
static bool understand(const struct described *described, fff_layer_desc *d) {
    const fff_layer_desc *given = &described->desc;
    const size_t versions[] = {offsetof(fff_layer_desc, sleef), offsetof(fff_layer_desc, sleef) + sizeof(void *),
                               offsetof(fff_layer_desc, leaf_width), offsetof(fff_layer_desc, borrow)};
    bool known = false;
    for (size_t i = 0; i < sizeof versions / sizeof *versions; i++) {
        known = known || given->struct_size == versions[i];
    }
    if ((!known && given->struct_size < sizeof *d) || given->struct_size > LARGEST_DESC) {
        return false;
    }
    for (size_t i = sizeof *d; i < given->struct_size; i++) {
        if (described->tail[i - sizeof *d] != 0) {
            return false;
        }
    }
    memset(d, 0, sizeof *d);
    memcpy(d, given, given->struct_size < sizeof *d ? given->struct_size : sizeof *d);
    if (given->struct_size == versions[1]) {
        d->output_weight_type = FFF_CHOOSE_DEFAULT; /* then nothing but padding */
    }
    return true;
}

static size_t element_of(fff_weight_type type) {
    return type == FFF_WEIGHT_F32 ? 4 : type == FFF_WEIGHT_I8 ? 1 : 2;
}

/* All matrices and lists of a part. */
struct part {
    size_t nodes, leaves, neurons;
    struct matrix weights[4]; /* of nodes, of outputs, of leaves, of leaves' output biases */
    struct matrix leaf;       /* those of one leaf */
    struct matrix lists[8];
    bool narrow;
};

static struct matrix matrix_of(const fff_weights *weights, size_t element, size_t rows, size_t columns) {
    return (struct matrix){weights->data, element, rows, weights->node_stride, columns, weights->column_stride, false};
}

static struct matrix list_of(const float *floats, size_t count) {
    return (struct matrix){floats, sizeof(float), floats != NULL, 0, count, 1, false};
}

static fff_weight_type given_output(const fff_layer_desc *d) {
    return d->output_weight_type == FFF_CHOOSE_DEFAULT ? d->weight_type : (fff_weight_type)(d->output_weight_type - 1);
}

/* False if there are too many nodes and neurons to count. */
static bool find_matrices(const fff_layer_desc *d, struct part *part) {
    size_t leaves = size_times(d->trees, (size_t)1 << d->depth);
    bool leaf = d->leaf_width > 0;
    if (leaves > UINT32_MAX || size_times(leaves, d->leaf_width) > UINT32_MAX) {
        return false;
    }
    part->leaves = leaves;
    part->neurons = part->leaves * d->leaf_width;
    part->nodes = leaf ? part->leaves - d->trees : 2 * part->leaves - d->trees;
    if (part->nodes + part->neurons > UINT32_MAX) {
        return false;
    }
    fff_weight_type out = given_output(d);
    size_t of_nodes = element_of(d->weight_type);
    size_t together = size_times(d->leaf_width, d->leaf_weights.node_stride);
    bool in_leaves = leaf && d->leaf_stride > 0 && d->leaf_stride != together;
    part->weights[0] = matrix_of(&d->input_weights, of_nodes, part->nodes, d->input_width);
    part->weights[1] =
        matrix_of(&d->output_weights, element_of(out), leaf ? part->neurons : part->nodes, d->output_width);
    part->weights[2] = matrix_of(&d->leaf_weights, of_nodes, part->neurons, d->input_width);
    part->weights[3] = matrix_of(&d->leaf_output_biases, 4, part->leaves, d->output_width);
    if (!leaf || d->leaf_output_biases.data == NULL) {
        part->weights[3].rows = 0;
    }
    part->leaf = part->weights[2];
    part->leaf.rows = 0;
    if (in_leaves) { /* leaves as rows of one column, each as long as a leaf is from its first weight to its last */
        part->leaf.rows = d->leaf_width;
        size_t length =
            (d->leaf_width - 1) * d->leaf_weights.node_stride + (d->input_width - 1) * d->leaf_weights.column_stride;
        part->weights[2] =
            (struct matrix){d->leaf_weights.data, of_nodes, part->leaves, d->leaf_stride, length + 1, 1, false};
    }
    const struct matrix lists[] = {
        list_of(d->biases, part->nodes),
        list_of(d->input_scales, part->nodes),
        list_of(d->output_scales, part->weights[1].rows),
        list_of(d->leaf_scales, part->neurons),
        list_of(d->leaf_biases, part->neurons),
        list_of(d->thresholds, part->nodes),
        list_of(d->factor, 1),
        list_of(d->output_bias, d->output_width),
    };
    memcpy(part->lists, lists, sizeof lists);
    part->narrow = d->weight_type != FFF_WEIGHT_F32 || out != FFF_WEIGHT_F32 || d->store_input > FFF_CHOOSE_F32 ||
                   d->store_output > FFF_CHOOSE_F32;
    return true;
}

static bool options_are_known(const fff_layer_desc *d) {
    bool borrows = d->borrow == 1;
    bool float32 = d->weight_type == FFF_WEIGHT_F32 && d->output_weight_type <= FFF_CHOOSE_F32 &&
                   d->store_input <= FFF_CHOOSE_F32 && d->store_output <= FFF_CHOOSE_F32;
    bool leaf_only = d->leaf_weights.data != NULL || d->leaf_stride > 0 || d->leaf_scales != NULL ||
                     d->leaf_biases != NULL || d->leaf_output_biases.data != NULL;
    return (int)d->activation < FFF_ACTIVATION_COUNT && (int)d->routing < 2 && (int)d->sleef < 2 &&
           (int)d->weight_type < FFF_WEIGHT_TYPE_COUNT && d->output_weight_type <= FFF_CHOOSE_I8 &&
           d->store_input <= FFF_CHOOSE_I8 && d->store_output <= FFF_CHOOSE_I8 && (int)d->routes < 2 &&
           (d->borrow == 0 || (borrows && float32)) && (d->leaf_width > 0 || !leaf_only);
}

static bool columns_are_together(const struct matrix *m) {
    return m->rows == 0 || m->columns == 1 || m->column_stride == 1;
}

static bool scales_are_right(const fff_weights *weights, const float *scales, fff_weight_type type, size_t rows) {
    return weights->data == NULL || rows == 0 || (scales != NULL) == (type == FFF_WEIGHT_I8);
}

static bool are_finite(const float *floats, size_t count) {
    for (size_t i = 0; i < count && floats != NULL; i++) {
        if (!isfinite(floats[i])) {
            return false;
        }
    }
    return true;
}

/* What is wrong with a part before any of its numbers is read. */
static bool is_possible(const fff_layer_desc *d, struct part *part) {
    if (d->input_width == 0 || d->output_width == 0 || d->trees == 0 || d->depth > FFF_MAX_DEPTH ||
        !options_are_known(d) || !find_matrices(d, part)) {
        return false;
    }
    bool possible = matrix_is_possible(&part->leaf);
    for (size_t i = 0; i < sizeof part->weights / sizeof *part->weights; i++) {
        possible = possible && matrix_is_possible(&part->weights[i]);
    }
    for (size_t i = 0; i < sizeof part->lists / sizeof *part->lists; i++) {
        possible = possible && (uintptr_t)part->lists[i].data % sizeof(float) == 0;
    }
    bool rows = d->borrow == 0 || part->leaf.rows <= 1 || part->leaves == 1;
    for (size_t i = 0; i < sizeof part->weights / sizeof *part->weights; i++) {
        rows = rows && (d->borrow == 0 || columns_are_together(&part->weights[i]));
    }
    return possible && rows && (d->borrow == 0 || part->leaf.rows == 0 || columns_are_together(&part->leaf));
}

enum expectation expect(const struct described *parts, size_t count) {
    bool there = true, by_weights = false, scales = true;
    fff_layer_desc first = {0};
    for (size_t i = 0; i < count; i++) {
        fff_layer_desc d;
        struct part part;
        if (!understand(&parts[i], &d) || !is_possible(&d, &part)) {
            return REFUSED;
        }
        for (size_t list = 0; list < sizeof part.lists / sizeof *part.lists; list++) {
            there = there && matrix_is_there(&part.lists[list]);
        }
        for (size_t m = 0; m < sizeof part.weights / sizeof *part.weights; m++) {
            there = there && matrix_is_there(&part.weights[m]);
        }
        if (!there) {
            return A_LIE;
        }
        if (i == 0) {
            first = d;
        }
        bool belongs = i == 0 || (d.input_width == first.input_width && d.output_width == first.output_width &&
                                  (d.isa == FFF_ISA_AUTO || d.isa == first.isa) &&
                                  (d.sleef == FFF_SLEEF_RECORDED || d.sleef == first.sleef) && d.output_bias == NULL);
        if (!are_finite(d.thresholds, part.nodes) || !are_finite(d.factor, 1) || !belongs ||
            (unsigned)d.isa >= FFF_ISA_COUNT) {
            return REFUSED;
        }
        by_weights = by_weights || part.narrow;
        scales = scales && scales_are_right(&d.input_weights, d.input_scales, d.weight_type, part.nodes) &&
                 scales_are_right(&d.output_weights, d.output_scales, given_output(&d), part.weights[1].rows) &&
                 scales_are_right(&d.leaf_weights, d.leaf_scales, d.weight_type, part.neurons);
        if (d.next == NULL) {
            break;
        }
    }
    return !scales ? REFUSED : by_weights ? BY_WEIGHTS : ALLOWED;
}
