#include "tools/files/layer_data.h"

#include "tools/random.h"

#include <stdbool.h>
#include <stdlib.h>
#include <strings.h>

void *allocate_matrix(size_t rows, size_t columns) {
    size_t count, bytes;
    if (__builtin_mul_overflow(rows, columns, &count) || __builtin_mul_overflow(count, sizeof(float), &bytes)) {
        return NULL;
    }
    return malloc(bytes > 0 ? bytes : 1);
}

void fill_normal(float *values, size_t count, float scale, uint64_t *state) {
    for (size_t i = 0; i < count; i++) {
        values[i] = scale * random_normal(state);
    }
}

/* ---- Shapes ---------------------------------------------------------------------------------- */

size_t nodes_of_tree(const struct layer_data *part) {
    return part->leaf_width > 0 ? ((size_t)1 << part->depth) - 1 : fff_nodes_per_tree(part->depth);
}

size_t entries_of_tree(const struct layer_data *part) {
    return part->depth + (part->leaf_width > 0 ? part->leaf_width : 1);
}

size_t output_rows(const struct layer_data *part) {
    return part->leaf_width > 0 ? part->rows - part->trees * nodes_of_tree(part) : part->rows;
}

size_t row_of_entry(const struct layer_data *part, size_t tree, size_t entry, uint32_t node) {
    size_t nodes = nodes_of_tree(part);
    if (part->leaf_width == 0 || entry < part->depth) {
        return tree * nodes + node;
    }
    return part->trees * nodes + (tree << part->depth) * part->leaf_width + (node - nodes);
}

size_t layer_path_length(const struct layer_data *data) {
    size_t length = 0;
    for (; data != NULL; data = data->next) {
        length += data->trees * entries_of_tree(data);
    }
    return length;
}

/* ---- Activations ----------------------------------------------------------------------------- */

static const char *const activations[FFF_ACTIVATION_COUNT] = {
    [FFF_ACTIVATION_GELU] = "GELU",   [FFF_ACTIVATION_GELU_TANH] = "GELU_tanh", [FFF_ACTIVATION_RELU] = "ReLU",
    [FFF_ACTIVATION_RELU2] = "ReLU2", [FFF_ACTIVATION_SILU] = "SiLU",           [FFF_ACTIVATION_IDENTITY] = "identity",
};

bool activation_by_name(const char *name, fff_activation *activation) {
    for (int i = 0; i < FFF_ACTIVATION_COUNT; i++) {
        if (strcasecmp(name, activations[i]) == 0) {
            *activation = (fff_activation)i;
            return true;
        }
    }
    return false;
}

const char *activation_name(fff_activation activation) {
    return activations[activation];
}

/* ---- Making one ------------------------------------------------------------------------------ */

int layer_data_make(struct layer_data *data, size_t input_width, size_t output_width, size_t depth, size_t trees,
                    size_t batch, uint64_t seed) {
    size_t rows = trees * fff_nodes_per_tree(depth);
    *data = (struct layer_data){
        .input_width = input_width,
        .output_width = output_width,
        .depth = depth,
        .trees = trees,
        .rows = rows,
        .batch = batch,
        .input_weights = allocate_matrix(rows, input_width),
        .biases = allocate_matrix(rows, 1),
        .output_weights = allocate_matrix(rows, output_width),
        .input = allocate_matrix(batch, input_width),
    };
    if (data->input_weights == NULL || data->biases == NULL || data->output_weights == NULL || data->input == NULL) {
        layer_data_free(data);
        return -1;
    }
    /* Logits of variance about 1, symmetric around 0. */
    float scale = 1.0f;
    while (scale * scale * (float)input_width > 1.0f) {
        scale *= 0.5f;
    }
    fill_normal(data->input_weights, rows * input_width, scale, &seed);
    fill_normal(data->biases, rows, 0.0625f, &seed);
    fill_normal(data->output_weights, rows * output_width, scale, &seed);
    fill_normal(data->input, batch * input_width, 1.0f, &seed);
    return 0;
}

void layer_data_free(struct layer_data *data) {
    if (data->next != NULL) {
        layer_data_free(data->next);
        free(data->next);
    }
    free(data->input_weights);
    free(data->biases);
    free(data->output_weights);
    free(data->input);
    free(data->expected_output);
    free(data->expected_with_b2);
    free(data->expected_path);
    free(data->thresholds);
    free(data->factor);
    free(data->output_bias);
    free(data->leaf_output_biases);
    free(data->given_input.scales);
    free(data->given_input.aligned);
    free(data->given_output.scales);
    free(data->given_output.aligned);
    fff_safetensors_close(data->file);
    *data = (struct layer_data){0};
}

/* ---- Making a layer of it -------------------------------------------------------------------- */

bool store_is_narrow(const struct store *store) {
    return store->input > FFF_CHOOSE_F32 || store->output > FFF_CHOOSE_F32;
}

fff_weight_type stored_type(fff_weight_choice choice, fff_weight_type given) {
    return choice == FFF_CHOOSE_DEFAULT ? given : (fff_weight_type)(choice - 1);
}

fff_weight_type stored_input_type(const struct layer_data *data) {
    return stored_type(data->store.input, data->given_input.type);
}

fff_weight_type stored_output_type(const struct layer_data *data) {
    return stored_type(data->store.output, data->given_output.type);
}

bool stored_differs(fff_weight_type given, fff_weight_type stored) {
    return stored == FFF_WEIGHT_I8 || (stored != FFF_WEIGHT_F32 && stored != given);
}

fff_layer_desc layer_data_desc(const struct layer_data *data, fff_isa isa) {
    const struct given_weights *in = &data->given_input, *out = &data->given_output;
    fff_layer_desc desc = layer_data_float32_desc(data, isa);
    desc.weight_type = in->type;
    desc.output_weight_type = (fff_weight_choice)(out->type + 1);
    desc.input_weights.data = in->data != NULL ? in->data : data->input_weights;
    desc.output_weights.data = out->data != NULL ? out->data : data->output_weights;
    desc.input_scales = in->scales;
    desc.output_scales = out->scales;
    desc.store_input = data->store.input;
    desc.store_output = data->store.output;
    desc.routes = data->store.routes;
    desc.bad_weight = data->bad_weight;
    return desc;
}

fff_layer_desc layer_data_float32_desc(const struct layer_data *data, fff_isa isa) {
    fff_layer_desc desc = {
        .struct_size = sizeof(fff_layer_desc),
        .input_width = data->input_width,
        .output_width = data->output_width,
        .depth = data->depth,
        .trees = data->trees,
        .activation = data->activation,
        .routing = data->routing,
        .isa = isa,
        .sleef = data->sleef,
        .input_weights = {data->input_weights, data->input_width, 1},
        .biases = data->biases,
        .output_weights = {data->output_weights, 1, output_rows(data)},
        .thresholds = data->thresholds,
        .factor = data->factor,
        .output_bias = data->output_bias,
    };
    if (data->leaf_width > 0) {
        size_t nodes = data->trees * nodes_of_tree(data);
        desc.leaf_width = data->leaf_width;
        desc.leaf_weights = (fff_weights){data->input_weights + nodes * data->input_width, data->input_width, 1};
        desc.leaf_biases = data->biases != NULL ? data->biases + nodes : NULL;
        desc.leaf_output_biases = (fff_weights){data->leaf_output_biases, data->output_width, 1};
    }
    return desc;
}

fff_status layer_data_create(const struct layer_data *data, fff_isa isa, layer_data_describe *describe,
                             fff_layer **layer) {
    size_t parts = 0;
    for (const struct layer_data *part = data; part != NULL; part = part->next) {
        parts++;
    }
    fff_layer_desc *descs = calloc(parts, sizeof *descs);
    if (descs == NULL) {
        return FFF_ERROR_OUT_OF_MEMORY;
    }
    for (size_t i = 0; i < parts; i++, data = data->next) {
        descs[i] = describe(data, isa);
        descs[i].next = i + 1 < parts ? &descs[i + 1] : NULL;
    }
    fff_status status = fff_layer_create(descs, layer);
    free(descs);
    return status;
}

void layer_data_demand(struct layer_data *data, struct store store, fff_sleef sleef, fff_bad_weight *bad_weight) {
    for (; data != NULL; data = data->next) {
        data->store = store;
        data->sleef = sleef;
        data->bad_weight = bad_weight;
    }
}
