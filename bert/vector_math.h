/* The few functions of a transformer that are neither matrix products nor activations of the library. */
#ifndef FFF_BERT_VECTOR_MATH_H
#define FFF_BERT_VECTOR_MATH_H

#include <stddef.h>

/* Each row of `count`, `width` wide: subtract its mean, divide by sqrt(variance + eps), times weight, plus bias. In
 * place is allowed. */
void fff_layer_norm(size_t count, size_t width, const float *input, const float *weight, const float *bias, double eps,
                    float *output);

/* values = exp(values) / sum of exp(values), without overflow. */
void fff_softmax(size_t count, float *values);

/* values = tanh(values) */
void fff_tanh(size_t count, float *values);

#endif
