/* The tensors of a seeded model: what is written, before it is. */
#ifndef FFF_TOOLS_MODELS_CHECKPOINT_TENSORS_H
#define FFF_TOOLS_MODELS_CHECKPOINT_TENSORS_H

#include "bert/config.h"

#include <stdbool.h>
#include <stddef.h>

enum { LONGEST_NAME = 128 };

/* A tensor to write: its values are mean + deviation * a normal number. */
struct tensor_plan {
    char name[LONGEST_NAME];
    size_t rank, shape[2], count;
    float mean, deviation;
    bool bf16;
};

struct tensor_plans {
    struct tensor_plan *plans;
    size_t count, capacity;
    bool bf16;   /* the matrices */
    bool failed; /* out of memory, or a tensor is too large */
};

/* Appends those of a model. */
void plan_model(struct tensor_plans *plans, const fff_bert_config *config);

#endif
