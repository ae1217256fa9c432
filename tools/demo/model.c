#include "tools/demo/model.h"

#include "bert/bert.h"
#include "tools/commands.h"
#include "tools/machine/cores.h"
#include "tools/machine/isas.h"
#include "tools/machine/timing.h"
#include "tools/models/make_checkpoint.h"
#include "tools/progress.h"
#include "tools/random.h"
#include "tools/verify/model.h"

#include <stdio.h>

enum { LAYERS = 2, VOCABULARY = 1000, LENGTH = 128, WIDTH = 768, ROUNDS = 9 };

static int fail(const char *text) {
    fprintf(stderr, "fff demo: %s\n", text);
    return EXIT_BAD_INPUT;
}

static int verify(const char *directory) {
    char error[512];
    fff_isa isas[FFF_ISA_COUNT];
    struct model_verdict verdict;
    const struct model_input_choice choice = {.directory = directory};
    const struct model_check check = {.isas = isas, .isa_count = usable_isas(isas), .layer_tokens = LENGTH};
    if (!verify_model(&choice, &check, &verdict, error, sizeof error)) {
        return fail(error);
    }
    bool ok = model_verdict_holds(&verdict);
    const struct end_to_end *run = &verdict.runs[verdict.isa_count - 1];
    printf("  %s: %zu tokens, every layer against the dense definition, on every instruction set; hidden states\n"
           "  %.2g off float64's, relative to the largest; %zu of %zu predictions the same\n",
           ok ? "verified" : "FAILED", verdict.tokens, relative(run->hidden), run->top1, run->predictions);
    model_verdict_free(&verdict);
    return ok ? EXIT_HOLDS : EXIT_FAILS;
}

/* The encoder's time with trees, and with all neurons dense, turn about. */
static int time_encoder(const char *directory) {
    static float hidden[LENGTH * WIDTH];
    static const fff_bert_feedforward ways[2] = {FFF_BERT_TREES, FFF_BERT_DENSE};
    int32_t ids[LENGTH];
    double ratios[ROUNDS] = {0}, seconds[2] = {0, 0};
    char error[512] = "";
    uint64_t state = 1;
    fff_bert *models[2] = {NULL, NULL};
    bool ok = true;
    size_t clean = 0;
    for (size_t i = 0; i < LENGTH; i++) {
        ids[i] = (int32_t)random_below(&state, VOCABULARY);
    }
    const fff_bert_batch batch = {1, LENGTH, ids, NULL};
    for (size_t i = 0; i < 2 && ok; i++) {
        const fff_bert_options options = {.feedforward = ways[i]};
        models[i] = fff_bert_open(directory, &options, error, sizeof error);
        ok = models[i] != NULL && fff_bert_encode(models[i], &batch, hidden, NULL, error, sizeof error); /* warms up */
    }
    struct load_watch load = load_start();
    for (size_t round = 0; round < ROUNDS && ok; round++) {
        bool disturbed = false;
        for (size_t i = 0; i < 2; i++) {
            show_progress("a model: round %zu of %d", round + 1, ROUNDS);
            struct stopwatch watch = stopwatch_start(1, 1);
            ok = ok && fff_bert_encode(models[i], &batch, hidden, NULL, error, sizeof error);
            struct timed timed = stopwatch_stop(&watch);
            seconds[i] = timed.seconds;
            disturbed = disturbed || was_disturbed(timed);
        }
        if (!disturbed) {
            ratios[clean++] = seconds[1] / seconds[0];
        }
    }
    end_progress();
    fff_bert_close(models[0]);
    fff_bert_close(models[1]);
    if (!ok) {
        return fail(error);
    }
    struct spread ratio = {0, 0, 0};
    if (clean > 0) {
        ratio = spread_of(ratios, clean);
    }
    if (is_busy(clean, ROUNDS, ratio, load_stop(&load), error, sizeof error)) {
        printf("  the machine is busy: %s; no time of the encoder is to be believed\n", error);
        return EXIT_HOLDS;
    }
    printf("  the whole encoder, %d tokens on one core: %.2f times faster than with dense layers of the same 4095 "
           "neurons\n"
           "  (%.2f to %.2f)\n",
           LENGTH, ratio.median, ratio.least, ratio.most);
    return EXIT_HOLDS;
}

int demo_model(const char *directory) {
    struct checkpoint_sizes sizes = CHECKPOINT_DEFAULTS;
    sizes.layers = LAYERS;
    sizes.vocabulary = VOCABULARY;
    sizes.max_length = LENGTH;
    printf("\nA BERT with such layers: %d of them, 768 wide, seeded ...\n", LAYERS);
    fflush(stdout);
    int status = make_checkpoint(directory, &sizes) ? verify(directory) : EXIT_BAD_INPUT;
    if (status == EXIT_HOLDS) {
        cpu_set_t cores;
        stay_on_this_core(&cores);
        status = time_encoder(directory);
        allow_cores(&cores);
    }
    return status;
}
