/* Layer by layer: each feedforward, given the very same input, against the dense definition. */
#include "tools/verify/model_part.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The largest difference between two outputs of the tokens whose paths agree. */
static double largest_difference(const struct part *part, const float *output, const uint32_t *nodes,
                                 const float *other_output, const uint32_t *other_nodes) {
    double largest = 0;
    for (size_t token = 0; token < part->checked; token++) {
        size_t entry = token * part->path, first = token * part->width;
        bool same = memcmp(nodes + entry, other_nodes + entry, part->path * sizeof *nodes) == 0;
        for (size_t i = first; i < first + part->width && same; i++) {
            double difference = fabs((double)output[i] - (double)other_output[i]);
            difference = isnan(difference) ? INFINITY : difference;
            largest = difference > largest ? difference : largest; /* fmax() here crashes gcc 12 for AArch64 */
        }
    }
    return largest;
}

/* One layer in all ways, on the input recorded in the first run. The masked result takes the place of a layer file's:
 * another program's, to be held against the definition. */
bool part_check_layer(const struct part *part, size_t layer) {
    const struct record *record = &part->runs[0];
    const fff_layer_desc desc = fff_bert_layer_desc(part->masked, layer);
    size_t values = part->tokens * part->width, entries = part->tokens * part->path; /* of a layer in the record */
    struct layer_data data;
    struct verdict verdicts[FFF_ISA_COUNT];
    struct store_verdict store;
    if (layer_data_copy(&data, &desc, part->checked, record->inputs + layer * values) != 0) {
        return part_out_of_memory(part);
    }
    uint32_t *nodes = calloc(entries + 1, sizeof *nodes);
    float *logits = calloc(entries + 1, sizeof *logits);
    data.expected_output = calloc(values, sizeof *data.expected_output);
    fff_status status = FFF_ERROR_OUT_OF_MEMORY;
    if (nodes != NULL && logits != NULL && data.expected_output != NULL) {
        status = fff_bert_feedforward_alone(part->masked, layer, part->checked, data.input, data.expected_output,
                                            part->path > 0 ? nodes : NULL, part->path > 0 ? logits : NULL);
    }
    if (status == FFF_OK) {
        struct layer_verdicts *sum = &part->verdict->layers[layer];
        double difference = largest_difference(part, record->outputs + layer * values, record->nodes + layer * entries,
                                               data.expected_output, nodes);
        sum->masked_difference = fmax(sum->masked_difference, difference);
        if (stored_input_type(&data) == FFF_WEIGHT_I8 || stored_output_type(&data) == FFF_WEIGHT_I8) {
            free(data.expected_output); /* int8 has another definition than the masked layer's */
            data.expected_output = NULL;
        }
        bool paths = part->path > 0 && data.expected_output != NULL;
        data.expected_path = paths ? (int32_t *)nodes : NULL; /* the same bits */
        status =
            verify_layer(&data, part->verdict->isas, part->verdict->isa_count, VERIFY_FEW_SPLITS, verdicts, &store);
        data.expected_path = NULL;
    }
    if (status == FFF_OK) {
        store_verdict_add(&part->verdict->layers[layer].store, &store);
    }
    for (size_t i = 0; i < part->verdict->isa_count && status == FFF_OK; i++) {
        verdict_add(&part->verdict->layers[layer].isas[i], &verdicts[i]);
    }
    layer_data_free(&data);
    free(nodes);
    free(logits);
    if (status != FFF_OK) {
        snprintf(part->error, part->error_size, "%s: layer %zu: %s", part->choice->directory, layer,
                 fff_status_text(status));
    }
    return status == FFF_OK;
}
