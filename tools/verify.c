/* fff verify: layer files against the dense definition, on every instruction set. */
#include "tools/commands.h"
#include "tools/verify_layer.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

/* One line of `fff verify`'s answer about a file that could not be verified. */
static void report_unreadable(const char *path, const char *error, json_t *files) {
    fprintf(stderr, "fff verify: %s\n", error);
    if (files != NULL) {
        json_array_append_new(files, json_pack("{s:s, s:b, s:s, s:[]}", "path", path, "ok", 0, "error", error, "isas"));
    }
}

static void print_table(const char *path, const struct layer_data *data, const struct verdict *verdicts, size_t count,
                        int ok) {
    printf("%s: %zux%zu, %zu wide in, %zu out, %zu tokens%s\n", path, data->trees, data->depth, data->input_width,
           data->output_width, data->batch,
           data->expected_output != NULL || data->expected_path != NULL ? ", with results to compare" : "");
    printf("  %-12s %15s %14s %11s %16s %6s %14s\n", "", "differing bits", "max abs error", "of bound",
           "route mismatches", "ties", "file's results");
    for (size_t i = 0; i < count; i++) {
        const struct verdict *v = &verdicts[i];
        size_t file_faults =
            v->expected_mismatches + v->expected.output_errors + v->expected.route_mismatches + v->expected.unbounded;
        char file_text[32] = "-";
        if (v->expected.tokens > 0 && file_faults > 0) {
            snprintf(file_text, sizeof file_text, "%zu differ", file_faults);
        } else if (v->expected.tokens > 0) {
            snprintf(file_text, sizeof file_text, "agree");
        }
        printf("  %-12s %15zu %14.3g %10.2f%% %16zu %6zu %14s\n", fff_isa_name(v->isa), v->differing_values,
               v->dense.max_abs_error, 100 * v->dense.bound_used, v->dense.route_mismatches, v->dense.ties, file_text);
        if (v->dense.logit_errors + v->dense.output_errors > 0) {
            printf("  %-12s %zu logits and %zu outputs exceed their bounds\n", "", v->dense.logit_errors,
                   v->dense.output_errors);
        }
        if (v->dense.unbounded > 0) {
            printf("  %-12s %zu tokens have a NaN, an infinity or sums near overflow: nothing can be proven\n", "",
                   v->dense.unbounded);
        }
    }
    printf("  %s\n", ok ? "ok: the same bits everywhere, all within the proven bound" : "FAILED");
}

static json_t *verdicts_to_json(const struct verdict *verdicts, size_t count) {
    json_t *isas = json_array();
    for (size_t i = 0; i < count; i++) {
        const struct verdict *v = &verdicts[i];
        /* JSON has no infinity or NaN: an error that is none of the real numbers is null. */
        json_t *error = json_real(v->dense.max_abs_error), *used = json_real(v->dense.bound_used);
        json_array_append_new(isas, json_pack("{s:s, s:b, s:o, s:o, s:I, s:I, s:I, s:b}", "name", fff_isa_name(v->isa),
                                              "bit_identical", v->differing_values == 0, "max_abs_error",
                                              error != NULL ? error : json_null(), "bound_used",
                                              used != NULL ? used : json_null(), "route_mismatches",
                                              (json_int_t)v->dense.route_mismatches, "ties", (json_int_t)v->dense.ties,
                                              "unbounded", (json_int_t)v->dense.unbounded, "ok", verdict_holds(v)));
    }
    return isas;
}

/* Returns an exit status; appends to `files` in JSON mode, prints otherwise. */
static int verify_file(const char *path, const fff_isa *isas, size_t count, json_t *files) {
    char error[512];
    struct layer_data data;
    struct verdict verdicts[FFF_ISA_COUNT];
    if (layer_data_load(path, &data, error, sizeof error) != 0) {
        report_unreadable(path, error, files);
        return EXIT_BAD_INPUT;
    }
    fff_status status = verify_layer(&data, isas, count, verdicts);
    if (status != FFF_OK) {
        snprintf(error, sizeof error, "%s: %s", path, fff_status_text(status));
        report_unreadable(path, error, files);
        layer_data_free(&data);
        return EXIT_BAD_INPUT;
    }
    int ok = 1;
    for (size_t i = 0; i < count; i++) {
        ok = ok && verdict_holds(&verdicts[i]);
    }
    if (files == NULL) {
        print_table(path, &data, verdicts, count, ok);
    } else {
        json_array_append_new(
            files, json_pack("{s:s, s:b, s:o}", "path", path, "ok", ok, "isas", verdicts_to_json(verdicts, count)));
    }
    layer_data_free(&data);
    return ok ? EXIT_HOLDS : EXIT_FAILS;
}

/* The instruction sets that --isa names. 0 and a line on stderr if it names none that is usable. */
static size_t named_isas(const char *name, fff_isa *isas) {
    if (strcmp(name, "all") == 0) {
        return usable_isas(isas);
    }
    fff_status status = fff_isa_by_name(name, isas);
    if (status == FFF_OK) {
        status = fff_isa_choose(*isas, isas);
    }
    if (status != FFF_OK) {
        fprintf(stderr, "fff verify: --isa %s: %s; one of all, auto", name, fff_status_text(status));
        for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
            if (fff_isa_usable((fff_isa)isa) == FFF_OK) {
                fprintf(stderr, ", %s", fff_isa_name((fff_isa)isa));
            }
        }
        fputs("\n", stderr);
        return 0;
    }
    return 1;
}

int command_verify(int argc, char **argv) {
    const char *isa_name = "all";
    int json = 0, paths = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0) {
            json = 1;
        } else if (strcmp(argv[i], "--isa") == 0 && i + 1 < argc) {
            isa_name = argv[++i];
        } else if (strncmp(argv[i], "--", 2) == 0) {
            fprintf(stderr, "fff verify: unknown option '%s', or its value is missing\n", argv[i]);
            return EXIT_BAD_INPUT;
        } else {
            argv[++paths] = argv[i]; /* paths move to the front */
        }
    }
    if (paths == 0) {
        fputs("fff verify: no file given\n", stderr);
        return EXIT_BAD_INPUT;
    }
    fff_isa isas[FFF_ISA_COUNT];
    size_t count = named_isas(isa_name, isas);
    if (count == 0) {
        return EXIT_BAD_INPUT;
    }
    json_t *files = json ? json_array() : NULL;
    int worst = EXIT_HOLDS;
    for (int i = 1; i <= paths; i++) {
        int status = verify_file(argv[i], isas, count, files);
        worst = status > worst ? status : worst;
    }
    if (json) {
        json_t *answer = json_pack("{s:o, s:b}", "files", files, "ok", worst == EXIT_HOLDS);
        json_dumpf(answer, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
        puts("");
        json_decref(answer);
    }
    return worst;
}
