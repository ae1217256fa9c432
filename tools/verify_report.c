#include "tools/verify_report.h"

#include "bert/report.h"

#include <stdio.h>
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

void print_layer_file(const char *path, const struct layer_data *data, const struct verdict *verdicts, size_t count) {
    printf("%s: %zux%zu, %zu wide in, %zu out, %zu tokens%s\n", path, data->trees, data->depth, data->input_width,
           data->output_width, data->batch,
           data->expected_output != NULL || data->expected_path != NULL ? ", with results to compare" : "");
    printf("  %-12s %15s %14s %11s %16s %6s %14s\n", "", "differing bits", "max abs error", "of bound",
           "route mismatches", "ties", "file's results");
    for (size_t i = 0; i < count; i++) {
        const struct verdict *v = &verdicts[i];
        char file_text[32] = "-";
        if (v->expected.tokens > 0 && expected_faults(v) > 0) {
            snprintf(file_text, sizeof file_text, "%zu differ", expected_faults(v));
        } else if (v->expected.tokens > 0) {
            snprintf(file_text, sizeof file_text, "agree");
        }
        printf("  %-12s %15zu %14.3g %10.2f%% %16zu %6zu %14s\n", fff_isa_name(v->isa), v->differing_values,
               v->dense.max_abs_error, 100 * v->dense.bound_used, v->dense.route_mismatches, v->dense.ties, file_text);
        print_faults(&v->dense);
    }
    printf("  %s\n",
           verdicts_hold(verdicts, count) ? "ok: the same bits everywhere, all within the proven bound" : "FAILED");
}

json_t *json_number(double value) {
    json_t *real = json_real(value);
    return real != NULL ? real : json_null();
}

json_t *json_text(const char *bytes) {
    char text[LONGEST_TEXT];
    fff_escape(text, sizeof text, bytes, strlen(bytes));
    return json_string(text);
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

json_t *layer_file_json(const char *path, const struct verdict *verdicts, size_t count) {
    return json_pack("{s:o, s:b, s:o}", "path", json_text(path), "ok", verdicts_hold(verdicts, count), "isas",
                     isas_json(verdicts, count));
}
