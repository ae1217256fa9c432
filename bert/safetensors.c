#include "bert/safetensors.h"

#include "bert/file.h"
#include "bert/json_walk.h"
#include "bert/report.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    LENGTH_BYTES = 8,
    LARGEST_HEADER = 100000000, /* the reference reader's limit */
    LARGEST_ENTRY = 1 << 16,    /* a dtype, a shape and two offsets */
};

struct named {
    const char *name;
    const fff_tensor *tensor;
};

struct fff_safetensors {
    void *mapping;
    size_t size;
    char *
        strings; /* names, unknown dtypes, metadata: never longer than the header, whose quotes make room for 0 bytes */
    size_t strings_used;
    const char *metadata, *metadata_end; /* in strings: key, value, key, value ... each with its 0 byte */
    fff_tensor *tensors;
    size_t tensor_count, tensor_capacity;
    struct named *by_name; /* in order of their names without prefixes */
};

/* What is being read. */
struct reading {
    struct fff_report report;
    fff_safetensors *file;
    struct fff_json_walk walk;
    const unsigned char *data;
    size_t data_size;
};

static const struct {
    const char *name;
    size_t size;
    fff_tensor_type type;
} types[] = {
    {"F64", 8, FFF_TENSOR_F64},    {"F32", 4, FFF_TENSOR_F32},       {"F16", 2, FFF_TENSOR_F16},
    {"BF16", 2, FFF_TENSOR_BF16},  {"I64", 8, FFF_TENSOR_I64},       {"I32", 4, FFF_TENSOR_I32},
    {"U64", 8, FFF_TENSOR_OTHER},  {"U32", 4, FFF_TENSOR_OTHER},     {"I16", 2, FFF_TENSOR_OTHER},
    {"U16", 2, FFF_TENSOR_OTHER},  {"I8", 1, FFF_TENSOR_I8},         {"U8", 1, FFF_TENSOR_OTHER},
    {"BOOL", 1, FFF_TENSOR_OTHER}, {"F8_E4M3", 1, FFF_TENSOR_OTHER}, {"F8_E5M2", 1, FFF_TENSOR_OTHER},
};

/* ---- The header ------------------------------------------------------------------------------ */

/* A string of the header, kept as long as the file is open. */
static const char *keep(fff_safetensors *file, const json_t *string) {
    size_t size = json_string_length(string) + 1;
    char *copy = memcpy(file->strings + file->strings_used, json_string_value(string), size);
    file->strings_used += size;
    return copy;
}

/* A JSON number as a size; false for anything else, such as a negative number. */
static bool read_size(const json_t *value, size_t *size) {
    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        (unsigned long long)json_integer_value(value) > SIZE_MAX) {
        return false;
    }
    *size = (size_t)json_integer_value(value);
    return true;
}

/* The dtype; returns the bytes of an element, 0 where that is not known. */
static size_t read_type(fff_safetensors *file, const json_t *name, fff_tensor *tensor) {
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (strcmp(json_string_value(name), types[i].name) == 0) {
            tensor->type = types[i].type;
            tensor->type_name = types[i].name;
            return types[i].size;
        }
    }
    tensor->type = FFF_TENSOR_OTHER; /* which matters only if somebody wants it */
    tensor->type_name = keep(file, name);
    return 0;
}

static bool read_shape(const struct reading *reading, const json_t *shape, fff_tensor *tensor) {
    tensor->rank = json_array_size(shape);
    tensor->count = 1;
    if (tensor->rank > FFF_TENSOR_MAX_RANK) {
        return FFF_FAIL(&reading->report, "tensor '%s' has %zu dimensions, more than %d", tensor->name, tensor->rank,
                        FFF_TENSOR_MAX_RANK);
    }
    for (size_t i = 0; i < tensor->rank; i++) {
        if (!read_size(json_array_get(shape, i), &tensor->shape[i]) ||
            __builtin_mul_overflow(tensor->count, tensor->shape[i], &tensor->count)) {
            return FFF_FAIL(&reading->report, "tensor '%s': dimension %zu is no number or too large", tensor->name, i);
        }
    }
    return true;
}

static bool read_tensor(struct reading *reading, const char *name, const json_t *entry, fff_tensor *tensor) {
    const struct fff_report *report = &reading->report;
    *tensor = (fff_tensor){.name = name};
    const json_t *type = json_object_get(entry, "dtype");
    const json_t *shape = json_object_get(entry, "shape");
    const json_t *offsets = json_object_get(entry, "data_offsets");
    if (!json_is_string(type) || !json_is_array(shape) || !json_is_array(offsets) || json_array_size(offsets) != 2) {
        return FFF_FAIL(report, "tensor '%s' lacks a dtype, a shape or a pair of data_offsets", name);
    }
    size_t begin, end, needed = 0, element_size = read_type(reading->file, type, tensor);
    if (!read_shape(reading, shape, tensor)) {
        return false;
    }
    if (!read_size(json_array_get(offsets, 0), &begin) || !read_size(json_array_get(offsets, 1), &end) || begin > end ||
        end > reading->data_size) {
        return FFF_FAIL(report, "tensor '%s': data_offsets do not lie within the %zu bytes of data", name,
                        reading->data_size);
    }
    tensor->bytes = end - begin;
    tensor->data = reading->data + begin;
    if (element_size > 0 && (__builtin_mul_overflow(tensor->count, element_size, &needed) || needed != tensor->bytes)) {
        return FFF_FAIL(report, "tensor '%s': dtype and shape need %zu x %zu bytes, data_offsets give %zu", name,
                        tensor->count, element_size, tensor->bytes);
    }
    return true;
}

/* One member of the header that describes a tensor. */
static bool read_entry(struct reading *reading, const char *name) {
    fff_safetensors *file = reading->file;
    if (file->tensor_count == file->tensor_capacity) {
        size_t capacity = file->tensor_capacity + file->tensor_capacity / 2 + 64;
        fff_tensor *more = realloc(file->tensors, capacity * sizeof *more);
        if (more == NULL) {
            return FFF_FAIL(&reading->report, "out of memory");
        }
        file->tensors = more;
        file->tensor_capacity = capacity;
    }
    if (fff_json_peek(&reading->walk) != '{') {
        return FFF_FAIL(&reading->report, "tensor '%s' lacks a dtype, a shape or a pair of data_offsets", name);
    }
    json_t *entry = fff_json_value(&reading->walk, name, LARGEST_ENTRY);
    bool ok = entry != NULL && read_tensor(reading, name, entry, &file->tensors[file->tensor_count]);
    file->tensor_count += ok;
    json_decref(entry);
    return ok;
}

/* The strings of the metadata object. Of equal keys the last counts, as in the reference reader. */
static bool read_metadata(struct reading *reading) {
    struct fff_json_walk *walk = &reading->walk;
    fff_safetensors *file = reading->file;
    json_t *key, *value;
    if (file->metadata != NULL) {
        return FFF_FAIL(&reading->report, "duplicate __metadata__");
    }
    file->metadata = file->strings + file->strings_used;
    bool ok = fff_json_object(walk);
    while (ok && (ok = fff_json_key(walk, &key)) && key != NULL) {
        const char *name = keep(file, key);
        json_decref(key);
        if (fff_json_peek(walk) != '"') {
            return FFF_FAIL(&reading->report, "metadata '%s' is no string", name);
        }
        value = fff_json_value(walk, name, LARGEST_HEADER);
        ok = value != NULL;
        if (ok) {
            (void)keep(file, value);
            json_decref(value);
        }
    }
    file->metadata_end = file->strings + file->strings_used;
    return ok;
}

static bool read_members(struct reading *reading) {
    json_t *key;
    bool ok = fff_json_object(&reading->walk);
    while (ok && (ok = fff_json_key(&reading->walk, &key)) && key != NULL) {
        const char *name = keep(reading->file, key);
        json_decref(key);
        ok = strcmp(name, "__metadata__") == 0 ? read_metadata(reading) : read_entry(reading, name);
    }
    return ok && fff_json_end(&reading->walk);
}

/* ---- The whole ------------------------------------------------------------------------------- */

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

const char *fff_tensor_plain_name(const char *name) {
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
    return strcmp(fff_tensor_plain_name(left->name), fff_tensor_plain_name(right->name));
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
        if (strcmp(file->by_name[i - 1].name, file->by_name[i].name) == 0) {
            return FFF_FAIL(report, "duplicate tensor '%s'", file->by_name[i].name);
        }
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
    bool fits = length <= file->size - LENGTH_BYTES && length <= LARGEST_HEADER;
    bool begins = file->size > LENGTH_BYTES && bytes[LENGTH_BYTES] == '{';
    const char *kind = begins && length <= LARGEST_HEADER ? NULL : fff_file_kind(bytes, file->size);
    if (kind != NULL) {
        return FFF_FAIL(report, "no safetensors file, but %s", kind);
    }
    if (!fits) {
        return FFF_FAIL(report, "header length %llu exceeds the file's %zu bytes or the limit of %d",
                        (unsigned long long)length, file->size, (int)LARGEST_HEADER);
    }
    if (length == 0 || !begins) {
        return FFF_FAIL(report, "the header is not a JSON object");
    }
    size_t data_at = LENGTH_BYTES + (size_t)length;
    struct reading reading = {*report,
                              file,
                              {report, "header", (const char *)bytes + LENGTH_BYTES, (size_t)length, 0},
                              bytes + data_at,
                              file->size - data_at};
    file->strings = malloc((size_t)length);
    if (file->strings == NULL) {
        return FFF_FAIL(report, "out of memory");
    }
    if (!read_members(&reading)) {
        return false;
    }
    if (file->tensor_count > 1) {
        qsort(file->tensors, file->tensor_count, sizeof *file->tensors, by_position);
    }
    return check_tiling(report, file, reading.data, reading.data_size) && sort_names(report, file);
}

static bool map_file(const struct fff_report *report, fff_safetensors *file) {
    int descriptor = fff_open_file(report, &file->size);
    if (descriptor < 0) {
        return false;
    }
    bool ok = false;
    unsigned char few[LENGTH_BYTES];
    if (file->size < LENGTH_BYTES) {
        ssize_t got = read(descriptor, few, file->size);
        const char *kind = got >= 0 ? fff_file_kind(few, (size_t)got) : NULL;
        if (kind != NULL) {
            fff_report(report, "no safetensors file, but %s", kind);
        } else {
            fff_report(report, "%zu bytes are too few for a safetensors file", file->size);
        }
    } else {
        file->mapping = mmap(NULL, file->size, PROT_READ, MAP_PRIVATE, descriptor, 0);
        ok = file->mapping != MAP_FAILED || FFF_FAIL(report, "%s", strerror(errno));
        file->mapping = ok ? file->mapping : NULL;
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
    if (!map_file(&report, file) || !read_header(&report, file)) {
        fff_safetensors_close(file);
        return NULL;
    }
    return file;
}

void fff_safetensors_close(fff_safetensors *file) {
    if (file == NULL) {
        return;
    }
    free(file->strings);
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
    const char *found = NULL;
    for (const char *name = file->metadata; name < file->metadata_end;) {
        const char *value = name + strlen(name) + 1;
        found = strcmp(name, key) == 0 ? value : found;
        name = value + strlen(value) + 1;
    }
    return found;
}

size_t fff_safetensors_count(const fff_safetensors *file) {
    return file->tensor_count;
}

const fff_tensor *fff_safetensors_at(const fff_safetensors *file, size_t index) {
    return &file->tensors[index];
}
