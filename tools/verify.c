/* fff verify: layer files and models against the dense definition, on every instruction set. */
#include "tools/arguments.h"
#include "tools/commands.h"
#include "tools/verify_report.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { DEFAULT_LAYER_TOKENS = 256 };

struct request {
    fff_isa isas[FFF_ISA_COUNT];
    size_t isa_count;
    const char *text, *ids, *expected; /* input of models */
    size_t layer_tokens;               /* of it, those to check layer by layer */
    json_t *files;                     /* NULL: print */
};

/* One line of `fff verify`'s answer about a file that could not be verified. */
static int report_unreadable(const char *path, const char *error, json_t *files) {
    fprintf(stderr, "fff verify: %s\n", error);
    if (files != NULL) {
        json_array_append_new(files, json_pack("{s:o, s:b, s:o, s:[]}", "path", json_text(path), "ok", 0, "error",
                                               json_text(error), "isas"));
    }
    return EXIT_BAD_INPUT;
}

static int verify_layer_file(const char *path, const struct request *request) {
    char error[512];
    struct layer_data data;
    struct verdict verdicts[FFF_ISA_COUNT];
    if (layer_data_load(path, &data, error, sizeof error) != 0) {
        return report_unreadable(path, error, request->files);
    }
    fff_status status = verify_layer(&data, request->isas, request->isa_count, VERIFY_ALL_SPLITS, verdicts);
    if (status != FFF_OK) {
        layer_data_free(&data);
        snprintf(error, sizeof error, "%s: %s", path, fff_status_text(status));
        return report_unreadable(path, error, request->files);
    }
    int ok = verdicts_hold(verdicts, request->isa_count);
    if (request->files == NULL) {
        print_layer_file(path, &data, verdicts, request->isa_count);
    } else {
        json_array_append_new(request->files, layer_file_json(path, verdicts, request->isa_count));
    }
    layer_data_free(&data);
    return ok ? EXIT_HOLDS : EXIT_FAILS;
}

static int verify_directory(const char *path, const struct request *request) {
#if FFF_HAVE_MODELS
    char error[512];
    struct model_verdict verdict;
    const struct model_input_choice choice = {path, request->text, request->ids, request->expected};
    if (!verify_model(&choice, request->isas, request->isa_count, request->layer_tokens, &verdict, error,
                      sizeof error)) {
        return report_unreadable(path, error, request->files);
    }
    int ok = model_verdict_holds(&verdict);
    if (request->files == NULL) {
        print_model(path, &verdict);
    } else {
        json_array_append_new(request->files, model_json(path, &verdict));
    }
    model_verdict_free(&verdict);
    return ok ? EXIT_HOLDS : EXIT_FAILS;
#else
    return report_unreadable(path, WITHOUT_MODELS, request->files);
#endif
}

static int is_directory(const char *path) {
    struct stat about;
    return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
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

/* Takes the options out, moves the paths to the front of argv, from argv[1]; how many they are. -1 after a line on
 * stderr. */
static int read_arguments(int argc, char **argv, struct request *request, const char **isa_name, int *json) {
    const char *layer_tokens = NULL;
    const struct {
        const char *name;
        const char **value;
    } options[] = {{"--isa", isa_name},
                   {"--text", &request->text},
                   {"--ids", &request->ids},
                   {"--expected", &request->expected},
                   {"--layer-tokens", &layer_tokens}};
    int paths = 0;
    for (int i = 1; i < argc; i++) {
        const char **value = NULL;
        for (size_t option = 0; option < sizeof options / sizeof *options; option++) {
            value = strcmp(argv[i], options[option].name) == 0 && i + 1 < argc ? options[option].value : value;
        }
        if (value != NULL) {
            *value = argv[++i];
        } else if (strcmp(argv[i], "--json") == 0) {
            *json = 1;
        } else if (strncmp(argv[i], "--", 2) == 0) {
            fprintf(stderr, "fff verify: unknown option '%s', or its value is missing\n", argv[i]);
            return -1;
        } else {
            argv[++paths] = argv[i];
        }
    }
    if (layer_tokens != NULL && !read_size("fff verify: --layer-tokens", layer_tokens, &request->layer_tokens)) {
        return -1;
    }
    int inputs = (request->text != NULL) + (request->ids != NULL) + (request->expected != NULL);
    if (inputs > 1) {
        fputs("fff verify: --text, --ids and --expected exclude each other\n", stderr);
        return -1;
    }
    if (paths == 0) {
        fputs("fff verify: no file given\n", stderr);
        return -1;
    }
    for (int i = 1; i <= paths && inputs > 0; i++) {
        if (!is_directory(argv[i])) {
            fprintf(stderr, "fff verify: %s is no model's directory, which --text, --ids and --expected are for\n",
                    argv[i]);
            return -1;
        }
    }
    return paths;
}

int command_verify(int argc, char **argv) {
    struct request request = {.layer_tokens = DEFAULT_LAYER_TOKENS};
    const char *isa_name = "all";
    int json = 0, worst = EXIT_HOLDS;
    int paths = read_arguments(argc, argv, &request, &isa_name, &json);
    if (paths < 0) {
        return EXIT_BAD_INPUT;
    }
    request.isa_count = named_isas(isa_name, request.isas);
    if (request.isa_count == 0) {
        return EXIT_BAD_INPUT;
    }
    request.files = json ? json_array() : NULL;
    for (int i = 1; i <= paths; i++) {
        int status = is_directory(argv[i]) ? verify_directory(argv[i], &request) : verify_layer_file(argv[i], &request);
        worst = status > worst ? status : worst;
    }
    if (json) {
        json_t *answer = json_pack("{s:o, s:b}", "files", request.files, "ok", worst == EXIT_HOLDS);
        json_dumpf(answer, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
        puts("");
        json_decref(answer);
    }
    return worst;
}
