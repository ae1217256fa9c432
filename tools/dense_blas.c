#include "tools/dense_blas.h"

#include "tools/verify_layer.h"

#include <stdlib.h>
#include <string.h>

const char *dense_blas_way_name(enum dense_blas_way way) {
    static const char *names[DENSE_WAYS] = {"sgemm", "sgemm, node-major", "sgemv", "sgemv, node-major"};
    return names[way];
}

void dense_blas_free(struct dense_blas *dense) {
    free(dense->output_weights_node_major);
    free(dense->activations);
    *dense = (struct dense_blas){0};
}

#if FFF_HAVE_OPENBLAS

#include <cblas.h>

const char *dense_blas_version(void) {
    return openblas_get_config();
}

int dense_blas_prepare(struct dense_blas *dense, const struct layer_data *data, size_t largest_batch) {
    *dense = (struct dense_blas){
        .data = data,
        .output_weights_node_major = malloc(data->rows * data->output_width * sizeof(float)),
        .activations = malloc(largest_batch * data->rows * sizeof(float)),
    };
    if (dense->output_weights_node_major == NULL || dense->activations == NULL) {
        dense_blas_free(dense);
        return -1;
    }
    for (size_t column = 0; column < data->output_width; column++) {
        for (size_t row = 0; row < data->rows; row++) {
            dense->output_weights_node_major[row * data->output_width + column] =
                data->output_weights[column * data->rows + row];
        }
    }
    openblas_set_num_threads(1);
    fff_isa isas[FFF_ISA_COUNT];
    size_t count = usable_isas(isas);
    dense->best = isas[count - 1];
    return 0;
}

void dense_blas_forward(const struct dense_blas *dense, enum dense_blas_way way, size_t first, size_t batch,
                        float *output) {
    const struct layer_data *data = dense->data;
    const blasint rows = (blasint)data->rows, in = (blasint)data->input_width, out = (blasint)data->output_width,
                  tokens = (blasint)batch;
    const float *input = data->input + first * data->input_width;
    float *hidden = dense->activations;
    for (size_t token = 0; token < batch; token++) {
        memcpy(hidden + token * data->rows, data->biases, data->rows * sizeof(float));
    }
    if (way == DENSE_GEMM || way == DENSE_GEMM_NODE_MAJOR) {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, tokens, rows, in, 1, input, in, data->input_weights, in, 1,
                    hidden, rows);
    } else {
        for (size_t token = 0; token < batch; token++) {
            cblas_sgemv(CblasRowMajor, CblasNoTrans, rows, in, 1, data->input_weights, in,
                        input + token * data->input_width, 1, 1, hidden + token * data->rows, 1);
        }
    }
    fff_activate(dense->best, data->activation, FFF_SLEEF_RECORDED, batch * data->rows, hidden, hidden);
    switch (way) {
    case DENSE_GEMM:
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, tokens, out, rows, 1, hidden, rows, data->output_weights,
                    rows, 0, output, out);
        break;
    case DENSE_GEMM_NODE_MAJOR:
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, tokens, out, rows, 1, hidden, rows,
                    dense->output_weights_node_major, out, 0, output, out);
        break;
    case DENSE_GEMV:
    case DENSE_GEMV_NODE_MAJOR:
        for (size_t token = 0; token < batch; token++) {
            const float *from = hidden + token * data->rows;
            float *to = output + token * data->output_width;
            if (way == DENSE_GEMV) {
                cblas_sgemv(CblasRowMajor, CblasNoTrans, out, rows, 1, data->output_weights, rows, from, 1, 0, to, 1);
            } else {
                cblas_sgemv(CblasRowMajor, CblasTrans, rows, out, 1, dense->output_weights_node_major, out, from, 1, 0,
                            to, 1);
            }
        }
        break;
    case DENSE_WAYS: break;
    }
}

#else

const char *dense_blas_version(void) {
    return NULL;
}

int dense_blas_prepare(struct dense_blas *dense, const struct layer_data *data, size_t largest_batch) {
    (void)largest_batch;
    *dense = (struct dense_blas){.data = data};
    return 0;
}

void dense_blas_forward(const struct dense_blas *dense, enum dense_blas_way way, size_t first, size_t batch,
                        float *output) {
    (void)dense, (void)way, (void)first, (void)batch, (void)output;
}

#endif
