/* fff bert: run a model on a text, or time it. */
#include "tools/bert/bench.h"
#include "tools/bert/text.h"
#include "tools/commands.h"
#include "tools/layer_options.h"

#include <string.h>

enum { DEFAULT_SEQUENCES = 128, DEFAULT_ROUNDS = 3 };

struct request {
    const char *text, *isa, *feedforward, *store;
    bool bench, exact_routes;
    size_t length, sequences, rounds; /* 0: not told */
};

#if FFF_HAVE_MODELS
static bool read_way(const char *name, fff_bert_feedforward *feedforward) {
    static const char *const names[] = {"stored", "trees", "masked", "dense"}; /* in the enum's order */
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (name == NULL || strcmp(name, names[i]) == 0) {
            *feedforward = (fff_bert_feedforward)i;
            return true;
        }
    }
    usage_error(&bert_command, "option '--feedforward': '%s' is none of stored, trees, masked, dense", name);
    return false;
}

static int run_model(const char *directory, const struct request *request) {
    struct bert_text text = {.directory = directory, .text = request->text};
    if (!read_isa(&bert_command, request->isa, &text.isa) || !read_way(request->feedforward, &text.feedforward) ||
        !read_store(&bert_command, request->store, request->exact_routes, &text.store)) {
        return EXIT_BAD_INPUT;
    }
    if (!request->bench) {
        return bert_text(&text);
    }
    const struct bert_bench bench = {directory,
                                     text.isa,
                                     request->length,
                                     request->sequences > 0 ? request->sequences : DEFAULT_SEQUENCES,
                                     request->rounds > 0 ? request->rounds : DEFAULT_ROUNDS,
                                     text.store};
    return bert_bench(&bench);
}
#else
static int run_model(const char *directory, const struct request *request) {
    (void)request;
    fprintf(stderr, "fff bert: %s: " WITHOUT_MODELS "\n", directory);
    return EXIT_BAD_INPUT;
}
#endif

static int run(int argc, char **argv) {
    struct request request = {0};
    struct operands operands;
    int status;
    if (!read_options(&bert_command, argc, argv, &request, &operands, &status)) {
        return status;
    }
    if (request.bench == (request.text != NULL)) {
        return usage_error(&bert_command, "give either --text or --bench");
    }
    if (request.bench && request.feedforward != NULL) {
        return usage_error(&bert_command, "--feedforward is for --text: --bench times several ways");
    }
    if (!request.bench && (request.length > 0 || request.sequences > 0 || request.rounds > 0)) {
        return usage_error(&bert_command, "--length, --sequences and --rounds are for --bench");
    }
    return run_model(operands.values[0], &request);
}

static const struct command_option options[] = {
    {.name = "text",
     .type = OPTION_TEXT,
     .argument = "TEXT",
     .offset = offsetof(struct request, text),
     .text =
         "Run the model on this text, and print the best predictions at [MASK] or <mask>, a classifier's labels, or "
         "an encoder's pooled embedding."},
    {.name = "bench",
     .offset = offsetof(struct request, bench),
     .text = "Time the model with its trees, densely with a mask, and with dense layers."},
    {.name = "isa",
     .type = OPTION_TEXT,
     .argument = "NAME",
     .offset = offsetof(struct request, isa),
     .text = "The instruction set to use: auto (unless told), generic, x86_avx2, x86_avx512 or arm_neon."},
    STORE_OPTION(struct request),
    EXACT_ROUTES_OPTION(struct request),
    {.name = "feedforward",
     .type = OPTION_TEXT,
     .argument = "WAY",
     .offset = offsetof(struct request, feedforward),
     .text = "With --text, how feedforward layers are computed: stored (trees by the kernels, dense layers densely; "
             "unless told), trees, masked (all neurons, those off the path set to zero) or dense (none set to zero)."},
    {.name = "length",
     .type = OPTION_NUMBER,
     .argument = "N",
     .offset = offsetof(struct request, length),
     .least = 1,
     .text = "With --bench, tokens of a sequence; as many as the model takes unless told."},
    {.name = "sequences",
     .type = OPTION_NUMBER,
     .argument = "N",
     .offset = offsetof(struct request, sequences),
     .least = 1,
     .text = "With --bench, sequences of the large batch; 128 unless told. The small one is a single sequence."},
    {.name = "rounds",
     .type = OPTION_NUMBER,
     .argument = "N",
     .offset = offsetof(struct request, rounds),
     .least = 1,
     .text = "With --bench, how often everything is timed; 3 times unless told."},
    {0},
};

const struct command bert_command = {
    .name = "bert",
    .operands = "MODEL",
    .least_operands = 1,
    .most_operands = 1,
    .summary = "run a model on a text, or time it",
    .text = "Runs a model, a directory, on a text (--text), or times it (--bench).",
    .options = options,
    .run = run,
};
