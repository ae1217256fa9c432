#include "bert/product.h"

#include "bert/blas.h"

#include <string.h>

/* beta: 0 overwrites the output, 1 adds to it. */
static void multiply(size_t count, size_t out, size_t in, const float *input, size_t input_stride, const float *weight,
                     size_t weight_stride, float beta, float *output, size_t output_stride) {
    fff_blas()->sgemm(BLAS_ROW_MAJOR, BLAS_NO_TRANS, BLAS_TRANS, (int)count, (int)out, (int)in, 1, input,
                      (int)input_stride, weight, (int)weight_stride, beta, output, (int)output_stride);
}

void fff_product(size_t count, const struct linear *linear, const float *input, float *output) {
    for (size_t row = 0; row < count && linear->bias != NULL; row++) {
        memcpy(output + row * linear->out, linear->bias, linear->out * sizeof(float));
    }
    multiply(count, linear->out, linear->in, input, linear->in, linear->weight, linear->in,
             linear->bias != NULL ? 1.0f : 0.0f, output, linear->out);
}

void fff_product_add(size_t count, const struct linear *linear, const float *input, float *output) {
    multiply(count, linear->out, linear->in, input, linear->in, linear->weight, linear->in, 1, output, linear->out);
}

void fff_product_strided(size_t count, size_t out, size_t in, const float *input, size_t input_stride,
                         const float *weight, size_t weight_stride, float *output, size_t output_stride) {
    multiply(count, out, in, input, input_stride, weight, weight_stride, 0, output, output_stride);
}
