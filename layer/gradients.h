/* One call of fff_backward(), or a part and a chunk of it, and what its tasks do. */
#ifndef FFF_GRADIENTS_H
#define FFF_GRADIENTS_H

#include "layer/round.h"
#include "layer/visits.h"

/* Entries of tokens whose input gradients are computed at once, more or less; a task's slice of the workspace has room.
 */
enum { FFF_GATHERED = 1024 };

/* Byte offsets in the workspace, which begins with a struct fff_backward. */
struct fff_backward_layout {
    size_t states;                      /* a byte a task */
    size_t rows, order, tokens, starts; /* of visits */
    size_t places;                      /* where each row's gradient is */
    size_t slopes, activations;         /* one an entry, as paths are */
    size_t last_order;                  /* tokens in the order of their last neurons */
    size_t slices, slice;               /* of tasks */
    size_t gathered_rows, gathered;     /* in a slice, which begins with a float for each token of a chunk */
    size_t chunk, tasks;                /* tokens at once, tasks at most */
    size_t bytes;
};

/* One call, or a part and a chunk of it. Lies in the workspace where tasks share it. */
struct fff_backward {
    struct fff_round round;
    const fff_layer *layer;
    unsigned char *memory;
    struct fff_backward_layout layout;
    fff_runner runner;
    size_t tasks;
    /* For the chunk, from its first token on; of the part's entries: */
    const float *input, *logits, *output_gradient;
    const uint32_t *nodes;
    float *input_gradient;
    size_t input_stride, node_stride, logit_stride, output_gradient_stride, input_gradient_stride;
    const struct fff_part *part;
    const fff_gradients *gradients; /* of the part */
    bool first_part;                /* whose input gradients begin from 0 */
    unsigned write;                 /* write flags of the weights' gradients */
    struct fff_visits visits;
    uint32_t *places, *last_order;
    float *slopes, *activations;
};

/* Task `index` of a chunk that is sorted, in two rounds: the slopes of its share of the tokens; then the gradients of
 * its share of the inputs and of its share of the rows. */
void fff_slopes(const struct fff_backward *backward, size_t index);
void fff_gradients_of_chunk(const struct fff_backward *backward, size_t index);

#endif
