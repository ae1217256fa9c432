/* What a benchmark needs of memory, before it takes any. */
#include "tools/bench/work.h"
#include "tools/machine/free_memory.h"

#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    SAMPLE = 5 /* trees */,
    SAMPLE_NODES = 3 /* of each: depth 1 */,
    OTHER_MEGABYTES = 64 /* workspaces, libraries */
};

/* a + b * c, or SIZE_MAX if that is too much; SIZE_MAX stays. */
static size_t add_product(size_t a, size_t b, size_t c) {
    size_t product, sum;
    bool over = __builtin_mul_overflow(b, c, &product) || __builtin_add_overflow(a, product, &sum);
    return over ? SIZE_MAX : sum;
}

static size_t largest_batch(const struct bench_settings *settings) {
    size_t largest = 0;
    for (size_t i = 0; i < settings->batch_count; i++) {
        largest = settings->batches[i] > largest ? settings->batches[i] : largest;
    }
    return largest;
}

/* The bytes of a made layer for each node: padding differs. 0 when out of memory. */
static size_t packed_node(const struct bench_settings *settings) {
    size_t widest = settings->input_width > settings->output_width ? settings->input_width : settings->output_width;
    float *weights = calloc(add_product(0, widest, (SAMPLE + 1) * SAMPLE_NODES), sizeof *weights);
    size_t bytes[2] = {0};
    for (size_t i = 0; i < 2 && weights != NULL; i++) {
        const fff_layer_desc desc = {
            .struct_size = sizeof desc,
            .input_width = settings->input_width,
            .output_width = settings->output_width,
            .depth = 1,
            .trees = i == 0 ? 1 : 1 + SAMPLE,
            .isa = settings->isas[settings->isa_count - 1],
            .sleef = FFF_SLEEF_ANY,
            .input_weights = {weights, settings->input_width, 1},
            .output_weights = {weights, settings->output_width, 1},
            .store_input = settings->store.input,
            .store_output = settings->store.output,
            .routes = settings->store.routes,
        };
        fff_layer *layer = NULL;
        if (fff_layer_create(&desc, &layer) == FFF_OK) {
            bytes[i] = fff_layer_memory(layer);
            fff_layer_destroy(layer);
        }
    }
    free(weights);
    return bytes[1] > bytes[0] && bytes[0] > 0 ? (bytes[1] - bytes[0]) / (SAMPLE * SAMPLE_NODES) : 0;
}

enum { FLOAT32_COPIES = 3 }; /* of the weights, with which a layer of narrow rows is compared: numbers and two layers */

/* Weights as they are given, and what goes through the layer; SIZE_MAX if it cannot be counted. */
static size_t data_bytes(const struct bench *bench) {
    const struct bench_settings *s = &bench->settings;
    size_t weights = add_product(add_product(0, bench->data.rows, s->input_width), bench->data.rows, s->output_width);
    size_t values = add_product(weights, store_is_narrow(&s->store) ? FLOAT32_COPIES : 0, weights);
    values = add_product(values, bench->data.rows, 10); /* biases; four float64 numbers, and an index, to verify with */
    values = add_product(values, bench->data.batch, s->input_width);
    values = add_product(values, add_product(0, bench->data.batch, s->output_width), 2);
    return add_product(0, values, sizeof(float));
}

static size_t dense_bytes(const struct bench *bench) {
    const struct bench_settings *s = &bench->settings;
    size_t values = add_product(0, bench->data.rows, s->output_width);
    values = add_product(values, bench->data.rows, largest_batch(s));
    values = add_product(values, add_product(0, bench->data.batch, s->output_width), DENSE_WAYS);
    return add_product(0, values, sizeof(float));
}

static double gigabytes(size_t bytes) {
    return 1e-9 * (double)bytes;
}

/* BLAS counts in int. */
static bool fits_blas(const struct bench *bench) {
    const struct bench_settings *s = &bench->settings;
    return bench->data.rows <= INT_MAX && s->input_width <= INT_MAX && s->output_width <= INT_MAX &&
           largest_batch(s) <= INT_MAX;
}

/* Leaves out what does not fit beside the layers; `left` is what the data leave free. All that are timed are verified
 * at once, beside generic's, whose bits they must have. */
static bool fit(struct bench *bench, size_t left, size_t layer, char *error, size_t error_size) {
    struct bench_settings *s = &bench->settings;
    bool generic_is_timed = s->isas[0] == FFF_ISA_GENERIC;
    size_t all = s->isa_count + (generic_is_timed ? 0 : 1), layers = left / (layer > 0 ? layer : 1);
    size_t least = add_product(0, all < 2 ? all : 2, layer);
    if (least > left) {
        snprintf(error, error_size, "the layer%s needs %.3g GB more than the %.3g GB of memory that are free",
                 all < 2 ? "" : ", with generic's to verify it,", gigabytes(least - left), gigabytes(left));
        return false;
    }
    if (layers < all) {
        size_t isas = layers - 1; /* and generic's */
        bench_note(bench, "For want of memory only the best %zu of %zu instruction sets are timed.", isas,
                   s->isa_count);
        for (size_t i = 0; i < isas; i++) {
            s->isas[i] = s->isas[s->isa_count - isas + i];
        }
        s->isa_count = isas;
    }
    left -= s->isa_count * layer;
    size_t dense = dense_bytes(bench);
    if (s->dense && !fits_blas(bench)) {
        bench_note(bench, "The dense side is left out: BLAS counts to %d.", INT_MAX);
        s->dense = false;
    } else if (s->dense && dense > left) {
        bench_note(bench, "The dense side is left out: it needs %.3g GB more of memory, and %.3g GB would be free.",
                   gigabytes(dense), gigabytes(left));
        s->dense = false;
    }
    return true;
}

bool bench_plan(struct bench *bench, char *error, size_t error_size) {
    const struct bench_settings *s = &bench->settings;
    size_t nodes = fff_nodes_per_tree(s->depth), rows = 0;
    if (nodes == 0 || __builtin_mul_overflow(s->trees, nodes, &rows) || rows > UINT32_MAX || rows == 0) {
        snprintf(error, error_size, "%zu trees of depth %zu have more neurons than a layer may have, 2^32 - 1",
                 s->trees, s->depth);
        return false;
    }
    bench->data.rows = rows;
    bench->path_length = s->trees * (s->depth + 1); /* below rows, or as many */
    size_t data = add_product(data_bytes(bench), OTHER_MEGABYTES, 1 << 20), available = free_memory();
    if (data > available) {
        snprintf(error, error_size, "weights and inputs need %.3g GB of memory, and %.3g GB are free",
                 data == SIZE_MAX ? (double)INFINITY : gigabytes(data), gigabytes(available));
        return false;
    }
    size_t node = packed_node(s);
    if (node == 0) {
        snprintf(error, error_size, "%s", fff_status_text(FFF_ERROR_OUT_OF_MEMORY));
        return false;
    }
    return fit(bench, available - data, add_product(0, rows, node), error, error_size);
}
