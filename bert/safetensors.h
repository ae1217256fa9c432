/* Reading safetensors files: memory-mapped, read-only, every field checked before use.
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
    FFF_TENSOR_OTHER, /* a type of the format that nothing here reads */
} fff_tensor_type;

typedef struct fff_tensor {
    const char *name;
    fff_tensor_type type;
    const char *type_name; /* as in the file, e.g. "F32" */
    size_t rank;
    size_t shape[FFF_TENSOR_MAX_RANK];
    size_t count;     /* the product of the shape */
    size_t bytes;     /* count times the element size */
    const void *data; /* in the mapping; may be aligned to nothing */
} fff_tensor;

typedef struct fff_safetensors fff_safetensors;

/* Opens a file. On failure returns NULL with one line in `error`, naming the file, the tensor and the
 * values that disagree. Not changed by use: any number of threads may read it. */
fff_safetensors *fff_safetensors_open(const char *path, char *error, size_t error_size);
void fff_safetensors_close(fff_safetensors *file);

/* The tensor of that name, or NULL; valid until the file is closed. */
const fff_tensor *fff_safetensors_find(const fff_safetensors *file, const char *name);

/* A value of the header's __metadata__ object, or NULL. */
const char *fff_safetensors_metadata(const fff_safetensors *file, const char *key);

#ifdef __cplusplus
}
#endif

#endif
