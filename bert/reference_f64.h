/* The same forward pass in float64, written apart from the float32 one: what end-to-end results are
 * compared with. Feedforward layers are dense, and masked where the model has trees. */
#ifndef FFF_BERT_REFERENCE_F64_H
#define FFF_BERT_REFERENCE_F64_H

#include "bert/bert.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fff_bert_seen_f64 {
    size_t layer, first_token, tokens;
    const double *output;  /* of the feedforward, tokens x hidden_size; before any bias of the output */
    const uint32_t *nodes; /* tokens x path length; NULL for dense layers */
} fff_bert_seen_f64;

/* As fff_bert_encode(), one sequence at a time. `seen` may be NULL. The model is one whose feedforward is computed
 * densely, or has float32 weights. */
bool fff_bert_encode_f64(const fff_bert *model, const fff_bert_batch *batch, double *hidden,
                         void (*seen)(void *context, const fff_bert_seen_f64 *), void *context, char *error,
                         size_t error_size);

/* As fff_bert_decode() and fff_bert_classify(); false also when out of memory. */
bool fff_bert_decode_f64(const fff_bert *model, size_t tokens, const double *hidden, double *logits);
bool fff_bert_classify_f64(const fff_bert *model, size_t sequences, size_t length, const double *hidden,
                           double *logits);

#ifdef __cplusplus
}
#endif

#endif
