/* Exact routes: each logit is that of the stored row, or, where it decides, of the float32 one. */
#include "tools/verify/bits.h"
#include "tools/verify/store_twin.h"

#include <stdlib.h>

/* A part of the layer, the stored numbers of it, and where its entries begin in a token's path. */
struct settled {
    const struct layer_data *part, *stored;
    size_t first_entry;
};

/* The logits of a token's path entries in a part, `all` being those of all its stored rows. */
static void settle_token(const struct store_check *check, const struct settled *of, const struct layer_results *results,
                         size_t token, const float *all, struct store_verdict *verdict) {
    const struct layer_data *part = of->part;
    size_t of_tree = entries_of_tree(part), first = token * layer_path_length(check->data) + of->first_entry;
    for (size_t i = 0; i < part->trees * of_tree; i++) {
        size_t entry = first + i, row = row_of_entry(part, i / of_tree, i % of_tree, results->nodes[entry]);
        float logit = results->logits[entry];
        bool decides = i % of_tree < part->depth, same_node = results->nodes[entry] == check->wide.nodes[entry];
        verdict->deciding += decides;
        if (!same_float(logit, all[row])) {
            bool wide = decides && same_node && same_float(logit, check->wide.logits[entry]);
            check->wide_entries[entry] = wide;
            verdict->float32_rows += wide;
            verdict->other_logits += !wide;
        }
    }
}

/* Depth 0 makes a root of every node, so that all stored rows of a part, neurons of leaves included, give their logits
 * for a token. `zeros` are output weights, one a row. */
static fff_status make_roots(const struct settled *of, bool as_integers, const float *zeros, struct twin *twin) {
    const struct layer_data *part = of->part;
    fff_layer_desc desc =
        as_integers ? layer_data_desc(part, FFF_ISA_GENERIC) : layer_data_float32_desc(of->stored, FFF_ISA_GENERIC);
    desc.depth = desc.leaf_width = 0;
    desc.trees = part->rows;
    desc.routes = FFF_ROUTES_STORED;
    desc.thresholds = desc.factor = desc.output_bias = desc.output_scales = desc.leaf_biases = NULL;
    desc.leaf_weights = desc.leaf_output_biases = (fff_weights){NULL, 0, 0};
    desc.output_width = 1;
    desc.output_weights = (fff_weights){zeros, 1, 1};
    desc.output_weight_type = desc.store_output = FFF_CHOOSE_F32;
    *twin = (struct twin){NULL, NULL, 0};
    return twin_give_workspace(fff_layer_create(&desc, &twin->layer), 1, twin);
}

static fff_status settle_part(const struct store_check *check, const struct settled *of,
                              const struct layer_results *results, struct store_verdict *verdict) {
    const struct layer_data *data = check->data;
    size_t rows = of->part->rows;
    uint32_t *roots = calloc(rows, sizeof *roots);
    float *logits = calloc(rows, sizeof *logits), *zeros = calloc(rows, sizeof *zeros);
    struct twin twin = {NULL, NULL, 0};
    fff_status status = FFF_ERROR_OUT_OF_MEMORY;
    if (roots != NULL && logits != NULL && zeros != NULL) {
        status = make_roots(of, verdict->input == FFF_WEIGHT_I8, zeros, &twin);
    }
    for (size_t token = 0; token < data->batch && status == FFF_OK; token++) {
        status = fff_route(twin.layer, 1, data->input + token * data->input_width, data->input_width, roots, rows,
                           logits, rows, twin.workspace, twin.size, NULL);
        if (status == FFF_OK) {
            settle_token(check, of, results, token, logits, verdict);
        }
    }
    twin_free(&twin);
    free(roots);
    free(logits);
    free(zeros);
    return status;
}

fff_status store_check_exact(struct store_check *check, const struct layer_results *results,
                             struct store_verdict *verdict) {
    check->wide_entries = calloc(verdict->nodes + 1, sizeof *check->wide_entries);
    fff_status status = check->wide_entries != NULL ? FFF_OK : FFF_ERROR_OUT_OF_MEMORY;
    struct settled of = {check->data, &check->stored, 0};
    while (of.part != NULL && status == FFF_OK) {
        status = settle_part(check, &of, results, verdict);
        of.first_entry += of.part->trees * entries_of_tree(of.part);
        of.part = of.part->next;
        of.stored = of.stored->next;
    }
    return status;
}
