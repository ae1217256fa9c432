#include "tools/demo/stored.h"

#include "tools/commands.h"
#include "tools/machine/timing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KINDS = 3, BATCH = 64, ROUNDS = 9, PASSES = 4 /* over all tokens, in a round */ };

static const struct kind {
    const char *name;
    fff_weight_choice stored;
} kinds[KINDS] = {{"f32", FFF_CHOOSE_F32}, {"bf16", FFF_CHOOSE_BF16}, {"i8", FFF_CHOOSE_I8}};

/* A layer, what it makes of all tokens, and how long it takes. */
struct stored {
    fff_layer *layer;
    float *output, *logits;
    uint32_t *nodes;
    void *workspace;
    size_t workspace_size;
    double seconds[ROUNDS]; /* a token; of rounds that nobody disturbed */
    size_t clean;
};

static size_t path_length(const struct layer_data *data) {
    return data->trees * (data->depth + 1);
}

static fff_status make(const struct layer_data *data, fff_isa isa, fff_weight_choice type, struct stored *s) {
    fff_layer_desc desc = layer_data_desc(data, isa);
    desc.store_input = desc.store_output = type;
    fff_status status = fff_layer_create(&desc, &s->layer);
    if (status == FFF_OK) {
        status = fff_workspace_size(s->layer, BATCH, 1, &s->workspace_size);
    }
    if (status != FFF_OK) {
        return status;
    }
    s->workspace = malloc(s->workspace_size);
    s->output = calloc(data->batch * data->output_width, sizeof *s->output);
    s->nodes = calloc(data->batch * path_length(data), sizeof *s->nodes);
    s->logits = calloc(data->batch * path_length(data), sizeof *s->logits);
    bool ok = s->workspace != NULL && s->output != NULL && s->nodes != NULL && s->logits != NULL;
    return ok ? FFF_OK : FFF_ERROR_OUT_OF_MEMORY;
}

static void release(struct stored *s) {
    fff_layer_destroy(s->layer);
    free(s->workspace);
    free(s->output);
    free(s->nodes);
    free(s->logits);
}

static size_t batch_at(const struct layer_data *data, size_t first) {
    return data->batch - first < BATCH ? data->batch - first : BATCH;
}

static fff_status forward(const struct layer_data *data, struct stored *s) {
    fff_status status = FFF_OK;
    for (size_t first = 0; first < data->batch && status == FFF_OK; first += BATCH) {
        status = fff_forward(s->layer, batch_at(data, first), data->input + first * data->input_width,
                             data->input_width, s->output + first * data->output_width, data->output_width,
                             s->workspace, s->workspace_size, NULL);
    }
    return status;
}

static fff_status route(const struct layer_data *data, struct stored *s) {
    fff_status status = FFF_OK;
    size_t path = path_length(data);
    for (size_t first = 0; first < data->batch && status == FFF_OK; first += BATCH) {
        status = fff_route(s->layer, batch_at(data, first), data->input + first * data->input_width, data->input_width,
                           s->nodes + first * path, path, s->logits + first * path, path, s->workspace,
                           s->workspace_size, NULL);
    }
    return status;
}

/* All in turn, round after round. */
static fff_status time_all(const struct layer_data *data, struct stored *all) {
    fff_status status = FFF_OK;
    for (size_t round = 0; round < ROUNDS; round++) {
        for (size_t kind = 0; kind < KINDS && status == FFF_OK; kind++) {
            struct stored *s = &all[kind];
            (void)forward(data, s); /* brings its weights back into the caches */
            struct stopwatch watch = stopwatch_start(1, 1);
            for (size_t pass = 0; pass < PASSES && status == FFF_OK; pass++) {
                status = forward(data, s);
            }
            struct timed timed = stopwatch_stop(&watch);
            if (!was_disturbed(timed)) {
                s->seconds[s->clean++] = timed.seconds / (double)(PASSES * data->batch);
            }
        }
    }
    return status;
}

/* Whether plain C computes the same bits. */
static fff_status check(const struct layer_data *data, fff_weight_choice type, const struct stored *s, bool *same) {
    struct stored generic = {.clean = 0};
    fff_status status = make(data, FFF_ISA_GENERIC, type, &generic);
    if (status == FFF_OK) {
        status = forward(data, &generic);
    }
    if (status == FFF_OK) {
        *same = memcmp(generic.output, s->output, data->batch * data->output_width * sizeof(float)) == 0;
    }
    release(&generic);
    return status;
}

static double relative_error(const struct layer_data *data, const struct stored *s, const struct stored *float32) {
    double difference = 0, size = 0;
    for (size_t i = 0; i < data->batch * data->output_width; i++) {
        double value = (double)float32->output[i], off = (double)s->output[i] - value;
        difference += off * off;
        size += value * value;
    }
    return size > 0 ? sqrt(difference / size) : 0;
}

static size_t other_routes(const struct layer_data *data, const struct stored *s, const struct stored *float32) {
    size_t path = path_length(data), others = 0;
    for (size_t token = 0; token < data->batch; token++) {
        others += memcmp(s->nodes + token * path, float32->nodes + token * path, path * sizeof *s->nodes) != 0;
    }
    return others;
}

static void print(const struct layer_data *data, const char *name, const struct stored *s,
                  const struct stored *float32) {
    char time[32] = "the machine is busy";
    if (2 * s->clean >= ROUNDS) {
        snprintf(time, sizeof time, "%10.2f us a token", 1e6 * spread_of(s->seconds, s->clean).median);
    }
    printf("  %-5s %-20s %7.2f MB, outputs off float32's by %.2g of their size, %zu of %zu tokens on another route\n",
           name, time, 1e-6 * (double)fff_layer_memory(s->layer), relative_error(data, s, float32),
           other_routes(data, s, float32), data->batch);
}

static fff_status run_all(const struct layer_data *data, fff_isa isa, struct stored *all, bool *same) {
    fff_status status = FFF_OK;
    for (size_t kind = 0; kind < KINDS && status == FFF_OK; kind++) {
        status = make(data, isa, kinds[kind].stored, &all[kind]);
    }
    if (status == FFF_OK) {
        status = time_all(data, all);
    }
    *same = true;
    for (size_t kind = 0; kind < KINDS && status == FFF_OK && *same; kind++) {
        status = route(data, &all[kind]);
        if (status == FFF_OK) {
            status = check(data, kinds[kind].stored, &all[kind], same);
        }
    }
    return status;
}

int demo_stored(const struct layer_data *data, fff_isa isa) {
    struct stored all[KINDS] = {{.clean = 0}};
    bool same = false;
    printf("\nThe layer by what it stores, %s, batch %d, %d rounds, medians ...\n", fff_isa_name(isa), BATCH, ROUNDS);
    fflush(stdout);
    fff_status status = run_all(data, isa, all, &same);
    int exit_status = EXIT_HOLDS;
    if (status != FFF_OK) {
        fprintf(stderr, "fff demo: %s\n", fff_status_text(status));
        exit_status = EXIT_BAD_INPUT;
    } else if (!same) {
        fputs("fff demo: a timed result is wrong: not that of the generic kernels\n", stderr);
        exit_status = EXIT_FAILS;
    }
    for (size_t kind = 0; kind < KINDS; kind++) {
        if (exit_status == EXIT_HOLDS) {
            print(data, kinds[kind].name, &all[kind], &all[0]);
        }
    }
    for (size_t kind = 0; kind < KINDS; kind++) {
        release(&all[kind]);
    }
    return exit_status;
}
