#include "tools/verify/report.h"

#include "bert/report.h"
#include "tools/machine/sleef.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST_TEXT = 8192 };

size_t expected_faults(const struct verdict *v) {
    return v->expected_mismatches + v->expected.output_errors + v->expected.route_mismatches + v->expected.unbounded;
}

void print_faults(const struct agreement *dense) {
    if (dense->logit_errors + dense->output_errors > 0) {
        printf("  %-12s %zu logits and %zu outputs exceed their bounds\n", "", dense->logit_errors,
               dense->output_errors);
    }
    if (dense->unbounded > 0) {
        printf("  %-12s %zu tokens have a NaN, an infinity or sums near overflow: nothing can be proven\n", "",
               dense->unbounded);
    }
}

bool layer_file_holds(const struct layer_findings *found) {
    return verdicts_hold(found->verdicts, found->count) && store_verdict_holds(found->store);
}

bool layer_uses_sleef(const struct layer_data *data) {
    bool uses = false;
    for (; data != NULL; data = data->next) {
        uses = uses || fff_activation_uses_sleef(data->activation) != 0;
    }
    return uses;
}

/* "1x11"; "1x3 with leaves of 8"; " + " between parts. What does not fit is cut off. */
static void describe_layer(const struct layer_data *data, char *text, size_t size) {
    size_t used = 0;
    for (const struct layer_data *part = data; part != NULL && used < size; part = part->next) {
        used += (size_t)snprintf(text + used, size - used, "%s%zux%zu", part != data ? " + " : "", part->trees,
                                 part->depth);
        if (part->leaf_width > 0 && used < size) {
            used += (size_t)snprintf(text + used, size - used, " with leaves of %zu", part->leaf_width);
        }
    }
}

static const char *const biases_texts[] = {NULL, "left out", "added"};

static void print_heading(const char *path, const struct layer_findings *found) {
    const struct layer_data *data = found->data;
    char layer[LONGEST_TEXT];
    describe_layer(data, layer, sizeof layer);
    print_escaped(path);
    printf(": %s, %zu wide in, %zu out, %zu tokens", layer, data->input_width, data->output_width, data->batch);
    if (found->biases != ALL_BIASES_GIVEN) {
        printf(", b2s %s", biases_texts[found->biases]);
    }
    if (found->biases == WITH_LEAF_BIASES && data->expected_output != NULL) {
        puts(", with output_with_b2 to compare");
    } else if (found->biases == WITHOUT_LEAF_BIASES && data->expected_output != NULL) {
        puts(", with output to compare");
    } else {
        puts(data->expected_output != NULL || data->expected_path != NULL ? ", with results to compare" : "");
    }
}

void print_layer_file(const char *path, const struct layer_findings *found, bool other_sleef) {
    const struct verdict *verdicts = found->verdicts;
    size_t count = found->count;
    print_heading(path, found);
    printf("  %-12s %15s %14s %11s %16s %6s %14s\n", "", "differing bits", "max abs error", "of bound",
           "route mismatches", "ties", "file's results");
    for (size_t i = 0; i < count; i++) {
        const struct verdict *v = &verdicts[i];
        char file_text[32] = "-";
        if (v->expected.tokens > 0 && v->file.tokens_wrong > 0) {
            snprintf(file_text, sizeof file_text, "%zu differ", v->file.tokens_wrong);
        } else if (v->expected.tokens > 0) {
            snprintf(file_text, sizeof file_text, "agree");
        }
        printf("  %-12s %15zu %14.3g %10.2f%% %16zu %6zu %14s\n", fff_isa_name(v->isa), v->differing_values,
               v->dense.max_abs_error, 100 * v->dense.bound_used, v->dense.route_mismatches, v->dense.ties, file_text);
        print_faults(&v->dense);
    }
    print_store(found->store);
    print_why(layer_file_why(verdicts, count));
    if (layer_file_holds(found)) {
        print_ok("all within the proven bound", other_sleef);
    } else {
        puts("  FAILED");
    }
}

void print_escaped(const char *text) {
    char shown[LONGEST_TEXT];
    fff_escape(shown, sizeof shown, text, strlen(text));
    fputs(shown, stdout);
}

void print_why(json_t *why) {
    for (size_t i = 0; i < json_array_size(why); i++) {
        printf("  why: %s\n", json_string_value(json_array_get(why, i)));
    }
    json_decref(why);
}

void print_ok(const char *what, bool other_sleef) {
    char sleef[SLEEF_TEXT];
    describe_sleef(sleef, sizeof sleef);
    if (other_sleef) {
        printf("  ok: the same bits on every instruction set here, %s; elsewhere they may be others: SLEEF %s returns "
               "other bits than the recorded ones\n",
               what, sleef);
    } else {
        printf("  ok: the same bits everywhere, %s\n", what);
    }
}

/* ---- JSON ------------------------------------------------------------------------------------ */

bool print_json(const struct command *command, json_t *answer) {
    char *text = json_dumps(answer, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    json_decref(answer);
    if (text == NULL) {
        fprintf(stderr, "fff %s: no answer in JSON: out of memory\n", command->name);
        return false;
    }
    puts(text);
    free(text);
    return true;
}

json_t *json_number(double value) {
    json_t *real = json_real(value);
    return real != NULL ? real : json_null();
}

json_t *json_text(const char *text) {
    json_t *json = json_string(text);
    if (json != NULL) {
        return json;
    }
    char escaped[LONGEST_TEXT];
    fff_escape(escaped, sizeof escaped, text, strlen(text));
    return json_string(escaped);
}

json_t *value_difference_json(const struct value_difference *difference, const char *row_name,
                              const char *column_name) {
    if (difference->count == 0) {
        return json_null();
    }
    return json_pack("{s:I, s:I, s:o, s:o, s:o}", row_name, (json_int_t)difference->row, column_name,
                     (json_int_t)difference->column, "here", json_number(difference->here), "file",
                     json_number(difference->there), "difference", json_number(difference->difference));
}

static json_t *route_json(const struct route_difference *route) {
    if (route->tokens == 0) {
        return json_null();
    }
    bool decided = route->parent >= 0;
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:b}", "token", (json_int_t)route->token, "tree",
                     (json_int_t)route->tree, "level", (json_int_t)route->level, "here", (json_int_t)route->here,
                     "file", (json_int_t)route->there, "parent", decided ? json_integer(route->parent) : json_null(),
                     "logit", decided ? json_number(route->logit) : json_null(), "exact_logit",
                     decided ? json_number(route->exact) : json_null(), "bound",
                     decided ? json_number(route->bound) : json_null(), "tie", route->tie);
}

/* How the file's results differ from the first instruction set's, whose bits all have. */
static json_t *file_json(const struct verdict *verdicts, size_t count) {
    const struct file_comparison *file = &verdicts[0].file;
    if (file->tokens == 0) {
        return json_null();
    }
    return json_pack("{s:b, s:I, s:I, s:o, s:I, s:o, s:b}", "agrees", file->tokens_wrong == 0, "tokens",
                     (json_int_t)file->tokens, "tokens_wrong", (json_int_t)file->tokens_wrong, "largest_difference",
                     value_difference_json(&file->output, "token", "column"), "routes_apart",
                     (json_int_t)file->route.tokens, "first_route_apart", route_json(&file->route), "kernels_hold",
                     kernels_hold(verdicts, count));
}

json_t *sleef_json(bool used, bool as_recorded) {
    char sleef[SLEEF_TEXT];
    if (!used) {
        return json_null();
    }
    describe_sleef(sleef, sizeof sleef);
    return json_pack("{s:o, s:b}", "loaded", json_text(sleef), "recorded_bits", as_recorded);
}

json_t *isas_json(const struct verdict *verdicts, size_t count) {
    json_t *isas = json_array();
    for (size_t i = 0; i < count; i++) {
        const struct verdict *v = &verdicts[i];
        json_t *isa =
            json_pack("{s:s, s:b, s:o, s:o, s:I, s:I, s:o, s:I, s:b}", "name", fff_isa_name(v->isa), "bit_identical",
                      v->differing_values == 0, "max_abs_error", json_number(v->dense.max_abs_error), "bound_used",
                      json_number(v->dense.bound_used), "route_mismatches", (json_int_t)v->dense.route_mismatches,
                      "ties", (json_int_t)v->dense.ties, "largest_tie", json_number(v->dense.largest_tie), "unbounded",
                      (json_int_t)v->dense.unbounded, "ok", verdict_holds(v));
        json_array_append_new(isas, isa);
    }
    return isas;
}

json_t *layer_file_json(const char *path, const struct layer_findings *found) {
    const struct verdict *verdicts = found->verdicts;
    size_t count = found->count;
    char layer[LONGEST_TEXT];
    describe_layer(found->data, layer, sizeof layer);
    return json_pack("{s:o, s:s, s:s?, s:I, s:b, s:o, s:o, s:o, s:o}", "path", json_text(path), "layer", layer, "b2s",
                     biases_texts[found->biases], "tokens", (json_int_t)found->data->batch, "ok",
                     layer_file_holds(found), "why", layer_file_why(verdicts, count), "file",
                     file_json(verdicts, count), "store", store_json(found->store), "isas", isas_json(verdicts, count));
}
