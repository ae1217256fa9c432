#include "layer/check_gradients.h"

#include "dispatch/dispatch.h"
#include "layer/known.h"
#include "layer/size.h"
#include "layer/visits.h"

enum { GRADIENT_MATRICES = 5, BORROWED_MATRICES = 7 }; /* of a part, at most */

/* Whether a list of neurons ascends and ends below their number, and of a leaf layer is made of whole leaves. */
static bool is_list(const struct fff_part *part, const fff_gradients *gradients) {
    size_t width = fff_max(part->leaves.width, 1);
    if (gradients->row_count % width != 0) {
        return false;
    }
    for (size_t i = 0; i < gradients->row_count; i++) {
        bool ascends = i == 0 || gradients->rows[i] > gradients->rows[i - 1];
        bool in_leaf =
            i % width == 0 ? gradients->rows[i] % width == 0 : gradients->rows[i] == gradients->rows[i - 1] + 1;
        if (!ascends || !in_leaf || gradients->rows[i] >= fff_neuron_count(part)) {
            return false;
        }
    }
    return true;
}

/* One part's gradients; adds those that are wanted to `matrices`. */
static fff_status check_part(const fff_layer *layer, size_t index, const fff_gradients *gradients,
                             struct fff_rows *matrices, size_t *count) {
    const struct fff_part *part = &layer->parts[index];
    bool leaf = part->leaves.width > 0;
    if ((!leaf && gradients->leaf_output_biases.data != NULL) || (index > 0 && gradients->output_bias != NULL)) {
        return FFF_ERROR_OPTION;
    }
    if (gradients->rows == NULL && gradients->row_count > 0) {
        return FFF_ERROR_NULL_POINTER;
    }
    size_t rows = gradients->rows != NULL ? gradients->row_count : fff_neuron_count(part);
    fff_status status = FFF_OK;
    const struct {
        const float *data;
        size_t rows, columns, stride;
    } all[] = {
        {gradients->input_weights.data, rows, layer->input_width, gradients->input_weights.stride},
        {gradients->output_weights.data, rows, layer->output_width, gradients->output_weights.stride},
        {gradients->leaf_output_biases.data, leaf ? rows / part->leaves.width : 0, layer->output_width,
         gradients->leaf_output_biases.stride},
        {gradients->biases, 1, rows, rows},
        {gradients->output_bias, 1, layer->output_width, layer->output_width},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0] && status == FFF_OK; i++) {
        if (all[i].data != NULL && all[i].rows > 0 && all[i].columns > 0) {
            status = fff_check_rows(all[i].data, all[i].rows, all[i].columns, all[i].stride, &matrices[*count]);
            *count += 1;
        }
    }
    return status;
}

/* Adds rows that are there, sizes in bytes. */
static void add_rows(const void *data, size_t rows, size_t size, size_t stride, struct fff_rows *matrices,
                     size_t *count) {
    uintptr_t start = (uintptr_t)data;
    if (data != NULL && rows > 0) {
        matrices[(*count)++] = (struct fff_rows){start, start + (rows - 1) * stride + size, rows, size, stride};
    }
}

/* The caller's memory that a part reads, BORROWED_MATRICES at most. */
static void add_borrowed(const fff_layer *layer, size_t index, struct fff_rows *matrices, size_t *count) {
    const struct fff_part *part = &layer->parts[index];
    if (!part->borrowed) {
        return;
    }
    const struct fff_trees *neurons = fff_neurons(part), *routers = &part->trees;
    const struct fff_leaves *leaves = &part->leaves;
    size_t rows = fff_neuron_count(part), nodes = routers->tree_count * routers->node_count;
    size_t of_nodes = nodes * sizeof(float), of_neurons = rows * sizeof(float);
    size_t in = layer->input_width * sizeof(float), out = layer->output_width * sizeof(float);
    add_rows(neurons->input_rows, rows, in, neurons->row_stride, matrices, count);
    add_rows(neurons->output_rows, rows, out, neurons->output_row_stride, matrices, count);
    add_rows(neurons->biases, 1, of_neurons, of_neurons, matrices, count);
    if (leaves->width > 0) {
        add_rows(routers->input_rows, nodes, in, routers->row_stride, matrices, count);
        add_rows(nodes > 0 ? routers->biases : NULL, 1, of_nodes, of_nodes, matrices, count);
        add_rows(leaves->bias_rows, routers->tree_count * leaves->count, out, leaves->bias_stride, matrices, count);
    }
    if (index == 0) {
        add_rows(layer->output_bias, 1, out, out, matrices, count);
    }
}

static bool overlaps_borrowed(const fff_layer *layer, const struct fff_rows *written) {
    for (size_t i = 0; i < layer->part_count; i++) {
        struct fff_rows matrices[1 + BORROWED_MATRICES] = {*written};
        size_t count = 1;
        add_borrowed(layer, i, matrices, &count);
        if (fff_any_overlap(matrices, 1, count)) {
            return true;
        }
    }
    return false;
}

fff_status fff_check_gradients(const fff_layer *layer, const fff_gradients *gradients) {
    size_t part = 0;
    for (const fff_gradients *each = gradients; each != NULL; each = each->next, part++) {
        struct fff_rows matrices[GRADIENT_MATRICES + 1];
        size_t count = 0;
        fff_status status = check_part(layer, part, each, matrices, &count);
        if (status == FFF_OK && each->row_count > 0) {
            status = fff_check_rows(each->rows, 1, each->row_count, each->row_count, &matrices[count]);
        }
        if (status != FFF_OK) {
            return status;
        }
        if (each->rows != NULL && !is_list(&layer->parts[part], each)) {
            return FFF_ERROR_NODE;
        }
    }
    return FFF_OK;
}

/* A part's gradients, and which part it is. */
struct of_part {
    const fff_gradients *gradients;
    size_t index;
};

/* Adds what is written of a part, or its list. Both were checked. */
static void add_part(const fff_layer *layer, struct of_part part, bool list, struct fff_rows *matrices, size_t *count) {
    const fff_gradients *each = part.gradients;
    if (!list) {
        (void)check_part(layer, part.index, each, matrices, count);
    } else if (each->row_count > 0) {
        (void)fff_check_rows(each->rows, 1, each->row_count, each->row_count, &matrices[(*count)++]);
    }
}

/* One part's gradients with one another, its list, the fixed matrices, and what the layer borrows. */
static bool part_overlaps(const fff_layer *layer, struct of_part part, const struct fff_rows *fixed, size_t fixed_count,
                          size_t fixed_written) {
    struct fff_rows matrices[GRADIENT_MATRICES + FFF_FIXED_MATRICES + 1];
    size_t count = 0, written, own;
    add_part(layer, part, false, matrices, &count);
    own = count;
    for (size_t i = 0; i < fixed_written; i++) {
        matrices[count++] = fixed[i];
    }
    written = count;
    for (size_t i = fixed_written; i < fixed_count; i++) {
        matrices[count++] = fixed[i];
    }
    add_part(layer, part, true, matrices, &count);
    for (size_t i = 0; i < own; i++) {
        if (overlaps_borrowed(layer, &matrices[i])) {
            return true;
        }
    }
    return fff_any_overlap(matrices, written, count);
}

/* Two parts' gradients and lists with each other's. */
static bool parts_overlap(const fff_layer *layer, struct of_part one, struct of_part other) {
    struct fff_rows matrices[2 * (GRADIENT_MATRICES + 1)];
    size_t count = 0, written;
    add_part(layer, one, false, matrices, &count);
    add_part(layer, other, false, matrices, &count);
    written = count;
    add_part(layer, one, true, matrices, &count);
    add_part(layer, other, true, matrices, &count);
    return fff_any_overlap(matrices, written, count);
}

static struct of_part next_of(struct of_part part) {
    return (struct of_part){part.gradients->next, part.index + 1};
}

bool fff_gradients_overlap(const fff_layer *layer, const fff_gradients *gradients, const struct fff_rows *fixed,
                           size_t count, size_t written) {
    for (size_t i = 0; i < written; i++) {
        if (overlaps_borrowed(layer, &fixed[i])) {
            return true;
        }
    }
    for (struct of_part one = {gradients, 0}; one.gradients != NULL; one = next_of(one)) {
        if (part_overlaps(layer, one, fixed, count, written)) {
            return true;
        }
        for (struct of_part other = next_of(one); other.gradients != NULL; other = next_of(other)) {
            if (parts_overlap(layer, one, other)) {
                return true;
            }
        }
    }
    return fff_any_overlap(fixed, written, count);
}

fff_status fff_check_trainable(const fff_layer *layer, const fff_gradients *gradients) {
    size_t count = 0;
    for (const fff_gradients *each = gradients; each != NULL && count <= layer->part_count; each = each->next) {
        count++; /* its `next` is believed if its size is right */
        if (each->struct_size < sizeof *each || !fff_rest_is_zero(each, each->struct_size, sizeof *each)) {
            return FFF_ERROR_STRUCT_SIZE;
        }
    }
    if (gradients != NULL && count != layer->part_count) {
        return FFF_ERROR_PARTS;
    }
    for (size_t i = 0; i < layer->part_count; i++) {
        const struct fff_part *part = &layer->parts[i];
        if (part->input_type != FFF_WEIGHT_F32 || part->output_type != FFF_WEIGHT_F32) {
            return FFF_ERROR_OPTION;
        }
        fff_status status = layer->any_sleef ? FFF_OK : fff_sleef_check_derivative(layer->isa, part->activation);
        if (status != FFF_OK) {
            return status;
        }
    }
    return FFF_OK;
}
