#include "bert/safetensors.h"

#include "bert/report.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    LENGTH_BYTES = 8,
    LARGEST_HEADER = 100 << 20, /* the reference reader's limit */
};

struct named {
    const char *name;
    const fff_tensor *tensor;
};

struct fff_safetensors {
    void *mapping;
    size_t size;
    json_t *header; /* owns the names and metadata */
    fff_tensor *tensors;
    size_t tensor_count;
    struct named *by_name; /* in order of their names without prefixes */
};

static const struct {
    const char *name;
    size_t size;
    fff_tensor_type type;
} types[] = {
    {"F64", 8, FFF_TENSOR_F64},    {"F32", 4, FFF_TENSOR_F32},       {"F16", 2, FFF_TENSOR_F16},
    {"BF16", 2, FFF_TENSOR_BF16},  {"I64", 8, FFF_TENSOR_I64},       {"I32", 4, FFF_TENSOR_I32},
    {"U64", 8, FFF_TENSOR_OTHER},  {"U32", 4, FFF_TENSOR_OTHER},     {"I16", 2, FFF_TENSOR_OTHER},
    {"U16", 2, FFF_TENSOR_OTHER},  {"I8", 1, FFF_TENSOR_OTHER},      {"U8", 1, FFF_TENSOR_OTHER},
    {"BOOL", 1, FFF_TENSOR_OTHER}, {"F8_E4M3", 1, FFF_TENSOR_OTHER}, {"F8_E5M2", 1, FFF_TENSOR_OTHER},
};

/* A JSON number as a size; false for anything else, negative numbers included. */
static bool read_size(const json_t *value, size_t *size) {
    if (!json_is_integer(value) || json_integer_value(value) < 0) {
        return false;
    }
    *size = (size_t)json_integer_value(value);
    return true;
}

static bool read_tensor(const struct fff_report *report, const char *name, const json_t *entry, size_t data_size,
                        const unsigned char *data, fff_tensor *tensor) {
    *tensor = (fff_tensor){.name = name, .count = 1};
    const char *type_name = json_string_value(json_object_get(entry, "dtype"));
    const json_t *shape = json_object_get(entry, "shape");
    const json_t *offsets = json_object_get(entry, "data_offsets");
    if (type_name == NULL || !json_is_array(shape) || !json_is_array(offsets) || json_array_size(offsets) != 2) {
        return FFF_FAIL(report, "tensor '%s' lacks a dtype, a shape or a pair of data_offsets", name);
    }
    size_t element_size = 0;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (strcmp(type_name, types[i].name) == 0) {
            tensor->type = types[i].type;
            tensor->type_name = types[i].name;
            element_size = types[i].size;
        }
    }
    if (element_size == 0) {
        return FFF_FAIL(report, "tensor '%s' has the unknown dtype '%s'", name, type_name);
    }
    tensor->rank = json_array_size(shape);
    if (tensor->rank > FFF_TENSOR_MAX_RANK) {
        return FFF_FAIL(report, "tensor '%s' has %zu dimensions, more than %d", name, tensor->rank,
                        FFF_TENSOR_MAX_RANK);
    }
    for (size_t i = 0; i < tensor->rank; i++) {
        if (!read_size(json_array_get(shape, i), &tensor->shape[i]) ||
            __builtin_mul_overflow(tensor->count, tensor->shape[i], &tensor->count)) {
            return FFF_FAIL(report, "tensor '%s': dimension %zu is no number or too large", name, i);
        }
    }
    size_t begin, end;
    if (!read_size(json_array_get(offsets, 0), &begin) || !read_size(json_array_get(offsets, 1), &end) || begin > end ||
        end > data_size) {
        return FFF_FAIL(report, "tensor '%s': data_offsets do not lie within the %zu bytes of data", name, data_size);
    }
    if (__builtin_mul_overflow(tensor->count, element_size, &tensor->bytes) || tensor->bytes != end - begin) {
        return FFF_FAIL(report, "tensor '%s': dtype and shape need %zu x %zu bytes, data_offsets give %zu", name,
                        tensor->count, element_size, end - begin);
    }
    tensor->data = data + begin;
    return true;
}

static int by_position(const void *a, const void *b) {
    const fff_tensor *left = a, *right = b;
    if (left->data != right->data) {
        return left->data < right->data ? -1 : 1;
    }
    return (left->bytes > right->bytes) - (left->bytes < right->bytes); /* empty tensors first */
}

/* Tensors in order of position must follow each other without gap or overlap, and fill the data. */
static bool check_tiling(const struct fff_report *report, const fff_safetensors *file, const unsigned char *data,
                         size_t data_size) {
    const unsigned char *end = data;
    for (size_t i = 0; i < file->tensor_count; i++) {
        const unsigned char *begin = file->tensors[i].data;
        if (begin != end) {
            return FFF_FAIL(report, "tensor '%s' begins at byte %zu of the data, but the one before ends at %zu",
                            file->tensors[i].name, (size_t)(begin - data), (size_t)(end - data));
        }
        end = begin + file->tensors[i].bytes;
    }
    if (end != data + data_size) {
        return FFF_FAIL(report, "the tensors end at byte %zu of %zu bytes of data", (size_t)(end - data), data_size);
    }
    return true;
}

static const char *without_prefixes(const char *name) {
    static const char *const prefixes[] = {"module.", "_orig_mod."};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes;) {
        size_t length = strlen(prefixes[i]);
        bool found = strncmp(name, prefixes[i], length) == 0;
        name += found ? length : 0;
        i = found ? 0 : i + 1;
    }
    return name;
}

static int by_name(const void *a, const void *b) {
    const struct named *left = a, *right = b;
    return strcmp(without_prefixes(left->name), without_prefixes(right->name));
}

static bool sort_names(const struct fff_report *report, fff_safetensors *file) {
    file->by_name = calloc(file->tensor_count + 1, sizeof *file->by_name);
    if (file->by_name == NULL) {
        return FFF_FAIL(report, "out of memory");
    }
    for (size_t i = 0; i < file->tensor_count; i++) {
        file->by_name[i] = (struct named){file->tensors[i].name, &file->tensors[i]};
    }
    qsort(file->by_name, file->tensor_count, sizeof *file->by_name, by_name);
    for (size_t i = 1; i < file->tensor_count; i++) {
        if (by_name(&file->by_name[i - 1], &file->by_name[i]) == 0) {
            return FFF_FAIL(report, "tensors '%s' and '%s' have the same name but for prefixes",
                            file->by_name[i - 1].name, file->by_name[i].name);
        }
    }
    return true;
}

static bool read_header(const struct fff_report *report, fff_safetensors *file) {
    const unsigned char *bytes = file->mapping;
    uint64_t length = 0;
    for (int i = LENGTH_BYTES - 1; i >= 0; i--) {
        length = length << 8 | bytes[i];
    }
    if (length > file->size - LENGTH_BYTES || length > LARGEST_HEADER) {
        return FFF_FAIL(report, "header length %llu exceeds the file's %zu bytes or the limit of %d",
                        (unsigned long long)length, file->size, (int)LARGEST_HEADER);
    }
    const char *text = (const char *)bytes + LENGTH_BYTES;
    const unsigned char *data = bytes + LENGTH_BYTES + length;
    size_t data_size = file->size - LENGTH_BYTES - (size_t)length;
    json_error_t json_error;
    if (length == 0 || text[0] != '{') {
        return FFF_FAIL(report, "the header is not a JSON object");
    }
    file->header = json_loadb(text, (size_t)length, JSON_REJECT_DUPLICATES, &json_error);
    if (file->header == NULL) {
        return FFF_FAIL(report, "header, line %d, column %d: %s", json_error.line, json_error.column, json_error.text);
    }
    const char *name;
    json_t *entry;
    file->tensors = calloc(json_object_size(file->header) + 1, sizeof *file->tensors);
    if (file->tensors == NULL) {
        return FFF_FAIL(report, "out of memory");
    }
    json_object_foreach(file->header, name, entry) {
        if (strcmp(name, "__metadata__") == 0) {
            continue;
        }
        if (!read_tensor(report, name, entry, data_size, data, &file->tensors[file->tensor_count])) {
            return false;
        }
        file->tensor_count++;
    }
    qsort(file->tensors, file->tensor_count, sizeof *file->tensors, by_position);
    return check_tiling(report, file, data, data_size) && sort_names(report, file);
}

static bool map_file(const struct fff_report *report, const char *path, fff_safetensors *file) {
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) {
        return FFF_FAIL(report, "%s", strerror(errno));
    }
    struct stat status;
    bool ok = false;
    if (fstat(descriptor, &status) != 0) {
        fff_report(report, "%s", strerror(errno));
    } else if (!S_ISREG(status.st_mode)) {
        fff_report(report, "not a regular file");
    } else if (status.st_size < LENGTH_BYTES) {
        fff_report(report, "%lld bytes are too few for a safetensors file", (long long)status.st_size);
    } else {
        file->size = (size_t)status.st_size;
        void *mapping = mmap(NULL, file->size, PROT_READ, MAP_PRIVATE, descriptor, 0);
        if (mapping == MAP_FAILED) {
            fff_report(report, "%s", strerror(errno));
        } else {
            file->mapping = mapping;
            ok = true;
        }
    }
    close(descriptor);
    return ok;
}

fff_safetensors *fff_safetensors_open(const char *path, char *error, size_t error_size) {
    struct fff_report report = {path, error, error_size};
    fff_safetensors *file = calloc(1, sizeof *file);
    if (file == NULL) {
        fff_report(&report, "out of memory");
        return NULL;
    }
    if (!map_file(&report, path, file) || !read_header(&report, file)) {
        fff_safetensors_close(file);
        return NULL;
    }
    return file;
}

void fff_safetensors_close(fff_safetensors *file) {
    if (file == NULL) {
        return;
    }
    json_decref(file->header);
    free(file->tensors);
    free(file->by_name);
    if (file->mapping != NULL) {
        munmap(file->mapping, file->size);
    }
    free(file);
}

size_t fff_safetensors_size(const fff_safetensors *file) {
    return file->size;
}

const fff_tensor *fff_safetensors_find(const fff_safetensors *file, const char *name) {
    const struct named wanted = {name, NULL};
    const struct named *found = bsearch(&wanted, file->by_name, file->tensor_count, sizeof *file->by_name, by_name);
    return found != NULL ? found->tensor : NULL;
}

const char *fff_safetensors_metadata(const fff_safetensors *file, const char *key) {
    return json_string_value(json_object_get(json_object_get(file->header, "__metadata__"), key));
}

/* ---- Elements -------------------------------------------------------------------------------- */

static float float_of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* binary16 to binary32, exactly. */
static float float_of_f16(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16, exponent = half >> 10 & 0x1f, fraction = half & 0x3ff;
    if (exponent == 0) { /* a multiple of 2^-24 */
        float magnitude = (float)fraction * 0x1p-24f;
        return sign != 0 ? -magnitude : magnitude;
    }
    if (exponent == 0x1f) { /* infinity or NaN */
        return float_of_bits(sign | 0x7f800000u | fraction << 13);
    }
    return float_of_bits(sign | (exponent + 127 - 15) << 23 | fraction << 13);
}

static float element(const fff_tensor *tensor, size_t index) {
    const unsigned char *data = tensor->data;
    uint16_t half;
    float single;
    double number;
    switch (tensor->type) {
    case FFF_TENSOR_F32: memcpy(&single, data + index * sizeof single, sizeof single); return single;
    case FFF_TENSOR_F64: memcpy(&number, data + index * sizeof number, sizeof number); return (float)number;
    case FFF_TENSOR_F16: memcpy(&half, data + index * sizeof half, sizeof half); return float_of_f16(half);
    case FFF_TENSOR_BF16:
        memcpy(&half, data + index * sizeof half, sizeof half);
        return float_of_bits((uint32_t)half << 16);
    default: return 0; /* not called for these */
    }
}

bool fff_tensor_floats(const fff_tensor *tensor, fff_floats *floats) {
    *floats = (fff_floats){0};
    bool known = tensor->type == FFF_TENSOR_F32 || tensor->type == FFF_TENSOR_F64 || tensor->type == FFF_TENSOR_F16 ||
                 tensor->type == FFF_TENSOR_BF16;
    if (!known) {
        return false;
    }
    if (tensor->type == FFF_TENSOR_F32 && (uintptr_t)tensor->data % _Alignof(float) == 0) {
        floats->values = tensor->data;
        return true;
    }
    size_t bytes;
    if (__builtin_mul_overflow(tensor->count, sizeof(float), &bytes)) {
        return false;
    }
    floats->owned = malloc(bytes > 0 ? bytes : 1);
    for (size_t i = 0; i < tensor->count && floats->owned != NULL; i++) {
        floats->owned[i] = element(tensor, i);
    }
    floats->values = floats->owned;
    return floats->owned != NULL;
}

void fff_tensor_release(const fff_tensor *tensor) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t before = (page - (uintptr_t)tensor->data % page) % page; /* bytes that lie in a page shared with others */
    if (tensor->bytes > before) {
        const unsigned char *begin = (const unsigned char *)tensor->data + before;
        size_t whole = (tensor->bytes - before) / page * page;
        (void)madvise((void *)begin, whole, MADV_DONTNEED);
    }
}
