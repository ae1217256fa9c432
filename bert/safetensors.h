/* Reading safetensors files: memory-mapped, read-only, every field checked before use. Time and memory to open one are
 * in proportion to its header, which has at most 100 MB.
 *
 * The format (github.com/huggingface/safetensors): an unsigned 64-bit little-endian header length, a
 * JSON header of that many bytes, then the tensors' bytes. The rules enforced are those of its
 * reference reader: the tensors tile the data section without gap or overlap. A file that another
 * process shortens while it is open kills this one (SIGBUS), as with every mapped file. */
#ifndef FFF_SAFETENSORS_H
#define FFF_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { FFF_TENSOR_MAX_RANK = 8 };

typedef enum fff_tensor_type {
    FFF_TENSOR_F64,
    FFF_TENSOR_F32,
    FFF_TENSOR_F16,
    FFF_TENSOR_BF16,
    FFF_TENSOR_I64,
    FFF_TENSOR_I32,
    FFF_TENSOR_I8,
    FFF_TENSOR_OTHER, /* a type that nothing here reads, of the format or of a later one */
} fff_tensor_type;

typedef struct fff_tensor {
    const char *name;
    fff_tensor_type type;
    const char *type_name; /* as in the file, e.g. "F32" */
    size_t rank;
    size_t shape[FFF_TENSOR_MAX_RANK];
    size_t count;     /* the product of the shape */
    size_t bytes;     /* count times the element size, where that is known */
    const void *data; /* in the mapping; may be aligned to nothing */
} fff_tensor;

typedef struct fff_safetensors fff_safetensors;

/* A tensor's elements as float32. */
typedef struct fff_floats {
    const float *values; /* in the mapping where the file holds them so, else `owned` */
    float *owned;        /* to free(), or NULL */
} fff_floats;

/* Opens a file. On failure returns NULL with one line in `error`, naming the file, the tensor and the
 * values that disagree. Not changed by use: any number of threads may read it. */
fff_safetensors *fff_safetensors_open(const char *path, char *error, size_t error_size);
void fff_safetensors_close(fff_safetensors *file);

/* The file's size in bytes. */
size_t fff_safetensors_size(const fff_safetensors *file);

/* The tensor of that name, or NULL; valid until the file is closed. Wrappers of PyTorch put `module.` and
 * `_orig_mod.` before all names: both are passed over, in the file's names and in the one asked for. */
const fff_tensor *fff_safetensors_find(const fff_safetensors *file, const char *name);

/* A name without those prefixes. */
const char *fff_tensor_plain_name(const char *name);

/* All tensors, in the order of their data. */
size_t fff_safetensors_count(const fff_safetensors *file);
const fff_tensor *fff_safetensors_at(const fff_safetensors *file, size_t index);

/* Whether a tensor is of F32, F16, BF16 or F64. */
bool fff_tensor_has_floats(const fff_tensor *tensor);

/* One element of a tensor of F32, F16, BF16, F64 or I8, the integer, as float32; of others 0. */
float fff_tensor_element(const fff_tensor *tensor, size_t index);

/* The elements of a tensor of F32, F16, BF16 or F64 as float32: a view where the file holds aligned F32, else a copy.
 * False when out of memory or, with *floats zeroed all the same, if it is of another type. */
bool fff_tensor_floats(const fff_tensor *tensor, fff_floats *floats);

/* Says that a tensor will not be read for a while: its pages are given back to the system, and read from the file
 * again when touched. */
void fff_tensor_release(const fff_tensor *tensor);

/* A value of the header's __metadata__ object, or NULL. */
const char *fff_safetensors_metadata(const fff_safetensors *file, const char *key);

#ifdef __cplusplus
}
#endif

#endif
