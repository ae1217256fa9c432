#include "layer/nodes.h"

/* Whether a token's entries in one tree of a leaf layer name the neurons of a leaf, in order, after its nodes. */
static bool names_a_leaf(const struct fff_part *part, const uint32_t *nodes) {
    size_t width = part->leaves.width, first = part->trees.node_count, neuron = nodes[0] - first;
    if (nodes[0] < first || neuron >= part->leaves.count * width || neuron % width != 0) {
        return false;
    }
    for (size_t j = 1; j < width; j++) {
        if (nodes[j] != nodes[0] + j) {
            return false;
        }
    }
    return true;
}

/* One token's entries in one part. */
static bool are_nodes(const struct fff_part *part, const uint32_t *nodes) {
    size_t levels = part->trees.level_count;
    for (size_t tree = 0; tree < part->trees.tree_count; tree++, nodes += levels + part->leaves.width) {
        for (size_t level = 0; level < levels && part->leaves.width == 0; level++) {
            if (nodes[level] >= part->trees.node_count) {
                return false;
            }
        }
        if (part->leaves.width > 0 && !names_a_leaf(part, nodes + levels)) {
            return false;
        }
    }
    return true;
}

fff_status fff_check_nodes(const fff_layer *layer, size_t batch, const uint32_t *nodes, size_t node_stride) {
    for (size_t t = 0; t < batch; t++) {
        const uint32_t *of_part = nodes + t * node_stride;
        for (size_t i = 0; i < layer->part_count; i++) {
            if (!are_nodes(&layer->parts[i], of_part)) {
                return FFF_ERROR_NODE;
            }
            of_part += layer->parts[i].path_length;
        }
    }
    return FFF_OK;
}
