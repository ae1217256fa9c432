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

/* A tensor of rows x columns; rows 0: a vector; columns 0 too: a single number. */
bool fff_load(struct fff_loading *loading, const char *name, size_t rows, size_t columns, const float **values);

/* `prefix`.weight and `prefix`.bias; norms may call them gamma and beta. */
bool fff_load_norm(struct fff_loading *loading, const char *prefix, struct norm *norm);
bool fff_load_linear(struct fff_loading *loading, const char *prefix, size_t out, size_t in, bool bias,
                     struct linear *linear);

/* Where layer `index` goes. */
struct bert_layer *fff_load_layer(struct fff_loading *loading, size_t index);

/* The model frees `memory` when it is closed; so does this on failure. */
bool fff_load_own(struct fff_loading *loading, float *memory);

/* All tensors of a family. */
bool fff_load_crammed(struct fff_loading *loading);
bool fff_load_post_norm(struct fff_loading *loading);

#endif
