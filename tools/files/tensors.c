#include "tools/files/tensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST_NAME = 96 };

static const struct {
    const char *names; /* of dtypes */
    unsigned types;    /* a bit each */
} contents[] = {
    [FLOAT32] = {"F32", 1u << FFF_TENSOR_F32},
    [HALVES_TOO] = {"F32, BF16 or F16", 1u << FFF_TENSOR_F32 | 1u << FFF_TENSOR_BF16 | 1u << FFF_TENSOR_F16},
    [WEIGHTS] = {"F32, BF16, F16 or I8",
                 1u << FFF_TENSOR_F32 | 1u << FFF_TENSOR_BF16 | 1u << FFF_TENSOR_F16 | 1u << FFF_TENSOR_I8},
    [INT32] = {"I32", 1u << FFF_TENSOR_I32},
    [INT64] = {"I64", 1u << FFF_TENSOR_I64},
};

const fff_tensor *find_tensor(const struct loading *loading, const char *name) {
    char full[LONGEST_NAME];
    snprintf(full, sizeof full, "%s%s", loading->prefix, name);
    return fff_safetensors_find(loading->file, full);
}

const char *find_metadata(const struct loading *loading, const char *key) {
    char full[LONGEST_NAME];
    snprintf(full, sizeof full, "%s%s", loading->prefix, key);
    const char *text = fff_safetensors_metadata(loading->file, full);
    return text != NULL ? text : fff_safetensors_metadata(loading->file, key);
}

static bool check_type(const struct loading *loading, const fff_tensor *tensor, const char *name,
                       enum content content) {
    return (contents[content].types >> tensor->type & 1) != 0 ||
           FFF_FAIL(&loading->report, "tensor '%s%s' has dtype %s where %s is expected", loading->prefix, name,
                    tensor->type_name, contents[content].names);
}

static bool check_tensor(const struct loading *loading, const struct wanted *wanted) {
    const fff_tensor *tensor = find_tensor(loading, wanted->name);
    if (tensor == NULL) {
        return !wanted->required ||
               FFF_FAIL(&loading->report, "tensor '%s%s' is missing", loading->prefix, wanted->name);
    }
    if (!check_type(loading, tensor, wanted->name, wanted->content)) {
        return false;
    }
    if (tensor->rank != wanted->rank) {
        return FFF_FAIL(&loading->report, "tensor '%s%s' has %zu dimensions where %zu are expected", loading->prefix,
                        wanted->name, tensor->rank, wanted->rank);
    }
    for (size_t i = 0; i < wanted->rank; i++) {
        if (tensor->shape[i] != wanted->shape[i]) {
            return FFF_FAIL(&loading->report, "tensor '%s%s': dimension %zu is %zu where %zu is expected",
                            loading->prefix, wanted->name, i, tensor->shape[i], wanted->shape[i]);
        }
    }
    return true;
}

bool check_tensors(const struct loading *loading, const struct wanted *wanted, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (!check_tensor(loading, &wanted[i])) {
            return false;
        }
    }
    return true;
}

/* The elements in memory of their own: numbers of 4 bytes as they are, others as float32. NULL when out of memory. */
static void *copy_elements(const fff_tensor *tensor) {
    fff_floats floats = {0};
    if (tensor->type == FFF_TENSOR_BF16 || tensor->type == FFF_TENSOR_F16) {
        (void)fff_tensor_floats(tensor, &floats);
        return floats.owned;
    }
    float *values = allocate_matrix(tensor->count, 1);
    for (size_t i = 0; i < tensor->count && values != NULL && tensor->type == FFF_TENSOR_I8; i++) {
        values[i] = fff_tensor_element(tensor, i);
    }
    if (values != NULL && tensor->type != FFF_TENSOR_I8) {
        memcpy(values, tensor->data, tensor->bytes);
    }
    return values;
}

static bool copy_tensor(const struct loading *loading, const struct wanted *wanted) {
    const fff_tensor *tensor = find_tensor(loading, wanted->name);
    if (tensor == NULL) {
        return true;
    }
    void *values = copy_elements(tensor);
    if (values == NULL) {
        return FFF_FAIL(&loading->report, "tensor '%s%s': out of memory", loading->prefix, wanted->name);
    }
    if (wanted->floats != NULL) {
        *wanted->floats = values;
    } else {
        *wanted->integers = values;
    }
    return true;
}

bool copy_tensors(const struct loading *loading, const struct wanted *wanted, size_t count) {
    for (size_t i = 0; i < count && loading->copying; i++) {
        if (!copy_tensor(loading, &wanted[i])) {
            return false;
        }
    }
    return true;
}

bool is_i8(const struct loading *loading, const char *name) {
    const fff_tensor *tensor = find_tensor(loading, name);
    return tensor != NULL && tensor->type == FFF_TENSOR_I8;
}

bool check_scales(const struct loading *loading, const char *name, const char *scales_name) {
    const fff_tensor *tensor = find_tensor(loading, name);
    return find_tensor(loading, scales_name) == NULL || is_i8(loading, name) ||
           FFF_FAIL(&loading->report, "tensor '%s%s' is there, but '%s%s' has dtype %s and no scales", loading->prefix,
                    scales_name, loading->prefix, name, tensor != NULL ? tensor->type_name : "none");
}

bool apply_scales(const struct loading *loading, const struct integers *integers) {
    for (size_t i = 0; i < integers->count && integers->scales != NULL; i++) {
        size_t at = i / integers->outer * integers->inner + i % integers->inner;
        float scale = integers->scales[at];
        if (!(scale > 0) || !isfinite(scale)) {
            return FFF_FAIL(&loading->report, "tensor '%s%s': element %zu is %g where a scale is expected",
                            loading->prefix, integers->scales_name, at, (double)scale);
        }
        if (integers->values[i] < -127) {
            return FFF_FAIL(&loading->report, "tensor '%s%s': element %zu is -128, which is not from -127 to 127",
                            loading->prefix, integers->name, i);
        }
        integers->values[i] *= scale;
    }
    return true;
}

/* A file without a layer's first tensor: often it holds a whole model. */
static bool fail_without(const struct loading *loading, const char *name) {
    static const char *const parts[] = {"embedding", "layer.", "layers.", "wte.", "lm_head."};
    for (size_t i = 0; i < fff_safetensors_count(loading->file); i++) {
        const char *other = fff_safetensors_at(loading->file, i)->name;
        for (size_t part = 0; part < sizeof parts / sizeof *parts; part++) {
            if (strstr(other, parts[part]) != NULL) {
                return FFF_FAIL(&loading->report,
                                "holds a model (tensor '%s') where a layer's '%s' is expected: give the model's folder",
                                other, name);
            }
        }
    }
    return FFF_FAIL(&loading->report, "tensor '%s%s' is missing", loading->prefix, name);
}

const fff_tensor *find_shaped(const struct loading *loading, const char *name, size_t rank) {
    const fff_tensor *tensor = find_tensor(loading, name);
    if (tensor == NULL) {
        (void)fail_without(loading, name);
        return NULL;
    }
    if (tensor->rank != rank || tensor->count == 0) {
        fff_report(&loading->report, "tensor '%s%s' has %zu dimensions and %zu elements where %s is expected",
                   loading->prefix, name, tensor->rank, tensor->count,
                   rank == 2 ? "a matrix" : "a matrix for each leaf");
        return NULL;
    }
    return tensor;
}

bool read_count(const struct loading *loading, const char *key, size_t largest, size_t *count) {
    const char *text = find_metadata(loading, key);
    if (text == NULL) {
        return FFF_FAIL(&loading->report, "the metadata lack '%s%s'", loading->prefix, key);
    }
    char *end;
    unsigned long long value = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || value > largest) {
        return FFF_FAIL(&loading->report, "metadata '%s%s' is not a number from 0 to %zu, but '%s'", loading->prefix,
                        key, largest, text);
    }
    *count = (size_t)value;
    return true;
}
