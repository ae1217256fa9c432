#include "bert/load.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Names ----------------------------------------------------------------------------------- */

/* Encoders whose tensors have BERT's names, and which compute something else. */
static bool is_another_model(const char *prefix) {
    static const char *const others[] = {"roberta", "electra", "albert",    "distilbert", "deberta", "mpnet",
                                         "ernie",   "nezha",   "camembert", "xlm",        "luke",    "layoutlm"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        const char *found = strstr(prefix, others[i]);
        if (found != NULL && (found == prefix || found[-1] == '.')) {
            return true;
        }
    }
    return false;
}

static bool take_prefix(struct fff_loading *loading, const char *name, size_t length) {
    if (length >= sizeof loading->prefix) {
        return FFF_FAIL(&loading->report, "tensor '%s' has more than %zu bytes before its own name", name,
                        sizeof loading->prefix - 1);
    }
    memcpy(loading->prefix, name, length);
    loading->prefix[length] = '\0';
    return !is_another_model(loading->prefix) ||
           FFF_FAIL(&loading->report,
                    "tensor '%s' belongs to another kind of model; only crammedBERT and bert are supported", name);
}

bool fff_load_prefix(struct fff_loading *loading, const char *part, bool *found) {
    const fff_checkpoint *checkpoint = &loading->model->checkpoint;
    const char *first = NULL;
    *loading->prefix = '\0';
    for (size_t file = 0; file < checkpoint->count; file++) {
        for (size_t i = 0; i < fff_safetensors_count(checkpoint->files[file]); i++) {
            const char *name = fff_tensor_plain_name(fff_safetensors_at(checkpoint->files[file], i)->name);
            const char *at = strstr(name, part);
            if (at == NULL || (at > name && at[-1] != '.')) {
                continue;
            }
            size_t length = (size_t)(at - name);
            if (first == NULL && !take_prefix(loading, name, length)) {
                return false;
            }
            first = first != NULL ? first : name;
            if (strlen(loading->prefix) != length || memcmp(loading->prefix, name, length) != 0) {
                return FFF_FAIL(&loading->report, "tensors '%s' and '%s' belong to two models", first, name);
            }
        }
    }
    *found = first != NULL;
    return true;
}

const char *fff_load_name(char name[FFF_LONGEST_NAME], const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(name, FFF_LONGEST_NAME, format, arguments);
    va_end(arguments);
    return name;
}

static const fff_tensor *find(const struct fff_loading *loading, const char *name,
                              char full[FFF_LONGEST_PREFIX + FFF_LONGEST_NAME], const char **path) {
    snprintf(full, FFF_LONGEST_PREFIX + FFF_LONGEST_NAME, "%s%s", loading->prefix, name);
    return fff_checkpoint_find(&loading->model->checkpoint, full, path);
}

bool fff_load_has(const struct fff_loading *loading, const char *name) {
    char full[FFF_LONGEST_PREFIX + FFF_LONGEST_NAME];
    const char *path;
    return find(loading, name, full, &path) != NULL;
}

/* ---- Tensors --------------------------------------------------------------------------------- */

bool fff_load_own(struct fff_loading *loading, void *memory) {
    struct fff_bert *model = loading->model;
    if (memory == NULL) {
        return true;
    }
    void **owned = realloc(model->owned, (model->owned_count + 1) * sizeof *owned);
    if (owned == NULL) {
        free(memory);
        return FFF_FAIL(&loading->report, "out of memory");
    }
    model->owned = owned;
    owned[model->owned_count++] = memory;
    return true;
}

static bool fail_missing(const struct fff_loading *loading, const char *name) {
    const char *path;
    if (fff_checkpoint_find(&loading->model->checkpoint, "linear_in.weight", &path) != NULL) {
        return FFF_FAIL(&loading->report,
                        "holds one layer ('linear_in.weight') where a model's '%s' is expected: "
                        "`fff verify` reads such a file by itself",
                        name);
    }
    return FFF_FAIL(&loading->report, "tensor '%s' is missing", name);
}

static bool check_shape(const struct fff_found *found, size_t rows, size_t columns) {
    const fff_tensor *tensor = found->tensor;
    size_t rank = rows > 0 ? 2 : 1;
    const size_t shape[2] = {rows > 0 ? rows : columns, columns};
    if (columns == 0 ? tensor->count != 1 : tensor->rank != rank) {
        return FFF_FAIL(&found->report,
                        "tensor '%s' has %zu dimensions and %zu elements where %zu and %zu are expected", found->name,
                        tensor->rank, tensor->count, columns == 0 ? 0 : rank,
                        columns == 0 ? 1
                        : rows > 0   ? rows * columns
                                     : columns);
    }
    for (size_t i = 0; i < rank && columns > 0; i++) {
        if (tensor->shape[i] != shape[i]) {
            return FFF_FAIL(&found->report, "tensor '%s': dimension %zu is %zu where %zu is expected", found->name, i,
                            tensor->shape[i], shape[i]);
        }
    }
    return true;
}

bool fff_load_find(const struct fff_loading *loading, const char *name, size_t rows, size_t columns,
                   struct fff_found *found) {
    found->report = loading->report;
    found->tensor = find(loading, name, found->name, &found->report.path); /* of the shard */
    return found->tensor != NULL ? check_shape(found, rows, columns) : fail_missing(loading, found->name);
}

bool fff_load_floats(struct fff_loading *loading, const struct fff_found *found, const float **values) {
    fff_floats floats;
    if (!fff_tensor_floats(found->tensor, &floats)) {
        return FFF_FAIL(&found->report, "tensor '%s': out of memory", found->name);
    }
    if (floats.owned != NULL) {
        fff_tensor_release(found->tensor);
    }
    *values = floats.values;
    return fff_load_own(loading, floats.owned);
}

static bool load(struct fff_loading *loading, const char *name, size_t rows, size_t columns, const float **values,
                 const fff_tensor **stored) {
    struct fff_found found;
    *values = NULL;
    *stored = NULL;
    if (!fff_load_find(loading, name, rows, columns, &found)) {
        return false;
    }
    if (!fff_tensor_has_floats(found.tensor)) {
        return FFF_FAIL(&found.report,
                        "tensor '%s' has dtype %s where floating point (F32, F16, BF16, F64) is expected", found.name,
                        found.tensor->type_name);
    }
    *stored = found.tensor;
    return loading->checking || fff_load_floats(loading, &found, values);
}

bool fff_load(struct fff_loading *loading, const char *name, size_t rows, size_t columns, const float **values) {
    const fff_tensor *stored;
    return load(loading, name, rows, columns, values, &stored);
}

bool fff_load_norm(struct fff_loading *loading, const char *prefix, struct norm *norm) {
    size_t width = loading->model->config.hidden_size;
    char weight[FFF_LONGEST_NAME], bias[FFF_LONGEST_NAME];
    snprintf(weight, sizeof weight, "%s.gamma", prefix);
    snprintf(bias, sizeof bias, "%s.beta", prefix);
    if (!fff_load_has(loading, weight)) {
        snprintf(weight, sizeof weight, "%s.weight", prefix);
    }
    if (!fff_load_has(loading, bias)) {
        snprintf(bias, sizeof bias, "%s.bias", prefix);
    }
    return fff_load(loading, weight, 0, width, &norm->weight) && fff_load(loading, bias, 0, width, &norm->bias);
}

bool fff_load_linear(struct fff_loading *loading, const char *prefix, size_t out, size_t in, bool bias,
                     struct linear *linear) {
    char name[FFF_LONGEST_NAME];
    *linear = (struct linear){.in = in, .out = out};
    snprintf(name, sizeof name, "%s.weight", prefix);
    if (!load(loading, name, out, in, &linear->weight, &linear->stored)) {
        return false;
    }
    snprintf(name, sizeof name, "%s.bias", prefix);
    return !bias || fff_load(loading, name, 0, out, &linear->bias);
}

struct bert_layer *fff_load_layer(struct fff_loading *loading, size_t index) {
    return loading->checking ? &loading->unused : &loading->model->layers[index];
}
