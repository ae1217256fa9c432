#include "bert/checkpoint.h"

#include "bert/json_walk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { LARGEST_INDEX = 1 << 25, LARGEST_VALUE = 1 << 20, LONGEST_NAME = 1 << 12, MOST_SHARDS = 1000 };

/* An index on its way into a checkpoint. */
struct indexing {
    struct fff_report report;
    struct fff_json_walk walk;
    char *strings; /* tensor, shard, tensor, shard ... each with its 0 byte; never longer than the text */
    size_t used;
    const char *shards[MOST_SHARDS]; /* in strings */
    size_t shard_count;
};

/* ---- Files ----------------------------------------------------------------------------------- */

static bool add_file(fff_checkpoint *checkpoint, const char *path, char *error, size_t error_size) {
    fff_safetensors *file = fff_safetensors_open(path, error, error_size);
    if (file == NULL) {
        return false;
    }
    checkpoint->paths[checkpoint->count] = strdup(path);
    checkpoint->files[checkpoint->count++] = file; /* closed even if its path is missing */
    const struct fff_report report = {path, error, error_size};
    return checkpoint->paths[checkpoint->count - 1] != NULL || FFF_FAIL(&report, "out of memory");
}

static bool make_room(fff_checkpoint *checkpoint, size_t files, char *error, size_t error_size) {
    const struct fff_report report = {checkpoint->path, error, error_size};
    checkpoint->files = calloc(files, sizeof(fff_safetensors *));
    checkpoint->paths = calloc(files, sizeof(char *));
    return (checkpoint->files != NULL && checkpoint->paths != NULL) || FFF_FAIL(&report, "out of memory");
}

/* ---- The index ------------------------------------------------------------------------------- */

static const char *keep(struct indexing *indexing, const char *string) {
    size_t size = strlen(string) + 1;
    char *copy = memcpy(indexing->strings + indexing->used, string, size);
    indexing->used += size;
    return copy;
}

static size_t shard_number(const struct indexing *indexing, const char *shard) {
    size_t number = indexing->shard_count;
    while (number > 0 && strcmp(indexing->shards[number - 1], shard) != 0) { /* most often the last one */
        number--;
    }
    return number > 0 ? number - 1 : MOST_SHARDS;
}

/* One line of the map: a tensor, and the shard that holds it. */
static bool read_place(struct indexing *indexing, const char *tensor) {
    if (fff_json_peek(&indexing->walk) != '"') {
        return FFF_FAIL(&indexing->report, "tensor '%s' is mapped to no file's name", tensor);
    }
    json_t *value = fff_json_value(&indexing->walk, tensor, LONGEST_NAME);
    if (value == NULL) {
        return false;
    }
    const char *shard = keep(indexing, json_string_value(value));
    json_decref(value);
    if (*shard == '\0' || !fff_stays_inside(shard)) {
        return FFF_FAIL(&indexing->report, "tensor '%s' is mapped to '%s', which is no file inside the model's folder",
                        tensor, shard);
    }
    if (shard_number(indexing, shard) == MOST_SHARDS) {
        if (indexing->shard_count == MOST_SHARDS) {
            return FFF_FAIL(&indexing->report, "there are more than %d files", MOST_SHARDS);
        }
        indexing->shards[indexing->shard_count++] = shard;
    }
    return true;
}

static bool read_map(struct indexing *indexing) {
    json_t *key;
    bool ok = fff_json_object(&indexing->walk);
    while (ok && (ok = fff_json_key(&indexing->walk, &key)) && key != NULL) {
        const char *tensor = keep(indexing, json_string_value(key));
        json_decref(key);
        ok = read_place(indexing, tensor);
    }
    return ok;
}

/* total_size and other metadata are not needed: the shards' own headers say what there is. */
static bool read_index(struct indexing *indexing) {
    json_t *key;
    bool mapped = false, ok = fff_json_object(&indexing->walk);
    while (ok && (ok = fff_json_key(&indexing->walk, &key)) && key != NULL) {
        if (strcmp(json_string_value(key), "weight_map") == 0 && !mapped) {
            mapped = true;
            ok = read_map(indexing);
        } else {
            json_t *value = fff_json_value(&indexing->walk, json_string_value(key), LARGEST_VALUE);
            ok = value != NULL;
            json_decref(value);
        }
        json_decref(key);
    }
    return ok && fff_json_end(&indexing->walk) &&
           (indexing->shard_count > 0 || FFF_FAIL(&indexing->report, "the weight_map is missing or empty"));
}

static bool check_places(const struct indexing *indexing, const fff_checkpoint *checkpoint) {
    const char *end = indexing->strings + indexing->used;
    for (const char *tensor = indexing->strings; tensor < end;) {
        const char *shard = tensor + strlen(tensor) + 1;
        if (fff_safetensors_find(checkpoint->files[shard_number(indexing, shard)], tensor) == NULL) {
            return FFF_FAIL(&indexing->report, "tensor '%s' is not in '%s', to which it is mapped", tensor, shard);
        }
        tensor = shard + strlen(shard) + 1;
    }
    return true;
}

static bool check_single(const struct indexing *indexing, const fff_checkpoint *checkpoint) {
    for (size_t file = 1; file < checkpoint->count; file++) {
        for (size_t i = 0; i < fff_safetensors_count(checkpoint->files[file]); i++) {
            const char *name = fff_safetensors_at(checkpoint->files[file], i)->name;
            for (size_t other = 0; other < file; other++) {
                if (fff_safetensors_find(checkpoint->files[other], name) != NULL) {
                    return FFF_FAIL(&indexing->report, "tensor '%s' is both in '%s' and in '%s'", name,
                                    indexing->shards[other], indexing->shards[file]);
                }
            }
        }
    }
    return true;
}

static bool open_shards(struct indexing *indexing, const char *directory, fff_checkpoint *checkpoint) {
    char *error = indexing->report.text, path[FFF_LONGEST_PATH];
    size_t error_size = indexing->report.size;
    if (!make_room(checkpoint, indexing->shard_count, error, error_size)) {
        return false;
    }
    for (size_t i = 0; i < indexing->shard_count; i++) {
        if (!fff_join_path(directory, indexing->shards[i], path, error, error_size) ||
            !add_file(checkpoint, path, error, error_size)) {
            return false;
        }
    }
    return check_places(indexing, checkpoint) && check_single(indexing, checkpoint);
}

static bool open_index(const char *directory, fff_checkpoint *checkpoint, char *error, size_t error_size) {
    const struct fff_report report = {checkpoint->path, error, error_size};
    size_t length = 0;
    char *text = fff_read_file(&report, LARGEST_INDEX, &length);
    const char *kind = text != NULL ? fff_file_kind(text, length) : NULL;
    if (kind != NULL && strcmp(kind, "a JSON text") != 0) {
        free(text);
        return FFF_FAIL(&report, "no JSON, but %s", kind);
    }
    struct indexing *indexing = calloc(1, sizeof *indexing);
    char *strings = malloc(length + 1);
    bool ok = text != NULL;
    if (ok && (indexing == NULL || strings == NULL)) {
        ok = FFF_FAIL(&report, "out of memory");
    }
    if (ok) {
        *indexing = (struct indexing){report, {&report, "index", text, length, 0}, strings, 0, {NULL}, 0};
        ok = read_index(indexing) && open_shards(indexing, directory, checkpoint);
    }
    free(indexing);
    free(strings);
    free(text);
    return ok;
}

/* ---- The whole ------------------------------------------------------------------------------- */

/* Neither form is there: say so, and what is instead. */
static bool fail_without(const char *directory, const fff_checkpoint *checkpoint, char *error, size_t error_size) {
    static const char *const others[] = {"pytorch_model.bin", "pytorch_model.bin.index.json", "model.onnx",
                                         "tf_model.h5",       "flax_model.msgpack",           "model.ckpt.index",
                                         "model.gguf"};
    const struct fff_report report = {checkpoint->path, error, error_size};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        char path[FFF_LONGEST_PATH];
        if (fff_join_path(directory, others[i], path, error, error_size) && fff_exists(path)) {
            return FFF_FAIL(&report, "%s; %s, which is there, is not read: save the model as safetensors",
                            strerror(ENOENT), others[i]);
        }
    }
    return FFF_FAIL(&report, "%s", strerror(ENOENT));
}

bool fff_checkpoint_open(const char *directory, fff_checkpoint *checkpoint, char *error, size_t error_size) {
    char index[FFF_LONGEST_PATH];
    *checkpoint = (fff_checkpoint){0};
    if (!fff_join_path(directory, "model.safetensors", checkpoint->path, error, error_size) ||
        !fff_join_path(directory, "model.safetensors.index.json", index, error, error_size)) {
        return false;
    }
    bool ok;
    if (fff_exists(checkpoint->path)) {
        ok = make_room(checkpoint, 1, error, error_size) && add_file(checkpoint, checkpoint->path, error, error_size);
    } else if (fff_exists(index)) {
        memcpy(checkpoint->path, index, sizeof index);
        ok = open_index(directory, checkpoint, error, error_size);
    } else {
        ok = fail_without(directory, checkpoint, error, error_size);
    }
    if (!ok) {
        fff_checkpoint_close(checkpoint);
    }
    return ok;
}

void fff_checkpoint_close(fff_checkpoint *checkpoint) {
    for (size_t i = 0; i < checkpoint->count; i++) {
        fff_safetensors_close(checkpoint->files[i]);
        free(checkpoint->paths[i]);
    }
    free(checkpoint->files);
    free(checkpoint->paths);
    checkpoint->files = NULL;
    checkpoint->paths = NULL;
    checkpoint->count = 0;
}

size_t fff_checkpoint_size(const fff_checkpoint *checkpoint) {
    size_t size = 0;
    for (size_t i = 0; i < checkpoint->count; i++) {
        size += fff_safetensors_size(checkpoint->files[i]);
    }
    return size;
}

const fff_tensor *fff_checkpoint_find(const fff_checkpoint *checkpoint, const char *name, const char **path) {
    for (size_t i = 0; i < checkpoint->count; i++) {
        const fff_tensor *tensor = fff_safetensors_find(checkpoint->files[i], name);
        if (tensor != NULL) {
            *path = checkpoint->paths[i];
            return tensor;
        }
    }
    return NULL;
}
