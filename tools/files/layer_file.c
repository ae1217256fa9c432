/* Reading a layer file: of what kind it is, its parts, and the results that it has. */
#include "tools/files/tensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const size_t DEFAULT_BATCH = 64;
static const uint64_t DEFAULT_SEED = 1;
static const char PARTS[] = "parts.";

/* ---- Parts ----------------------------------------------------------------------------------- */

static bool read_options(const struct loading *loading, bool has_leaves, struct layer_data *part) {
    const char *name = find_metadata(loading, "activation");
    const char *route = find_metadata(loading, "route");
    if (name == NULL) {
        return FFF_FAIL(&loading->report, "the metadata lack 'activation': one of " ACTIVATION_NAMES);
    }
    if (!activation_by_name(name, &part->activation)) {
        return FFF_FAIL(&loading->report, "metadata 'activation' is '%s', none of " ACTIVATION_NAMES, name);
    }
    if (route == NULL) {
        part->routing = has_leaves ? FFF_ROUTING_GREATER_EQUAL : FFF_ROUTING_GREATER;
    } else if (strstr(route, "> 0") != NULL) {
        part->routing = FFF_ROUTING_GREATER;
    } else if (strstr(route, ">= 0") != NULL) {
        part->routing = FFF_ROUTING_GREATER_EQUAL;
    } else {
        return FFF_FAIL(&loading->report, "metadata 'route' is '%s', which says neither '> 0' nor '>= 0'", route);
    }
    return true;
}

static bool check_finite(const struct loading *loading, const char *name, const float *values, size_t count) {
    for (size_t i = 0; i < count && values != NULL; i++) {
        if (!isfinite(values[i])) {
            return FFF_FAIL(&loading->report, "tensor '%s%s': element %zu is %g where a finite number is expected",
                            loading->prefix, name, i, (double)values[i]);
        }
    }
    return true;
}

/* What either kind may have. */
static bool read_extras(const struct loading *loading, struct layer_data *part) {
    const fff_tensor *factor = find_tensor(loading, "factor");
    size_t nodes = part->trees * nodes_of_tree(part);
    const struct wanted wanted[] = {
        {"thresholds", false, FLOAT32, 1, {nodes}, &part->thresholds, NULL},
        {"factor", false, FLOAT32, factor != NULL && factor->rank == 1, {1}, &part->factor, NULL},
    };
    return check_tensors(loading, wanted, 2) && copy_tensors(loading, wanted, 2) &&
           check_finite(loading, "thresholds", part->thresholds, nodes) &&
           check_finite(loading, "factor", part->factor, 1);
}

/* The first of some tensors that is there, or NULL. */
static const char *first_of(const struct loading *loading, const char *const *names) {
    while (*names != NULL && find_tensor(loading, *names) == NULL) {
        names++;
    }
    return *names;
}
static const char *const path_names[] = {"linear_in.weight", "linear_in.bias", "linear_out.weight", NULL};
static const char *const leaf_names[] = {"w1s", "w2s", "node_weights", "node_biases", "b1s", "b2s", NULL};

static bool read_part(const struct loading *loading, struct layer_data *part) {
    const char *of_path = first_of(loading, path_names), *of_leaf = first_of(loading, leaf_names);
    if (of_path != NULL && of_leaf != NULL) {
        return FFF_FAIL(&loading->report,
                        "tensor '%s%s' is a path sum's, and '%s%s' a leaf layer's: a part has one kind",
                        loading->prefix, of_path, loading->prefix, of_leaf);
    }
    bool has_leaves = of_leaf != NULL;
    if (!(has_leaves ? read_leaf_layer(loading, part) : read_path_sum(loading, part))) {
        return false;
    }
    return read_options(loading, has_leaves, part) && read_extras(loading, part);
}

/* ---- The whole ------------------------------------------------------------------------------- */

/* The first tensor of any part, or NULL. */
static const char *first_of_parts(const struct loading *loading) {
    for (size_t i = 0; i < fff_safetensors_count(loading->file); i++) {
        const char *name = fff_tensor_plain_name(fff_safetensors_at(loading->file, i)->name);
        if (strncmp(name, PARTS, sizeof PARTS - 1) == 0) {
            return name;
        }
    }
    return NULL;
}

/* That every tensor of a part is of one that there is. */
static bool check_numbers(const struct loading *loading, size_t parts) {
    for (size_t i = 0; i < fff_safetensors_count(loading->file); i++) {
        const char *name = fff_tensor_plain_name(fff_safetensors_at(loading->file, i)->name);
        if (strncmp(name, PARTS, sizeof PARTS - 1) != 0) {
            continue;
        }
        const char *digits = name + sizeof PARTS - 1;
        char *end, again[32];
        unsigned long long number = strtoull(digits, &end, 10);
        int length = snprintf(again, sizeof again, "%llu.", number);
        if (number >= parts || strncmp(digits, again, (size_t)length) != 0) {
            return FFF_FAIL(&loading->report, "tensor '%s' is of no part: the metadata have %zu of them, from 0 on",
                            name, parts);
        }
        if (strcmp(digits + length, "output_bias") == 0) {
            return FFF_FAIL(&loading->report, "tensor '%s' is a part's; 'output_bias' is the whole layer's", name);
        }
    }
    return true;
}

static bool read_parts(const struct loading *whole, struct layer_data *data) {
    size_t parts;
    const char *of_path = first_of(whole, path_names), *of_leaf = first_of(whole, leaf_names);
    if (of_path != NULL || of_leaf != NULL) {
        return FFF_FAIL(&whole->report, "tensor '%s' stands beside those of parts ('%s')",
                        of_path != NULL ? of_path : of_leaf, first_of_parts(whole));
    }
    if (!read_count(whole, "parts", FFF_MAX_PARTS, &parts)) {
        return false;
    }
    if (parts == 0) {
        return FFF_FAIL(&whole->report, "metadata 'parts' is 0: a layer has at least one part");
    }
    if (!check_numbers(whole, parts)) {
        return false;
    }
    struct layer_data *part = data;
    for (size_t i = 0; i < parts; i++) {
        struct loading loading = *whole;
        snprintf(loading.prefix, sizeof loading.prefix, "%s%zu.", PARTS, i);
        if (i > 0) {
            part->next = part->next != NULL ? part->next : calloc(1, sizeof *part->next);
            part = part->next;
        }
        if (part == NULL) {
            return FFF_FAIL(&whole->report, "out of memory");
        }
        part->is_part = true;
        if (!read_part(&loading, part)) {
            return false;
        }
        if (part->input_width != data->input_width || part->output_width != data->output_width) {
            return FFF_FAIL(&whole->report, "tensors '%s*' are %zu wide in and %zu out, those of part 0 %zu and %zu",
                            loading.prefix, part->input_width, part->output_width, data->input_width,
                            data->output_width);
        }
    }
    return true;
}

static bool check_variant(const struct loading *loading, const char *found) {
    const char *variant = find_metadata(loading, "variant");
    return variant == NULL || strcmp(variant, found) == 0 ||
           FFF_FAIL(&loading->report, "metadata 'variant' is '%s', but the tensors are those of variant '%s'", variant,
                    found);
}

/* ---- Input and results ----------------------------------------------------------------------- */

static bool make_input(const struct loading *loading, struct layer_data *data) {
    uint64_t state = DEFAULT_SEED;
    if (!loading->copying) {
        return true;
    }
    data->batch = DEFAULT_BATCH;
    data->input = allocate_matrix(data->batch, data->input_width);
    if (data->input == NULL) {
        return FFF_FAIL(&loading->report, "out of memory");
    }
    fill_normal(data->input, data->batch * data->input_width, 1.0f, &state);
    return true;
}

/* Results without an input mean nothing. */
static bool read_results(const struct loading *loading, struct layer_data *data) {
    const fff_tensor *input = find_tensor(loading, "input");
    bool single = data->leaf_width == 0 && !data->is_part; /* path sum */
    int32_t **path = &data->expected_path;
    data->batch = input != NULL && input->rank > 0 ? input->shape[0] : 0;
    const struct wanted bias = {"output_bias", false, FLOAT32, 1, {data->output_width}, &data->output_bias, NULL};
    const struct wanted wanted[] = {
        {"input", false, FLOAT32, 2, {data->batch, data->input_width}, &data->input, NULL},
        {"output", false, FLOAT32, 2, {data->batch, data->output_width}, &data->expected_output, NULL},
        {"output_with_b2", false, FLOAT32, 2, {data->batch, data->output_width}, &data->expected_with_b2, NULL},
        single ? (struct wanted){"path", false, INT32, 3, {data->batch, data->trees, data->depth + 1}, NULL, path}
               : (struct wanted){"path", false, INT32, 2, {data->batch, layer_path_length(data)}, NULL, path},
    };
    size_t count = sizeof wanted / sizeof *wanted;
    if (!check_tensors(loading, &bias, 1) || !copy_tensors(loading, &bias, 1)) {
        return false;
    }
    if (input == NULL) {
        for (size_t i = 1; i < count; i++) {
            if (find_tensor(loading, wanted[i].name) != NULL) {
                return FFF_FAIL(&loading->report, "tensor '%s' is there, but not 'input', of which it is the result",
                                wanted[i].name);
            }
        }
        return make_input(loading, data);
    }
    if (find_tensor(loading, "output_with_b2") != NULL && find_tensor(loading, "b2s") == NULL) {
        return FFF_FAIL(&loading->report,
                        "tensor 'output_with_b2' is there, which only a single leaf layer with 'b2s' may have");
    }
    return check_tensors(loading, wanted, count) && copy_tensors(loading, wanted, count);
}

static bool read_layer(const struct loading *loading, struct layer_data *data) {
    bool has_parts = first_of_parts(loading) != NULL || find_metadata(loading, "parts") != NULL;
    if (!(has_parts ? read_parts(loading, data) : read_part(loading, data))) {
        return false;
    }
    const char *variant = data->leaf_width > 0 ? "leaf" : "path";
    return check_variant(loading, has_parts ? "parts" : variant) && read_results(loading, data);
}

int layer_data_load(const char *path, struct layer_data *data, char *error, size_t error_size) {
    *data = (struct layer_data){0};
    fff_safetensors *file = fff_safetensors_open(path, error, error_size);
    if (file == NULL) {
        return -1;
    }
    struct loading loading = {.file = file, .report = {path, error, error_size}};
    bool ok = read_layer(&loading, data);
    loading.copying = true;
    ok = ok && read_layer(&loading, data);
    if (ok && (data->given_input.data != NULL || data->given_output.data != NULL)) {
        data->file = file; /* which the weights stay in */
    } else {
        fff_safetensors_close(file);
    }
    if (!ok) {
        layer_data_free(data);
        return -1;
    }
    return 0;
}
