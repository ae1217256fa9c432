#include "tools/models/store.h"

static fff_weight_type given_output(const fff_layer_desc *desc) {
    return stored_type(desc->output_weight_type, desc->weight_type);
}

void model_stores(const fff_bert *model, size_t layer, fff_weight_type *input, fff_weight_type *output) {
    const fff_layer_desc desc = fff_bert_layer_desc(model, layer);
    *input = stored_type(desc.store_input, desc.weight_type);
    *output = stored_type(desc.store_output, given_output(&desc));
}

bool model_store_differs(const fff_bert *model) {
    for (size_t layer = 0; layer < fff_bert_configuration(model)->layers; layer++) {
        const fff_layer_desc desc = fff_bert_layer_desc(model, layer);
        fff_weight_type input, output;
        model_stores(model, layer, &input, &output);
        if (stored_differs(desc.weight_type, input) || stored_differs(given_output(&desc), output)) {
            return true;
        }
    }
    return false;
}
