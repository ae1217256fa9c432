/* fff verify: layer files and models against the dense definition, on every instruction set. */
#include "bert/report.h"
#include "tools/commands.h"
#include "tools/layer_options.h"
#include "tools/machine/sleef.h"
#include "tools/verify/report.h"

#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { DEFAULT_LAYER_TOKENS = 256, LONGEST_ERROR = 4608 };

struct request {
    fff_isa isas[FFF_ISA_COUNT];
    size_t isa_count;
    const char *isa, *store;
    bool json, any_sleef, exact_routes;
    struct store stored;               /* what layers are to store, as the two options say */
    bool sleef_recorded;               /* what is loaded has the recorded bits, on these instruction sets */
    const char *text, *ids, *expected; /* input of models */
    size_t layer_tokens;               /* of it, those to check layer by layer; 0: as many as usual */
    json_t *files;                     /* NULL: print */
};

/* What was found of a file, for the answer in JSON. Returns the exit status given, unless memory is wanting. */
static int add_to(json_t *files, json_t *file, int status) {
    if (json_array_append_new(files, file) != 0) {
        fputs("fff verify: out of memory\n", stderr);
        return EXIT_BAD_INPUT;
    }
    return status;
}

/* One line about a file that could not be verified; returns the exit status given. */
static int report_failure(const char *path, const char *error, json_t *files, int status) {
    fprintf(stderr, "fff verify: %s\n", error);
    if (files != NULL) {
        return add_to(
            files,
            json_pack("{s:o, s:b, s:o, s:[]}", "path", json_text(path), "ok", 0, "error", json_text(error), "isas"),
            status);
    }
    return status;
}

/* The bits are not those that are promised, so a check failed; the file was read. */
static int report_sleef(const char *path, const char *user, json_t *files) {
    char sleef[SLEEF_TEXT], error[2 * SLEEF_TEXT];
    describe_sleef(sleef, sizeof sleef);
    fff_report(&(struct fff_report){path, error, sizeof error},
               "%s uses SLEEF, and the one that is loaded, %s, returns other bits than the recorded ones; --any-sleef "
               "accepts it",
               user, sleef);
    return report_failure(path, error, files, EXIT_FAILS);
}

/* Verifies the layer that a file has, once its data say which of the file's results are this layer's. */
static int verify_layer_data(const char *path, struct layer_data *data, enum leaf_biases biases,
                             const struct request *request) {
    char error[LONGEST_ERROR];
    struct verdict verdicts[FFF_ISA_COUNT];
    struct store_verdict store;
    fff_bad_weight bad = {0};
    layer_data_demand(data, request->stored, request->any_sleef ? FFF_SLEEF_ANY : FFF_SLEEF_RECORDED, &bad);
    fff_status status = verify_layer(data, request->isas, request->isa_count, VERIFY_ALL_SPLITS, verdicts, &store);
    if (status == FFF_ERROR_SLEEF) {
        return report_sleef(path, "its activation", request->files);
    }
    if (status != FFF_OK) {
        char why[REFUSAL_TEXT];
        fff_report(&(struct fff_report){path, error, sizeof error}, "%s", describe_refusal(status, &bad, why));
        return report_failure(path, error, request->files, EXIT_BAD_INPUT);
    }
    const struct layer_findings found = {data, biases, verdicts, request->isa_count, &store};
    bool uses_sleef = layer_uses_sleef(data);
    int holds = layer_file_holds(&found) ? EXIT_HOLDS : EXIT_FAILS;
    if (request->files == NULL) {
        print_layer_file(path, &found, uses_sleef && !request->sleef_recorded);
        return holds;
    }
    json_t *file = layer_file_json(path, &found);
    json_object_set_new(file, "sleef", sleef_json(uses_sleef, request->sleef_recorded));
    return add_to(request->files, file, holds);
}

/* A single leaf layer with biases of its leaves is verified without them, as it was published, and with them. */
static int verify_both_ways(const char *path, struct layer_data *data, const struct request *request) {
    struct layer_data without = *data, with = *data;
    without.leaf_output_biases = NULL;
    with.expected_output = data->expected_with_b2;
    int status = verify_layer_data(path, &without, WITHOUT_LEAF_BIASES, request);
    int other = status == EXIT_BAD_INPUT ? status : verify_layer_data(path, &with, WITH_LEAF_BIASES, request);
    return other > status ? other : status;
}

static int verify_layer_file(const char *path, const struct request *request) {
    char error[LONGEST_ERROR];
    struct layer_data data;
    if (layer_data_load(path, &data, error, sizeof error) != 0) {
        return report_failure(path, error, request->files, EXIT_BAD_INPUT);
    }
    if (data.batch == 0) {
        fff_report(&(struct fff_report){path, error, sizeof error}, "tensor 'input' has no token to compare");
        layer_data_free(&data);
        return report_failure(path, error, request->files, EXIT_BAD_INPUT);
    }
    bool both = !data.is_part && data.leaf_output_biases != NULL;
    int status =
        both ? verify_both_ways(path, &data, request) : verify_layer_data(path, &data, ALL_BIASES_GIVEN, request);
    layer_data_free(&data);
    return status;
}

static int verify_directory(const char *path, const struct request *request) {
#if FFF_HAVE_MODELS
    char error[LONGEST_ERROR];
    struct model_verdict verdict;
    const struct model_input_choice choice = {path, request->text, request->ids, request->expected};
    if (!request->sleef_recorded && !request->any_sleef) {
        return report_sleef(path, "a model's attention", request->files);
    }
    const struct model_check check = {request->isas, request->isa_count,
                                      request->layer_tokens > 0 ? request->layer_tokens : DEFAULT_LAYER_TOKENS,
                                      request->stored};
    if (!verify_model(&choice, &check, &verdict, error, sizeof error)) {
        return report_failure(path, error, request->files, EXIT_BAD_INPUT);
    }
    int status = model_verdict_holds(&verdict) ? EXIT_HOLDS : EXIT_FAILS;
    if (request->files == NULL) {
        print_model(path, &verdict, !request->sleef_recorded);
    } else {
        json_t *file = model_json(path, &verdict);
        json_object_set_new(file, "sleef", sleef_json(true, request->sleef_recorded));
        status = add_to(request->files, file, status);
    }
    model_verdict_free(&verdict);
    return status;
#else
    char error[LONGEST_ERROR];
    fff_report(&(struct fff_report){path, error, sizeof error}, "%s", WITHOUT_MODELS);
    return report_failure(path, error, request->files, EXIT_BAD_INPUT);
#endif
}

static int is_directory(const char *path) {
    struct stat about;
    return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

static int check_request(const struct request *request, const struct operands *operands) {
    int inputs = (request->text != NULL) + (request->ids != NULL) + (request->expected != NULL);
    if (inputs > 1) {
        return usage_error(&verify_command, "--text, --ids and --expected exclude each other");
    }
    bool of_models = inputs > 0 || request->layer_tokens > 0;
    for (int i = 0; i < operands->count && of_models; i++) {
        if (!is_directory(operands->values[i])) {
            return usage_error(&verify_command,
                               "%s is no model's directory, which --text, --ids, --expected and --layer-tokens are for",
                               operands->values[i]);
        }
    }
    return EXIT_HOLDS;
}

static int verify_all(const struct operands *operands, const struct request *request) {
    int worst = EXIT_HOLDS;
    for (int i = 0; i < operands->count; i++) {
        const char *path = operands->values[i];
        int status = is_directory(path) ? verify_directory(path, request) : verify_layer_file(path, request);
        worst = status > worst ? status : worst;
    }
    return worst;
}

static int run(int argc, char **argv) {
    struct request request = {0};
    struct operands operands;
    int status;
    if (!read_options(&verify_command, argc, argv, &request, &operands, &status)) {
        return status;
    }
    if (!read_store(&verify_command, request.store, request.exact_routes, &request.stored)) {
        return EXIT_BAD_INPUT;
    }
    status = check_request(&request, &operands);
    request.isa_count = status == EXIT_HOLDS ? read_isas(&verify_command, request.isa, request.isas) : 0;
    if (request.isa_count == 0) {
        return EXIT_BAD_INPUT;
    }
    request.sleef_recorded = sleef_as_recorded(request.isas, request.isa_count);
    request.files = request.json ? json_array() : NULL;
    status = verify_all(&operands, &request);
    if (request.json) {
        json_t *answer = json_pack("{s:o, s:b}", "files", request.files, "ok", status == EXIT_HOLDS);
        status = print_json(&verify_command, answer) ? status : EXIT_BAD_INPUT;
    }
    return status;
}

static const struct command_option options[] = {
    ISAS_OPTION(struct request),
    STORE_OPTION(struct request),
    EXACT_ROUTES_OPTION(struct request),
    {.name = "json", .offset = offsetof(struct request, json), .text = "Print one JSON object."},
    {.name = "any-sleef",
     .offset = offsetof(struct request, any_sleef),
     .text = "Accept a SLEEF that returns other bits than the recorded ones, in models and in layers whose activation "
             "uses it; unless told, that is a failure."},
    {.name = "text",
     .type = OPTION_TEXT,
     .argument = "FILE",
     .offset = offsetof(struct request, text),
     .text = "A model's input: lines of text."},
    {.name = "ids",
     .type = OPTION_TEXT,
     .argument = "FILE",
     .offset = offsetof(struct request, ids),
     .text = "A model's input: lines of token ids, separated by spaces."},
    {.name = "expected",
     .type = OPTION_TEXT,
     .argument = "FILE",
     .offset = offsetof(struct request, expected),
     .text = "A model's input: a safetensors file with input_ids, and with results of another program to compare with. "
             "Unless told, expected.safetensors in the model's directory if it is there, else seeded ids."},
    {.name = "layer-tokens",
     .type = OPTION_NUMBER,
     .argument = "N",
     .offset = offsetof(struct request, layer_tokens),
     .least = 1,
     .text = "How many of a model's tokens are checked layer by layer; 256 unless told. All are checked end to end."},
    {0},
};

const struct command verify_command = {
    .name = "verify",
    .operands = "PATH...",
    .least_operands = 1,
    .most_operands = INT_MAX,
    .summary = "check layer files and models on every instruction set",
    .text =
        "Checks layer files and models on every usable instruction set: the same bits on all, every logit and output "
        "within its proven bound of the exact value, every turn by the sign of the exact logit.\n\n"
        "A PATH is a model's directory, or a safetensors file with a layer: a path sum (linear_in.weight, "
        "linear_in.bias and linear_out.weight), a leaf layer (depth, node_weights, node_biases, w1s, b1s, w2s and "
        "b2s), "
        "or several parts, each one of these, whose names begin with 'parts.0.', 'parts.1.' and so on. A path sum's "
        "weights, and those of a model's feedforward, may be F32, BF16, F16, or I8 with linear_in.weight_scales and "
        "linear_out.weight_scales (in a model likewise, after each matrix's own name). A leaf layer "
        "is verified without b2s, as its published code evaluates it (the file's output), and with them (its "
        "output_with_b2).\n\n"
        "--store makes a file's layer, or a model's layers, store their weights in other types. The proof is then "
        "about the stored numbers, "
        "and "
        "of int8 input weights about tokens rounded to 8 bits; where 16 bits are stored, all bits must be those of the "
        "float32 layer of the rounded weights. How far it is from the float32 layer of the given weights is told "
        "beside it, and is no fault.",
    .options = options,
    .run = run,
};
