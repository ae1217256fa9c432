#include "tools/models/checkpoint_file.h"

#include "tools/files/temporary.h"
#include "tools/random.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LONGEST_PATH = 4096, VALUES_AT_ONCE = 1 << 16, HEADER_ALIGNMENT = 8 };

bool checkpoint_complain(const char *what, const char *path) {
    fprintf(stderr, "fff make-checkpoint: %s: %s\n", path, what);
    return false;
}

static size_t element_bytes(const struct tensor_plan *tensor) {
    return tensor->bf16 ? sizeof(uint16_t) : sizeof(float);
}

/* The header's text, to free(), padded so that the data are aligned; NULL when out of memory or if the sizes
 * overflow. */
static char *make_header(const struct tensor_plans *plans, size_t *length) {
    json_t *header = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    size_t offset = 0;
    bool ok = header != NULL;
    for (size_t i = 0; i < plans->count && ok; i++) {
        const struct tensor_plan *tensor = &plans->plans[i];
        size_t bytes, end;
        ok = !__builtin_mul_overflow(tensor->count, element_bytes(tensor), &bytes) &&
             !__builtin_add_overflow(offset, bytes, &end) && end <= (size_t)INT64_MAX;
        json_t *shape = json_array();
        for (size_t j = 0; j < tensor->rank && ok; j++) {
            json_array_append_new(shape, json_integer((json_int_t)tensor->shape[j]));
        }
        json_object_set_new(header, tensor->name,
                            json_pack("{s:s, s:o, s:[I,I]}", "dtype", tensor->bf16 ? "BF16" : "F32", "shape", shape,
                                      "data_offsets", (json_int_t)offset, (json_int_t)(ok ? end : 0)));
        offset = ok ? end : 0;
    }
    char *text = ok ? json_dumps(header, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;
    json_decref(header);
    if (text == NULL) {
        return NULL;
    }
    size_t used = strlen(text);
    *length = (used + HEADER_ALIGNMENT - 1) / HEADER_ALIGNMENT * HEADER_ALIGNMENT;
    char *padded = realloc(text, *length + 1);
    if (padded == NULL) {
        free(text);
        return NULL;
    }
    memset(padded + used, ' ', *length - used);
    return padded;
}

/* Finite float32 numbers become bfloat16 ones in their place: to nearest, ties to even. */
static void round_to_bf16(float *values, size_t count) {
    unsigned char *to = (unsigned char *)values;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        uint16_t half = (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
        memcpy(to + i * sizeof half, &half, sizeof half);
    }
}

static bool write_tensor(FILE *stream, const struct tensor_plan *tensor, float *values, uint64_t *state) {
    for (size_t done = 0; done < tensor->count;) {
        size_t count = tensor->count - done < VALUES_AT_ONCE ? tensor->count - done : VALUES_AT_ONCE;
        for (size_t i = 0; i < count; i++) {
            values[i] = tensor->mean + tensor->deviation * random_normal(state);
        }
        if (tensor->bf16) {
            round_to_bf16(values, count);
        }
        if (fwrite(values, element_bytes(tensor), count, stream) != count) {
            return false;
        }
        done += count;
    }
    return true;
}

static bool write_tensors(FILE *stream, const struct tensor_plans *plans, uint64_t seed) {
    size_t length = 0;
    char *header = make_header(plans, &length);
    float *values = malloc(VALUES_AT_ONCE * sizeof *values);
    unsigned char prefix[8];
    for (size_t i = 0; i < sizeof prefix; i++) {
        prefix[i] = (unsigned char)(length >> 8 * i);
    }
    errno = ENOMEM;
    bool ok = header != NULL && values != NULL && fwrite(prefix, sizeof prefix, 1, stream) == 1 &&
              fwrite(header, length, 1, stream) == 1;
    for (size_t i = 0; i < plans->count && ok; i++) {
        ok = write_tensor(stream, &plans->plans[i], values, &seed);
    }
    free(header);
    free(values);
    return ok;
}

bool write_checkpoint_file(const char *directory, const char *name, const char *text, const struct tensor_plans *plans,
                           uint64_t seed) {
    char path[LONGEST_PATH], temporary[LONGEST_PATH + 16];
    int length = snprintf(path, sizeof path, "%s/%s", directory, name);
    if (length < 0 || (size_t)length >= sizeof path) {
        return checkpoint_complain("the path is too long", directory);
    }
    snprintf(temporary, sizeof temporary, "%s.unfinished", path);
    FILE *stream = temporary_file(temporary);
    if (stream == NULL && errno == EEXIST) {
        return checkpoint_complain("is there already: delete it, unless another make-checkpoint is writing it now",
                                   temporary);
    }
    if (stream == NULL) {
        return checkpoint_complain(strerror(errno), temporary);
    }
    bool ok = text != NULL ? fprintf(stream, "%s\n", text) > 0 : write_tensors(stream, plans, seed);
    int why = errno;
    if (fclose(stream) != 0 && ok) {
        ok = false;
        why = errno;
    }
    /* link() and not rename(), which would overwrite. */
    if (ok && link(temporary, path) != 0) {
        ok = false;
        why = errno;
    }
    temporary_remove(temporary);
    return ok || checkpoint_complain(strerror(why), path);
}
