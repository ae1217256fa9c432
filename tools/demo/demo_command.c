/* fff demo: a layer of UltraFastBERT's shape, made, verified and timed against the dense layer; and a model. */
#include "tools/bench/report.h"
#include "tools/commands.h"
#include "tools/demo/folder.h"
#include "tools/demo/model.h"
#include "tools/demo/stored.h"
#include "tools/machine/cores.h"
#include "tools/machine/isas.h"

#include <stdio.h>

enum { TOKENS = 512 }; /* all that are timed */

static const struct bench_settings settings = {
    .input_width = 768,
    .output_width = 768,
    .depth = 11,
    .trees = 1,
    .batches = {1, 8, 64, 512},
    .batch_count = 4,
    .rounds = 8,
    .seconds = 5,
    .seed = 2311,
    .dense = true,
};

static int fail(const char *error) {
    fprintf(stderr, "fff demo: %s\n", error);
    return EXIT_BAD_INPUT;
}

static int verify(struct bench *bench) {
    struct verdict verdicts[FFF_ISA_COUNT];
    struct store_verdict store;
    size_t verified = 0;
    printf("Verifying %d tokens on every instruction set, alone and in batches, against the dense\n"
           "definition in float64 ...\n",
           TOKENS);
    fflush(stdout);
    fff_status status = bench_verify(bench, TOKENS, VERIFY_ALL_SPLITS, verdicts, &store, &verified);
    if (status != FFF_OK) {
        return fail(fff_status_text(status));
    }
    return print_bench_verdicts(verdicts, bench->settings.isa_count, &store) ? EXIT_HOLDS : EXIT_FAILS;
}

static int measure(struct bench *bench) {
    char error[BENCH_TEXT];
    if (!bench_prepare(bench, error, sizeof error)) {
        return fail(error);
    }
    print_bench_head(bench);
    for (size_t i = 0; i < settings.batch_count; i++) {
        struct bench_batch batch;
        int status = bench_time(bench, settings.batches[i], &batch, error, sizeof error);
        if (status != EXIT_HOLDS) {
            (void)fail(error);
            return status;
        }
        print_bench_batch(bench, &batch);
    }
    print_bench_end();
    return EXIT_HOLDS;
}

static int demonstrate_layer(void) {
    char error[BENCH_TEXT] = "";
    struct bench bench;
    struct bench_settings all = settings;
    cpu_set_t cores;
    stay_on_this_core(&cores);
    allow_cores(&cores);
    all.threads = count_cores(&cores);
    all.isa_count = usable_isas(all.isas);
    bool opened = bench_open(&bench, &all, error, sizeof error);
    int status = opened ? EXIT_HOLDS : fail(error);
    if (opened) {
        print_bench_shape(&bench);
        status = verify(&bench);
    }
    if (status == EXIT_HOLDS) {
        status = measure(&bench);
    }
    if (status == EXIT_HOLDS) {
        status = demo_stored(&bench.data, bench.settings.isas[bench.settings.isa_count - 1]);
    }
    bench_close(&bench);
    return status;
}

static int run_command(int argc, char **argv) {
    struct operands operands;
    int exit_status;
    if (!read_options(&demo_command, argc, argv, NULL, &operands, &exit_status)) {
        return exit_status;
    }
#if FFF_HAVE_MODELS
    char error[512];
    if (!demo_folder_make(error, sizeof error)) { /* before minutes of other work */
        return fail(error);
    }
    int status = demonstrate_layer();
    if (status == EXIT_HOLDS) {
        status = demo_model(demo_folder());
    }
    demo_folder_remove();
    return status;
#else
    return demonstrate_layer();
#endif
}

const struct command demo_command = {
    .name = "demo",
    .summary = "make, verify and time a 1x11 layer, 768 wide, and a model",
    .text = "Makes, verifies and times a layer, as 'fff bench' does, and a model of UltraFastBERT's shape.",
    .run = run_command,
};
