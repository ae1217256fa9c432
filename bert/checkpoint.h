/* A model's weights: one safetensors file, or the shards of one. */
#ifndef FFF_BERT_CHECKPOINT_H
#define FFF_BERT_CHECKPOINT_H

#include "bert/file.h"
#include "bert/safetensors.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fff_checkpoint {
    char path[FFF_LONGEST_PATH]; /* of the single file, or of the index */
    fff_safetensors **files;
    char **paths;
    size_t count;
} fff_checkpoint;

/* Opens model.safetensors of a folder, else what model.safetensors.index.json names (the order of Hugging Face's code).
 * No tensor may be in two shards, and each that the index names must be where it says. False with one line in `error`,
 * and a checkpoint that holds nothing but the path. */
bool fff_checkpoint_open(const char *directory, fff_checkpoint *checkpoint, char *error, size_t error_size);
void fff_checkpoint_close(fff_checkpoint *checkpoint);

/* Bytes of all files. */
size_t fff_checkpoint_size(const fff_checkpoint *checkpoint);

/* The tensor of that name, as fff_safetensors_find() has it, and the file that it is in; NULL if there is none. */
const fff_tensor *fff_checkpoint_find(const fff_checkpoint *checkpoint, const char *name, const char **path);

#ifdef __cplusplus
}
#endif

#endif
