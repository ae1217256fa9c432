/* Finding a model's tensors. Every family is gone through twice by the same code: first each tensor is looked up and
 * its shape held against the configuration, and only if all are right is anything made of them. So a configuration that
 * lies costs nothing. */
#ifndef FFF_BERT_LOAD_H
#define FFF_BERT_LOAD_H

#include "bert/model.h"
#include "bert/report.h"

enum { FFF_LONGEST_NAME = 256, FFF_LONGEST_PREFIX = 128 };

struct fff_loading {
    struct fff_bert *model;
    struct fff_report report;        /* of the checkpoint */
    char prefix[FFF_LONGEST_PREFIX]; /* before every name, "bert." */
    bool checking;                   /* the first time: nothing is made, results are NULL */
    struct bert_layer unused;        /* a layer's, while checking */
};

/* Sets the prefix to what stands before `part`, the beginning of names, in the names that have it; *found: whether any
 * has. False with a message if that is not one and the same. */
bool fff_load_prefix(struct fff_loading *loading, const char *part, bool *found);

/* What printf() makes of it: for names with numbers in them. Returns `name`. */
const char *fff_load_name(char name[FFF_LONGEST_NAME], const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Whether there is a tensor of that name. */
bool fff_load_has(const struct fff_loading *loading, const char *name);

/* A tensor, and whom to blame for it. */
struct fff_found {
    char name[FFF_LONGEST_PREFIX + FFF_LONGEST_NAME]; /* in full */
    struct fff_report report;                         /* of its file */
    const fff_tensor *tensor;
};

/* Looks a tensor of rows x columns up; rows 0: a vector; columns 0 too: a single number. Its dtype may be any. */
bool fff_load_find(const struct fff_loading *loading, const char *name, size_t rows, size_t columns,
                   struct fff_found *found);

/* The elements of one of floating point as float32. */
bool fff_load_floats(struct fff_loading *loading, const struct fff_found *found, const float **values);

/* Both at once; *values is NULL while checking. */
bool fff_load(struct fff_loading *loading, const char *name, size_t rows, size_t columns, const float **values);

/* `prefix`.weight and `prefix`.bias; norms may call them gamma and beta. */
bool fff_load_norm(struct fff_loading *loading, const char *prefix, struct norm *norm);
bool fff_load_linear(struct fff_loading *loading, const char *prefix, size_t out, size_t in, bool bias,
                     struct linear *linear);

/* `prefix`.weight, and its bias if it has one, of a layer's feedforward: its first matrix, or the one `of_output`. The
 * weights may be int8, too, with `prefix`.weight_scales, one a neuron. */
bool fff_load_feedforward(struct fff_loading *loading, const char *prefix, bool of_output, bool bias,
                          struct bert_layer *layer);

/* Packs the feedforward layers if the kernels compute them. */
bool fff_load_pack(struct fff_loading *loading);

/* Where layer `index` goes. */
struct bert_layer *fff_load_layer(struct fff_loading *loading, size_t index);

/* The model frees `memory` when it is closed; so does this on failure. */
bool fff_load_own(struct fff_loading *loading, void *memory);

/* All tensors of a family. */
bool fff_load_crammed(struct fff_loading *loading);
bool fff_load_post_norm(struct fff_loading *loading);

#endif
