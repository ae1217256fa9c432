#include "tools/bench/bench.h"

#include "bert/report.h"
#include "tools/bench/work.h"
#include "tools/machine/blas_kernels.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LEAST_TOKENS = 512, /* different ones: all routes, as traffic has them */
    USUALLY_VERIFIED = 64,
};
#define AFFORDABLE 4e8 /* weights in a second */

void bench_note(struct bench *bench, const char *format, ...) {
    if (bench->note_count == BENCH_NOTES) {
        return;
    }
    char text[4 * BENCH_TEXT];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fff_escape(bench->notes[bench->note_count++], BENCH_TEXT, text, strlen(text));
}

size_t bench_affordable(const struct bench *bench, size_t most) {
    const struct layer_data *data = &bench->data;
    double tokens = AFFORDABLE / ((double)data->rows * (double)(data->input_width + data->output_width));
    return tokens >= (double)most ? most : tokens >= 1 ? (size_t)tokens : 1;
}

/* ---- Opening --------------------------------------------------------------------------------- */

bool bench_open(struct bench *bench, const struct bench_settings *settings, char *error, size_t error_size) {
    *bench = (struct bench){.settings = *settings, .data = {.batch = LEAST_TOKENS}};
    for (size_t i = 0; i < settings->batch_count; i++) {
        bench->data.batch = settings->batches[i] > bench->data.batch ? settings->batches[i] : bench->data.batch;
    }
    if (!bench_plan(bench, error, error_size)) {
        bench->data = (struct layer_data){0};
        return false;
    }
    char why[2 * BENCH_TEXT] = "";
    bench->blas = bench->settings.dense ? fff_blas_load(why, sizeof why) : NULL;
    if (bench->settings.dense && bench->blas == NULL) {
        bench_note(bench, "The dense side is left out: %s.", why);
    } else if (bench->blas != NULL && blas_shortcoming(bench->blas, why, sizeof why)) {
        bench_note(bench, "%s", why);
    }
    size_t tokens = bench->data.batch;
    bench->work = calloc(1, sizeof *bench->work);
    if (bench->work == NULL || layer_data_make(&bench->data, settings->input_width, settings->output_width,
                                               settings->depth, settings->trees, tokens, settings->seed) != 0) {
        bench->data = (struct layer_data){0};
        snprintf(error, error_size, "%s", fff_status_text(FFF_ERROR_OUT_OF_MEMORY));
        return false;
    }
    bench->data.activation = settings->activation;
    bench->data.store = settings->store;
    stay_on_this_core(&bench->work->cores);
    bench->cpus = count_cores(&bench->work->cores);
    if (settings->threads > bench->cpus) {
        bench_note(bench, "%zu threads share the %zu CPU%s that this process may use.", settings->threads, bench->cpus,
                   bench->cpus == 1 ? "" : "s");
    }
    return true;
}

void bench_close(struct bench *bench) {
    struct bench_work *work = bench->work;
    if (work != NULL) {
        allow_cores(&work->cores);
        for (size_t i = 0; i < FFF_ISA_COUNT; i++) {
            fff_layer_destroy(work->layers[i]);
        }
        for (size_t i = 0; i < DENSE_WAYS; i++) {
            free(work->checked[i]);
        }
        dense_f64_destroy(work->dense_f64);
        dense_blas_free(&work->dense);
        free(work->reference);
        free(work->output);
        free(work->workspace);
        free(work);
    }
    layer_data_free(&bench->data);
    *bench = (struct bench){.work = NULL};
}

/* ---- Verifying and preparing ----------------------------------------------------------------- */

fff_status bench_verify(struct bench *bench, size_t tokens, enum verify_splits splits, struct verdict *verdicts,
                        struct store_verdict *store, size_t *verified) {
    struct layer_data part = bench->data;
    if (tokens == 0) {
        tokens = bench_affordable(bench, USUALLY_VERIFIED);
    }
    part.batch = tokens < part.batch ? tokens : part.batch;
    *verified = part.batch;
    return verify_layer(&part, bench->settings.isas, bench->settings.isa_count, splits, verdicts, store);
}

/* The dense side's memory. */
static bool prepare_dense(struct bench *bench) {
    struct bench_work *work = bench->work;
    work->dense_data = bench->data;
    work->dense_data.depth = 0;
    work->dense_data.trees = bench->data.rows;
    work->dense_f64 = dense_f64_create(&work->dense_data);
    size_t largest = 0;
    for (size_t i = 0; i < bench->settings.batch_count; i++) {
        largest = bench->settings.batches[i] > largest ? bench->settings.batches[i] : largest;
    }
    bool ok = work->dense_f64 != NULL && dense_blas_prepare(&work->dense, bench->blas, &bench->data, largest) == 0;
    for (size_t i = 0; i < DENSE_WAYS && ok; i++) {
        work->checked[i] = malloc(bench->data.batch * bench->data.output_width * sizeof(float));
        ok = work->checked[i] != NULL;
    }
    return ok;
}

static fff_status prepare_layers(struct bench *bench) {
    const struct bench_settings *s = &bench->settings;
    struct bench_work *work = bench->work;
    const struct layer_data *data = &bench->data;
    fff_status status = FFF_OK;
    for (size_t i = 0; i < s->isa_count && status == FFF_OK; i++) {
        fff_layer_desc desc = layer_data_desc(data, s->isas[i]);
        status = fff_layer_create(&desc, &work->layers[i]);
    }
    for (size_t i = 0; i < s->isa_count && status == FFF_OK; i++) {
        size_t size = 0;
        status = fff_workspace_size(work->layers[i], data->batch, s->threads, &size);
        work->workspace_size = size > work->workspace_size ? size : work->workspace_size;
    }
    if (status != FFF_OK) {
        return status;
    }
    size_t values = data->batch * data->output_width; /* counted by the plan */
    work->reference = malloc(values * sizeof(float));
    work->output = malloc(values * sizeof(float));
    work->workspace = malloc(work->workspace_size);
    if (work->reference == NULL || work->output == NULL || work->workspace == NULL) {
        return FFF_ERROR_OUT_OF_MEMORY;
    }
    return FFF_OK;
}

bool bench_prepare(struct bench *bench, char *error, size_t error_size) {
    fff_status status = prepare_layers(bench);
    if (status == FFF_OK && bench->blas != NULL && !prepare_dense(bench)) {
        status = FFF_ERROR_OUT_OF_MEMORY;
    }
    if (status != FFF_OK) {
        snprintf(error, error_size, "%s", fff_status_text(status));
    }
    return status == FFF_OK;
}
