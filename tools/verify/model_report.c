#include "tools/verify/report.h"

#include <stdio.h>

/* The worst of all instruction sets. */
static struct verdict worst_of(const struct verdict *verdicts, size_t count) {
    struct verdict worst = verdicts[0];
    for (size_t i = 1; i < count; i++) {
        const struct verdict *v = &verdicts[i];
        worst.differing_values += v->differing_values;
        worst.dense.max_abs_error = fmax(worst.dense.max_abs_error, v->dense.max_abs_error);
        worst.dense.bound_used = fmax(worst.dense.bound_used, v->dense.bound_used);
        worst.dense.route_mismatches += v->dense.route_mismatches;
        worst.dense.ties = worst.dense.ties > v->dense.ties ? worst.dense.ties : v->dense.ties;
        worst.dense.largest_tie = fmax(worst.dense.largest_tie, v->dense.largest_tie);
        worst.dense.logit_errors += v->dense.logit_errors;
        worst.dense.output_errors += v->dense.output_errors;
        worst.dense.unbounded += v->dense.unbounded;
    }
    return worst;
}

static bool same_types(const struct store_verdict *a, const struct store_verdict *b) {
    return a->input == b->input && a->output == b->output;
}

/* Of all layers that store the same types as layer `first`, or of none if one before it does; returns how many. */
static size_t sum_of_stores(const struct model_verdict *verdict, size_t first, struct store_verdict *sum) {
    const struct store_verdict *like = &verdict->layers[first].store;
    size_t count = 0;
    *sum = (struct store_verdict){0};
    for (size_t i = 0; i < verdict->config.layers; i++) {
        if (!same_types(&verdict->layers[i].store, like)) {
            continue;
        }
        if (i < first) {
            return 0;
        }
        store_verdict_add(sum, &verdict->layers[i].store);
        count++;
    }
    return count;
}

static void print_stores(const struct model_verdict *verdict) {
    for (size_t i = 0; i < verdict->config.layers; i++) {
        struct store_verdict sum;
        size_t count = sum_of_stores(verdict, i, &sum);
        if (count > 0 && count < verdict->config.layers && stores_narrow(&sum)) {
            printf("  %zu of %zu layers:\n", count, verdict->config.layers);
        }
        print_store(&sum);
    }
}

/* Of the layers that store narrow rows, if all of them store the same types; else null, and each layer has its own. */
static json_t *stores_json(const struct model_verdict *verdict) {
    struct store_verdict sum, narrow = {0};
    for (size_t i = 0; i < verdict->config.layers; i++) {
        if (sum_of_stores(verdict, i, &sum) == 0 || !stores_narrow(&sum)) {
            continue;
        }
        if (stores_narrow(&narrow)) {
            return json_null();
        }
        narrow = sum;
    }
    return store_json(&narrow);
}

static void print_layers(const struct model_verdict *verdict) {
    printf(
        "  Layer by layer, each from the same input in all ways, against the dense definition in float64 (%zu tokens)",
        verdict->layer_tokens);
    if (verdict->layer_padding > 0) {
        printf(", %zu of them padding", verdict->layer_padding);
    }
    puts(":");
    printf("  %-12s %15s %14s %11s %16s %6s %12s | %s\n", "", "differing bits", "max abs error", "of bound",
           "route mismatches", "ties", "largest tie", "masked float32: of bound, from kernels");
    for (size_t i = 0; i < verdict->config.layers; i++) {
        const struct layer_verdicts *layer = &verdict->layers[i];
        const struct verdict v = worst_of(layer->isas, verdict->isa_count);
        printf("  layer %-6zu %15zu %14.3g %10.2f%% %16zu %6zu %12.3g | ", i, v.differing_values, v.dense.max_abs_error,
               100 * v.dense.bound_used, v.dense.route_mismatches, v.dense.ties, v.dense.largest_tie);
        if (v.expected.tokens == 0) { /* narrow weights have another definition than the masked layer's */
            printf("%23s, %.3g\n", "-", layer->masked_difference);
        } else if (expected_faults(&v) > 0) {
            printf("%zu differ\n", expected_faults(&v));
        } else {
            printf("%22.2f%%, %.3g\n", 100 * v.expected.bound_used, layer->masked_difference);
        }
        print_faults(&v.dense);
    }
}

static const char *run_name(const struct model_verdict *verdict, size_t run) {
    return run < verdict->isa_count ? fff_isa_name(verdict->isas[run]) : "masked dense";
}

static bool has_file_results(const struct model_verdict *verdict) {
    return verdict->has_file_hidden || verdict->has_file_logits || verdict->has_file_embedding;
}

/* A figure, or that there is none. Returns `text`. */
static const char *figure(char text[32], bool there, double value) {
    snprintf(text, 32, "-");
    if (there) {
        snprintf(text, 32, "%.2g", value);
    }
    return text;
}

static void print_file_results(const struct model_verdict *verdict, const struct end_to_end *run) {
    char hidden[32], logits[32], embedding[32];
    printf(" | %s, %s, %s", figure(hidden, verdict->has_file_hidden, relative(run->file_hidden)),
           figure(logits, verdict->has_file_logits, relative(run->file_logits)),
           figure(embedding, verdict->has_file_embedding, run->file_embedding));
}

static void print_runs(const struct model_verdict *verdict) {
    puts("  End to end, against the whole model in float64; errors relative to the largest value. A route that parts\n"
         "  at a tie changes all that follows in its sequence:");
    printf("  %-12s %15s %10s %10s %10s %16s %13s %10s %10s", "", "differing bits", "hidden", "unparted", "logits",
           "sequences apart", "largest flip", "top-1", "top-5");
    puts(has_file_results(verdict) ? " | file: hidden, logits, embedding" : "");
    for (size_t i = 0; i <= verdict->isa_count; i++) {
        const struct end_to_end *run = &verdict->runs[i];
        char bits[32] = "-", logits[32];
        if (i < verdict->isa_count) {
            snprintf(bits, sizeof bits, "%zu", run->differing_values);
        }
        printf("  %-12s %15s %10.2g %10.2g %10s %9zu of %3zu %13.3g", run_name(verdict, i), bits, relative(run->hidden),
               relative(run->steady_hidden), figure(logits, verdict->has_logits, relative(run->logits)),
               run->sequences_apart, verdict->sequences, run->largest_flip);
        if (run->predictions > 0) {
            double all = (double)run->predictions;
            printf(" %9.2f%% %9.2f%%", 100 * (double)run->top1 / all, 100 * (double)run->top5 / all);
        } else {
            printf(" %10s %10s", "-", "-");
        }
        if (has_file_results(verdict)) {
            print_file_results(verdict, run);
        }
        puts(model_run_holds(verdict, i) ? "" : "  FAILED");
    }
}

void print_model(const char *path, const struct model_verdict *verdict, bool other_sleef) {
    const fff_bert_config *config = &verdict->config;
    print_escaped(path);
    printf(": %zu layers, %zu wide, feedforward %zux%zu (%zu neurons%s); %zu tokens in %zu sequences", config->layers,
           config->hidden_size, config->trees, config->depth, config->neurons,
           config->fast_feedforward ? "" : ", dense", verdict->tokens, verdict->sequences);
    size_t padded = verdict->sequences * verdict->length;
    if (padded > verdict->tokens) {
        printf(", %zu with the padding to %zu each", padded, verdict->length);
    }
    printf(" (%s)\n", verdict->source);
    print_layers(verdict);
    print_stores(verdict);
    print_runs(verdict);
    print_why(model_why(verdict));
    if (model_verdict_holds(verdict)) {
        print_ok(verdict->narrow ? "every layer within the proven bound of the weights that it stores"
                                 : "every layer within the proven bound, routes apart at ties only",
                 other_sleef);
    } else {
        puts("  FAILED");
    }
}

static json_t *layers_json(const struct model_verdict *verdict) {
    json_t *layers = json_array();
    for (size_t i = 0; i < verdict->config.layers; i++) {
        const struct layer_verdicts *layer = &verdict->layers[i];
        const struct verdict *masked = &layer->isas[0];
        bool compared = masked->expected.tokens > 0;
        size_t route_mismatches = masked->expected_mismatches + masked->expected.route_mismatches;
        json_t *masked_json = json_pack("{s:o, s:o, s:I, s:o, s:b}", "max_abs_error",
                                        json_number(compared ? masked->expected.max_abs_error : INFINITY), "bound_used",
                                        json_number(compared ? masked->expected.bound_used : INFINITY),
                                        "route_mismatches", (json_int_t)route_mismatches, "difference",
                                        json_number(layer->masked_difference), "ok", expected_faults(masked) == 0);
        json_array_append_new(layers,
                              json_pack("{s:I, s:I, s:b, s:o, s:o, s:o}", "layer", (json_int_t)i, "tokens",
                                        (json_int_t)layer->isas[0].dense.tokens, "ok", model_layer_holds(verdict, i),
                                        "isas", isas_json(layer->isas, verdict->isa_count), "masked", masked_json,
                                        "store", store_json(&layer->store)));
    }
    return layers;
}

static json_t *run_layers_json(const struct model_verdict *verdict, const struct end_to_end *run) {
    json_t *layers = json_array();
    for (size_t i = 0; i < verdict->config.layers; i++) {
        json_array_append_new(layers, json_pack("{s:o, s:I}", "relative_error", json_number(relative(run->layers[i])),
                                                "tokens_apart", (json_int_t)run->layer_flips[i]));
    }
    return layers;
}

/* Rows are sequences, or tokens of the padded input. */
static json_t *difference_json(const struct model_verdict *verdict, struct value_difference at, bool of_sequences) {
    if (of_sequences || at.count == 0) {
        return value_difference_json(&at, "sequence", "column");
    }
    size_t sequence = at.row / verdict->length;
    at.row %= verdict->length;
    json_t *json = value_difference_json(&at, "token", "column");
    json_object_set_new(json, "sequence", json_integer((json_int_t)sequence));
    return json;
}

static json_t *number_if(bool there, double value) {
    return there ? json_number(value) : json_null();
}

static json_t *run_json(const struct model_verdict *verdict, size_t index) {
    const struct end_to_end *run = &verdict->runs[index];
    json_t *json = json_pack("{s:s, s:b, s:b, s:o, s:o, s:o, s:o, s:I, s:o, s:I, s:I, s:I, s:o}", "name",
                             index < verdict->isa_count ? fff_isa_name(verdict->isas[index]) : "masked", "ok",
                             model_run_holds(verdict, index), "bit_identical", run->differing_values == 0,
                             "hidden_error", json_number(relative(run->hidden)), "hidden_error_unparted",
                             json_number(relative(run->steady_hidden)), "logits_error",
                             number_if(verdict->has_logits, relative(run->logits)), "logits_error_unparted",
                             number_if(verdict->has_logits, relative(run->steady_logits)), "sequences_apart",
                             (json_int_t)run->sequences_apart, "largest_flip", json_number(run->largest_flip),
                             "predictions", (json_int_t)run->predictions, "top1", (json_int_t)run->top1, "top5",
                             (json_int_t)run->top5, "layers", run_layers_json(verdict, run));
    if (run->sequences_apart > 0) {
        const struct route_apart *at = &run->first_apart;
        json_object_set_new(json, "first_apart",
                            json_pack("{s:I, s:I, s:I, s:I, s:I, s:o}", "sequence", (json_int_t)at->sequence, "token",
                                      (json_int_t)at->token, "layer", (json_int_t)at->layer, "tree",
                                      (json_int_t)at->tree, "level", (json_int_t)at->level, "logit",
                                      json_number(at->logit)));
    }
    if (has_file_results(verdict)) {
        json_object_set_new(
            json, "file",
            json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "hidden",
                      number_if(verdict->has_file_hidden, relative(run->file_hidden)), "logits",
                      number_if(verdict->has_file_logits, relative(run->file_logits)), "embedding",
                      number_if(verdict->has_file_embedding, run->file_embedding), "hidden_difference",
                      difference_json(verdict, run->file_hidden_at, false), "logits_difference",
                      difference_json(verdict, run->file_logits_at, verdict->config.labels > 0), "embedding_sequence",
                      verdict->has_file_embedding ? json_integer((json_int_t)run->file_embedding_at) : json_null()));
    }
    return json;
}

json_t *model_json(const char *path, const struct model_verdict *verdict) {
    struct verdict sums[FFF_ISA_COUNT] = {{0}};
    json_t *runs = json_array();
    for (size_t i = 0; i < verdict->isa_count; i++) {
        for (size_t layer = 0; layer < verdict->config.layers; layer++) {
            verdict_add(&sums[i], &verdict->layers[layer].isas[i]);
        }
        sums[i].differing_values += verdict->runs[i].differing_values;
    }
    for (size_t i = 0; i <= verdict->isa_count; i++) {
        json_array_append_new(runs, run_json(verdict, i));
    }
    return json_pack("{s:o, s:b, s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:o, s:o}", "path", json_text(path), "ok",
                     model_verdict_holds(verdict), "why", model_why(verdict), "store", stores_json(verdict), "isas",
                     isas_json(sums, verdict->isa_count), "input", json_text(verdict->source), "sequences",
                     (json_int_t)verdict->sequences, "tokens", (json_int_t)verdict->tokens, "layer_tokens",
                     (json_int_t)verdict->layer_tokens, "layers", layers_json(verdict), "end_to_end", runs);
}
