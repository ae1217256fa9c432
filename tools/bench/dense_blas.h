/* The dense layer of the same neurons, computed by OpenBLAS on one thread: what the benchmark compares with.
 * Every neuron of every tree contributes, as in a transformer's ordinary feedforward layer. */
#ifndef FFF_TOOLS_BENCH_DENSE_BLAS_H
#define FFF_TOOLS_BENCH_DENSE_BLAS_H

#include "bert/blas.h"
#include "tools/files/layer_data.h"

/* Ways to compute it. The output weights are read as PyTorch stores them (output-major) or transposed
 * once beforehand (node-major); which is faster depends on the batch. */
enum dense_blas_way { DENSE_GEMM, DENSE_GEMM_NODE_MAJOR, DENSE_GEMV, DENSE_GEMV_NODE_MAJOR, DENSE_WAYS };
const char *dense_blas_way_name(enum dense_blas_way way);

struct dense_blas {
    const struct fff_blas *blas;
    const struct layer_data *data;
    float *output_weights_node_major; /* rows x output_width */
    float *activations;               /* largest batch x rows */
    fff_isa best;                     /* for GELU, whatever FFF_ISA says: the dense side gets the best */
};

/* 0, or -1 when out of memory. All sizes are at most INT_MAX. */
int dense_blas_prepare(struct dense_blas *dense, const struct fff_blas *blas, const struct layer_data *data,
                       size_t largest_batch);
void dense_blas_free(struct dense_blas *dense);

/* output[t] for `batch` tokens from token `first` of the data's input. */
void dense_blas_forward(const struct dense_blas *dense, enum dense_blas_way way, size_t first, size_t batch,
                        float *output);

#endif
