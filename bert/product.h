/* Matrix products by CBLAS. All sizes are at most INT_MAX: fff_bert_open() sees to it. */
#ifndef FFF_BERT_PRODUCT_H
#define FFF_BERT_PRODUCT_H

#include "bert/model.h"

/* output (count x out) = input (count x in) W' + bias */
void fff_product(size_t count, const struct linear *linear, const float *input, float *output);

/* The same without bias, added to what output holds. */
void fff_product_add(size_t count, const struct linear *linear, const float *input, float *output);

/* output (count x out) = input (count x in) W', with the given numbers of elements between rows. */
void fff_product_strided(size_t count, size_t out, size_t in, const float *input, size_t input_stride,
                         const float *weight, size_t weight_stride, float *output, size_t output_stride);

#endif
