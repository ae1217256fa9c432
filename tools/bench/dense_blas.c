#include "tools/bench/dense_blas.h"

#include "tools/machine/isas.h"

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

int dense_blas_prepare(struct dense_blas *dense, const struct fff_blas *blas, const struct layer_data *data,
                       size_t largest_batch) {
    *dense = (struct dense_blas){
        .blas = blas,
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
    fff_isa isas[FFF_ISA_COUNT];
    size_t count = usable_isas(isas);
    dense->best = isas[count - 1];
    return 0;
}

void dense_blas_forward(const struct dense_blas *dense, enum dense_blas_way way, size_t first, size_t batch,
                        float *output) {
    const struct layer_data *data = dense->data;
    const struct fff_blas *blas = dense->blas;
    const int rows = (int)data->rows, in = (int)data->input_width, out = (int)data->output_width, tokens = (int)batch;
    const float *input = data->input + first * data->input_width;
    float *hidden = dense->activations;
    for (size_t token = 0; token < batch; token++) {
        memcpy(hidden + token * data->rows, data->biases, data->rows * sizeof(float));
    }
    if (way == DENSE_GEMM || way == DENSE_GEMM_NODE_MAJOR) {
        blas->sgemm(BLAS_ROW_MAJOR, BLAS_NO_TRANS, BLAS_TRANS, tokens, rows, in, 1, input, in, data->input_weights, in,
                    1, hidden, rows);
    } else {
        for (size_t token = 0; token < batch; token++) {
            blas->sgemv(BLAS_ROW_MAJOR, BLAS_NO_TRANS, rows, in, 1, data->input_weights, in,
                        input + token * data->input_width, 1, 1, hidden + token * data->rows, 1);
        }
    }
    fff_activate(dense->best, data->activation, FFF_SLEEF_ANY, batch * data->rows, hidden, hidden);
    switch (way) {
    case DENSE_GEMM:
        blas->sgemm(BLAS_ROW_MAJOR, BLAS_NO_TRANS, BLAS_TRANS, tokens, out, rows, 1, hidden, rows, data->output_weights,
                    rows, 0, output, out);
        break;
    case DENSE_GEMM_NODE_MAJOR:
        blas->sgemm(BLAS_ROW_MAJOR, BLAS_NO_TRANS, BLAS_NO_TRANS, tokens, out, rows, 1, hidden, rows,
                    dense->output_weights_node_major, out, 0, output, out);
        break;
    case DENSE_GEMV:
    case DENSE_GEMV_NODE_MAJOR:
        for (size_t token = 0; token < batch; token++) {
            const float *from = hidden + token * data->rows;
            float *to = output + token * data->output_width;
            if (way == DENSE_GEMV) {
                blas->sgemv(BLAS_ROW_MAJOR, BLAS_NO_TRANS, out, rows, 1, data->output_weights, rows, from, 1, 0, to, 1);
            } else {
                blas->sgemv(BLAS_ROW_MAJOR, BLAS_TRANS, rows, out, 1, dense->output_weights_node_major, out, from, 1, 0,
                            to, 1);
            }
        }
        break;
    case DENSE_WAYS: break;
    }
}
