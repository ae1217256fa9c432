/* Reading a layer file's tensors and metadata, each checked before it is used. Every function returns false, or NULL,
 * after one line in the report. */
#ifndef FFF_TOOLS_FILES_TENSORS_H
#define FFF_TOOLS_FILES_TENSORS_H

#include "bert/report.h"
#include "tools/files/layer_data.h"

/* A file is read twice: first all of it is checked, then it is copied, so that nothing is copied of a file that is
 * refused. `prefix` stands before every name: that of a part, "parts.3.", or nothing. */
struct loading {
    const fff_safetensors *file;
    struct fff_report report;
    bool copying;
    char prefix[32];
};

/* What a tensor may hold. */
enum content { FLOAT32, HALVES_TOO, WEIGHTS, INT32, INT64 };

/* A tensor, the shape that it must have, and where a copy of it goes. */
struct wanted {
    const char *name;
    bool required;
    enum content content;
    size_t rank, shape[3];
    float **floats;     /* as float32, of I8 the integers, */
    int32_t **integers; /* or for INT32; stays NULL for a tensor that is absent */
};

/* The tensor of that name behind the prefix, or NULL. */
const fff_tensor *find_tensor(const struct loading *loading, const char *name);
/* A value of the metadata, of the part or else of the file; or NULL. */
const char *find_metadata(const struct loading *loading, const char *key);

bool check_tensors(const struct loading *loading, const struct wanted *wanted, size_t count);
/* Nothing, before everything has been checked. */
bool copy_tensors(const struct loading *loading, const struct wanted *wanted, size_t count);
/* Weights that may be I8, which have scales then and only then, and become float32: the copied integers, their number,
 * and how the copied scales belong to them: that of element i is number i / outer * inner + i % inner. */
struct integers {
    const char *name, *scales_name;
    float *values, *scales;
    size_t count, outer, inner;
};
bool is_i8(const struct loading *loading, const char *name);
/* Refuses scales of what is not I8. */
bool check_scales(const struct loading *loading, const char *name, const char *scales_name);
/* Multiplies copied integers by their scales, which must be positive and finite; nothing where there are none. */
bool apply_scales(const struct loading *loading, const struct integers *integers);
/* A tensor that a layer's shape is read from: present, of that rank, with elements. */
const fff_tensor *find_shaped(const struct loading *loading, const char *name, size_t rank);
/* A number in the metadata, 0 to `largest`. */
bool read_count(const struct loading *loading, const char *key, size_t largest, size_t *count);

/* One part: shape and weights. trees and depth are read here, too; activation and routing are known. */
bool read_path_sum(const struct loading *loading, struct layer_data *part);
bool read_leaf_layer(const struct loading *loading, struct layer_data *part);

#endif
