#include "tools/bench/report.h"

#include "tools/layer_options.h"
#include "tools/verify/report.h"

#include <stdio.h>

#define FEW 2.0 /* times: a second digit tells something */

/* ---- For people ------------------------------------------------------------------------------ */

void print_bench_shape(const struct bench *bench) {
    const struct layer_data *data = &bench->data;
    printf("A fast feedforward layer, %zu tree%s of depth %zu, ", data->trees, data->trees == 1 ? "" : "s",
           data->depth);
    if (data->input_width == data->output_width) {
        printf("%zu wide", data->input_width);
    } else {
        printf("from %zu to %zu wide", data->input_width, data->output_width);
    }
    printf(": %zu neuron%s, %zu used by each token", data->rows, data->rows == 1 ? "" : "s", bench->path_length);
    fff_weight_type input = stored_input_type(data), output = stored_output_type(data);
    char store[STORE_TEXT];
    if (input != FFF_WEIGHT_F32 || output != FFF_WEIGHT_F32) {
        printf("; stored: %s", describe_store(input, output, data->store.routes == FFF_ROUTES_EXACT, store));
    }
    puts(".\n");
    fflush(stdout);
}

bool print_bench_verdicts(const struct verdict *verdicts, size_t count, const struct store_verdict *store) {
    bool ok = store_verdict_holds(store);
    for (size_t i = 0; i < count; i++) {
        printf("  %-12s %zu differing bits, worst error %.2f%% of the proven bound, %zu wrong routes, %zu ties\n",
               fff_isa_name(verdicts[i].isa), verdicts[i].differing_values, 100 * verdicts[i].dense.bound_used,
               verdicts[i].dense.route_mismatches, verdicts[i].dense.ties);
        ok = ok && verdict_holds(&verdicts[i]);
    }
    print_store(store);
    if (!ok) {
        puts("FAILED");
    }
    return ok;
}

void print_bench_head(const struct bench *bench) {
    printf("\nTiming on one core, %zu rounds, medians", bench->settings.rounds);
    if (bench->blas != NULL) {
        printf("; the dense layer of the same %zu neuron%s by ", bench->data.rows, bench->data.rows == 1 ? "" : "s");
        print_escaped(bench->blas->version != NULL ? bench->blas->version : bench->blas->file);
    }
    puts(" ...");
    for (size_t i = 0; i < bench->note_count; i++) {
        puts(bench->notes[i]);
    }
    fflush(stdout);
}

static void print_side(const struct bench_side *side) {
    char name[64];
    if (side->is_dense) {
        snprintf(name, sizeof name, "dense, %s", dense_blas_way_name(side->way));
    } else if (side->threads > 1) {
        snprintf(name, sizeof name, "fff, %s, %zu threads", fff_isa_name(side->isa), side->threads);
    } else {
        snprintf(name, sizeof name, "fff, %s", fff_isa_name(side->isa));
    }
    printf("  %-29s", name);
    if (side->left_out[0] != '\0') {
        printf(" left out: %s\n", side->left_out);
        return;
    }
    printf(" %10.2f us a token", 1e6 * side->seconds.median);
    if (side->has_ratio) {
        int digits = side->ratio.median < FEW ? 2 : 1;
        const char *than = side->threads > 1 ? "one thread" : side->ratio.median < 1 ? "as fast" : "faster";
        printf("  %7.*f times %s (%.*f to %.*f)", digits, side->ratio.median, than, digits, side->ratio.least, digits,
               side->ratio.most);
    }
    puts("");
}

void print_bench_batch(const struct bench *bench, const struct bench_batch *batch) {
    printf("\nbatch %zu\n", batch->batch);
    if (batch->best_dense < BENCH_SIDES) {
        print_side(&batch->sides[batch->best_dense]);
    }
    for (size_t i = 0; i < batch->side_count; i++) {
        const struct bench_side *side = &batch->sides[i];
        bool none_timed = batch->best_dense == BENCH_SIDES; /* then say why, once for each way */
        if (!side->is_dense || none_timed) {
            print_side(side);
        }
    }
    if (batch->rounds > 0 && batch->rounds != bench->settings.rounds && !batch->busy) {
        printf("  (%zu rounds)\n", batch->rounds);
    }
    if (batch->busy) {
        printf("  the machine is busy: %s; these figures are not to be believed\n", batch->why);
    }
    fflush(stdout);
}

void print_bench_end(void) {
    puts("\nEvery timed output was checked: the layer's bit for bit against the verified ones, the dense layer's\n"
         "against a result that agrees with float64 within its bound.");
}

/* ---- For programs ---------------------------------------------------------------------------- */

static json_t *text_or_null(const char *text) {
    return text != NULL && *text != '\0' ? json_text(text) : json_null();
}

static json_t *json_spread(bool known, struct spread spread, double factor) {
    return known ? json_pack("{s:f, s:f, s:f}", "median", factor * spread.median, "p10", factor * spread.least, "p90",
                             factor * spread.most)
                 : json_null();
}

static json_t *json_side(const struct bench_side *side, const struct bench_batch *batch) {
    bool timed = side->left_out[0] == '\0';
    return json_pack(
        "{s:s, s:s, s:I, s:b, s:o, s:I, s:f, s:o, s:o, s:b, s:o}", "kind", side->is_dense ? "dense" : "fff", "name",
        side->is_dense ? dense_blas_way_name(side->way) : fff_isa_name(side->isa), "threads", (json_int_t)side->threads,
        "best_dense", batch->best_dense < BENCH_SIDES && side == &batch->sides[batch->best_dense], "us_per_token",
        json_spread(timed, side->seconds, 1e6), "clean_rounds", (json_int_t)side->clean, "lost", side->lost,
        "times_faster", json_spread(side->has_ratio && side->threads == 1, side->ratio, 1), "times_one_thread",
        json_spread(side->has_ratio && side->threads > 1, side->ratio, 1), "believed", timed && !batch->busy,
        "left_out", text_or_null(side->left_out));
}

static json_t *json_batch(const struct bench_batch *batch) {
    json_t *sides = json_array();
    bool ok = true;
    for (size_t i = 0; i < batch->side_count; i++) {
        ok = json_array_append_new(sides, json_side(&batch->sides[i], batch)) == 0 && ok;
    }
    if (!ok) {
        json_decref(sides);
        return NULL;
    }
    return json_pack("{s:I, s:I, s:b, s:o, s:o, s:o, s:o}", "batch", (json_int_t)batch->batch, "rounds",
                     (json_int_t)batch->rounds, "busy", batch->busy, "why_busy", text_or_null(batch->why), "stolen",
                     batch->load.known ? json_real(batch->load.stolen) : json_null(), "other_cpus_busy",
                     batch->load.known ? json_real(batch->load.others) : json_null(), "sides", sides);
}

static json_t *json_shape(const struct bench *bench) {
    const struct layer_data *data = &bench->data;
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:s}", "input_width", (json_int_t)data->input_width,
                     "output_width", (json_int_t)data->output_width, "depth", (json_int_t)data->depth, "trees",
                     (json_int_t)data->trees, "neurons", (json_int_t)data->rows, "path_length",
                     (json_int_t)bench->path_length, "activation", activation_name(data->activation));
}

static json_t *json_blas(const struct fff_blas *blas) {
    return blas == NULL ? json_null()
                        : json_pack("{s:o, s:o, s:o}", "file", json_text(blas->file), "version",
                                    text_or_null(blas->version), "kernels", text_or_null(blas->kernels));
}

json_t *bench_json(const struct bench *bench, const struct verdict *verdicts, const struct store_verdict *store,
                   size_t verified, const struct bench_batch *batches, size_t count) {
    json_t *of_batches = json_array(), *notes = json_array();
    bool busy = false, whole = true;
    for (size_t i = 0; i < count; i++) {
        whole = json_array_append_new(of_batches, json_batch(&batches[i])) == 0 && whole;
        busy = busy || batches[i].busy;
    }
    for (size_t i = 0; i < bench->note_count; i++) {
        whole = json_array_append_new(notes, json_text(bench->notes[i])) == 0 && whole;
    }
    if (!whole) {
        json_decref(of_batches);
        json_decref(notes);
        return NULL;
    }
    bool verified_ok = verdicts_hold(verdicts, bench->settings.isa_count) && store_verdict_holds(store);
    bool ok = verified_ok && count == bench->settings.batch_count;
    return json_pack("{s:s, s:o, s:o, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:{s:I, s:b}, s:b, s:b}", "version",
                     fff_version(), "shape", json_shape(bench), "store", store_json(store), "seed",
                     (json_int_t)bench->settings.seed, "rounds", (json_int_t)bench->settings.rounds, "seconds",
                     (json_int_t)bench->settings.seconds, "cpus", (json_int_t)bench->cpus, "blas",
                     json_blas(bench->blas), "notes", notes, "batches", of_batches, "verified", "tokens",
                     (json_int_t)verified, "ok", verified_ok, "busy", busy, "ok", ok);
}
