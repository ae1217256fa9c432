/* fff bench: how fast is a layer of my shape? */
#include "tools/bench/report.h"
#include "tools/commands.h"
#include "tools/layer_options.h"
#include "tools/progress.h"
#include "tools/verify/report.h"

#include <string.h>

enum { DEFAULT_WIDTH = 768, DEFAULT_DEPTH = 11, DEFAULT_ROUNDS = 9, DEFAULT_SECONDS = 10, DEFAULT_SEED = 2311 };
enum { MOST_THREADS = 1024, MOST_SECONDS = 3600, LONGEST_NUMBER = 32 };
static const char DEFAULT_BATCHES[] = "1,8,64,512";

struct request {
    size_t width, output_width, depth, trees, threads, rounds, seconds, seed;
    const char *batches, *isa, *activation, *store;
    bool no_dense, json, exact_routes;
};

static int fail(const char *error, bool json) {
    end_progress();
    fprintf(stderr, "fff bench: %s\n", error);
    if (json) {
        (void)print_json(&bench_command, json_pack("{s:b, s:o}", "ok", 0, "error", json_text(error)));
    }
    return EXIT_BAD_INPUT;
}

/* Numbers with commas between them. */
static bool read_batches(const char *text, struct bench_settings *settings) {
    for (bool more = true; more;) {
        char number[LONGEST_NUMBER];
        size_t length = strcspn(text, ",");
        bool cut = length >= sizeof number;
        if (settings->batch_count == BENCH_BATCHES) {
            usage_error(&bench_command, "option '--batch': more than %d batch sizes", BENCH_BATCHES);
            return false;
        }
        snprintf(number, sizeof number, "%.*s", (int)(cut ? sizeof number - 1 : length), text);
        if (cut) {
            usage_error(&bench_command, "option '--batch': '%s...' is too long for a number", number);
            return false;
        }
        if (!read_number(&bench_command, "--batch", number, 1, SIZE_MAX, &settings->batches[settings->batch_count++])) {
            return false;
        }
        more = text[length] == ',';
        text += length + 1;
    }
    return true;
}

static bool read_settings(const struct request *request, struct bench_settings *settings) {
    *settings = (struct bench_settings){
        .input_width = request->width,
        .output_width = request->output_width > 0 ? request->output_width : request->width,
        .depth = request->depth,
        .trees = request->trees,
        .threads = request->threads,
        .rounds = request->rounds,
        .seconds = request->seconds,
        .seed = request->seed,
        .dense = !request->no_dense,
    };
    if (request->activation != NULL && !activation_by_name(request->activation, &settings->activation)) {
        usage_error(&bench_command, "option '--activation': '%s' is none of " ACTIVATION_NAMES, request->activation);
        return false;
    }
    if (!read_store(&bench_command, request->store, request->exact_routes, &settings->store)) {
        return false;
    }
    settings->isa_count = read_isas(&bench_command, request->isa, settings->isas);
    return settings->isa_count > 0 && read_batches(request->batches, settings);
}

/* Verifies, and says so unless a program reads. */
static int verify(struct bench *bench, bool json, struct verdict *verdicts, struct store_verdict *store,
                  size_t *verified) {
    show_progress("verifying against float64");
    fff_status status = bench_verify(bench, 0, VERIFY_FEW_SPLITS, verdicts, store, verified);
    end_progress();
    if (status != FFF_OK) {
        return fail(fff_status_text(status), json);
    }
    if (json) {
        return verdicts_hold(verdicts, bench->settings.isa_count) && store_verdict_holds(store) ? EXIT_HOLDS
                                                                                                : EXIT_FAILS;
    }
    printf("Verified %zu token%s on every instruction set against the dense definition in float64:\n", *verified,
           *verified == 1 ? "" : "s");
    return print_bench_verdicts(verdicts, bench->settings.isa_count, store) ? EXIT_HOLDS : EXIT_FAILS;
}

static int measure(struct bench *bench, bool json, struct bench_batch *batches, size_t *count) {
    char error[BENCH_TEXT] = "";
    show_progress("making the layers");
    if (!bench_prepare(bench, error, sizeof error)) {
        return fail(error, json);
    }
    end_progress();
    if (!json) {
        print_bench_head(bench);
    }
    for (size_t i = 0; i < bench->settings.batch_count; i++) {
        int status = bench_time(bench, bench->settings.batches[i], &batches[i], error, sizeof error);
        if (status != EXIT_HOLDS) { /* the answer in JSON of what fails is whole */
            (void)fail(error, json && status != EXIT_FAILS);
            return status;
        }
        *count = i + 1;
        if (!json) {
            print_bench_batch(bench, &batches[i]);
        }
    }
    if (!json) {
        print_bench_end();
    }
    return EXIT_HOLDS;
}

static int run_bench(const struct bench_settings *settings, bool json) {
    static struct bench_batch batches[BENCH_BATCHES];
    char error[BENCH_TEXT] = "";
    struct bench bench;
    struct verdict verdicts[FFF_ISA_COUNT];
    struct store_verdict store = {0};
    size_t verified = 0, count = 0;
    show_progress("making weights and inputs");
    if (!bench_open(&bench, settings, error, sizeof error)) {
        bench_close(&bench);
        return fail(error, json);
    }
    if (!json) {
        end_progress();
        print_bench_shape(&bench);
    }
    int status = verify(&bench, json, verdicts, &store, &verified);
    if (status == EXIT_HOLDS) {
        status = measure(&bench, json, batches, &count);
    }
    if (json && status != EXIT_BAD_INPUT &&
        !print_json(&bench_command, bench_json(&bench, verdicts, &store, verified, batches, count))) {
        status = EXIT_BAD_INPUT;
    }
    bench_close(&bench);
    return status;
}

static int run(int argc, char **argv) {
    struct request request = {
        .width = DEFAULT_WIDTH,
        .depth = DEFAULT_DEPTH,
        .trees = 1,
        .threads = 1,
        .rounds = DEFAULT_ROUNDS,
        .seconds = DEFAULT_SECONDS,
        .seed = DEFAULT_SEED,
        .batches = DEFAULT_BATCHES,
    };
    struct operands operands;
    struct bench_settings settings;
    int status;
    if (!read_options(&bench_command, argc, argv, &request, &operands, &status)) {
        return status;
    }
    return read_settings(&request, &settings) ? run_bench(&settings, request.json) : EXIT_BAD_INPUT;
}

static const struct command_option options[] = {
    {.name = "width",
     .type = OPTION_NUMBER,
     .argument = "N",
     .offset = offsetof(struct request, width),
     .least = 1,
     .text = "The width of input and output; 768 unless told."},
    {.name = "output-width",
     .type = OPTION_NUMBER,
     .argument = "N",
     .offset = offsetof(struct request, output_width),
     .least = 1,
     .text = "The width of the output, where it is another."},
    {.name = "depth",
     .type = OPTION_NUMBER,
     .argument = "N",
     .offset = offsetof(struct request, depth),
     .most = FFF_MAX_DEPTH,
     .text = "The depth of a tree, from 0 to 30; 11 unless told. A tree has 2^(depth+1) - 1 neurons, of which a token "
             "uses depth + 1."},
    {.name = "trees",
     .type = OPTION_NUMBER,
     .argument = "N",
     .offset = offsetof(struct request, trees),
     .least = 1,
     .text = "How many trees; 1 unless told."},
    {.name = "batch",
     .type = OPTION_TEXT,
     .argument = "N[,N]...",
     .offset = offsetof(struct request, batches),
     .text = "Tokens computed at once, one or more numbers; 1,8,64,512 unless told."},
    {.name = "threads",
     .type = OPTION_NUMBER,
     .argument = "N",
     .offset = offsetof(struct request, threads),
     .least = 1,
     .most = MOST_THREADS,
     .text = "Time each batch also on so many threads, the best instruction set against itself on one thread."},
    ISAS_OPTION(struct request),
    STORE_OPTION(struct request),
    EXACT_ROUTES_OPTION(struct request),
    {.name = "activation",
     .type = OPTION_TEXT,
     .argument = "NAME",
     .offset = offsetof(struct request, activation),
     .text = ACTIVATION_NAMES "; GELU unless told."},
    {.name = "rounds",
     .type = OPTION_NUMBER,
     .argument = "N",
     .offset = offsetof(struct request, rounds),
     .least = BENCH_LEAST_ROUNDS,
     .most = BENCH_MOST_ROUNDS,
     .text = "How often everything is timed undisturbed, from 3 to 49; 9 times unless told."},
    {.name = "seconds",
     .type = OPTION_NUMBER,
     .argument = "N",
     .offset = offsetof(struct request, seconds),
     .least = 1,
     .most = MOST_SECONDS,
     .text = "About how long each side of a batch may take; 10 unless told. What takes too long even for few rounds is "
             "left out, and said."},
    {.name = "seed",
     .type = OPTION_NUMBER,
     .argument = "N",
     .offset = offsetof(struct request, seed),
     .most = SIZE_MAX / 2,
     .text = "What the weights and inputs are drawn from; 2311 unless told."},
    {.name = "no-dense", .offset = offsetof(struct request, no_dense), .text = "Time no dense layer beside it."},
    {.name = "json",
     .offset = offsetof(struct request, json),
     .text = "Print one JSON object, which docs/benchmarks.md describes."},
    {0},
};

const struct command bench_command = {
    .name = "bench",
    .summary = "time a layer of any shape, beside the dense layer of the same neurons",
    .text = "Tells how fast a seeded layer of some shape is on this machine, on every instruction set and for several "
            "batch sizes, and how many times faster than the dense layer of the same neurons by OpenBLAS. Every timed "
            "output is checked. Times are medians of interleaved rounds, with the range of all but the extreme tenths; "
            "a round that another program disturbed is done again, and on a machine that is too busy no ratio is "
            "printed.",
    .options = options,
    .run = run,
};
