#include "tools/commands.h"
#include "tools/sleef.h"

#include <fff/fff.h>
#include <stdlib.h>

enum { MOST_FEATURES = 32 };

/* "usable", or why not. */
static void print_isa(fff_isa isa, const fff_cpu_feature *features, size_t count) {
    fff_status status = fff_isa_usable(isa);
    printf("  %-12s", fff_isa_name(isa));
    if (status == FFF_ERROR_ISA_NOT_BUILT) {
        puts("not built");
        return;
    }
    printf("built, %s", status == FFF_OK ? "usable" : "not usable: this machine lacks");
    for (size_t i = 0; i < count && i < MOST_FEATURES; i++) {
        if (features[i].isa == isa && !features[i].present) {
            printf(" %s", features[i].name);
        }
    }
    puts("");
}

static bool print_sleef(void) {
    char sleef[SLEEF_TEXT];
    bool recorded = true;
    describe_sleef(sleef, sizeof sleef);
    printf("\nSLEEF: %s; built with %s\n", sleef, fff_sleef_version());
    for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
        if (fff_isa_usable((fff_isa)isa) == FFF_OK) {
            fff_status status = fff_sleef_check((fff_isa)isa);
            recorded = recorded && status == FFF_OK;
            printf("  %-12s%s\n", fff_isa_name((fff_isa)isa),
                   status == FFF_OK ? "the recorded bits" : "OTHER BITS than the recorded ones, in GELU_tanh or SiLU");
        }
    }
    return recorded;
}

static bool print_choice(void) {
    const char *named = getenv("FFF_ISA");
    fff_isa chosen;
    fff_status status = fff_isa_choose(FFF_ISA_AUTO, &chosen);
    if (status != FFF_OK) {
        printf("\nchosen: none, FFF_ISA is '%s': %s\n", named != NULL ? named : "", fff_status_text(status));
        return false;
    }
    fff_isa asked;
    bool by_name = named != NULL && fff_isa_by_name(named, &asked) == FFF_OK && asked == chosen;
    printf("\nchosen: %s, %s\n", fff_isa_name(chosen),
           by_name ? "because FFF_ISA names it" : "the best usable one (FFF_ISA does not name another)");
    return true;
}

static int run(int argc, char **argv) {
    struct operands operands;
    int status;
    if (!read_options(&cpu_command, argc, argv, NULL, &operands, &status)) {
        return status;
    }
    fff_cpu_feature features[MOST_FEATURES];
    size_t count = fff_cpu_features(features, MOST_FEATURES);
    printf("libfff %s\n\nCPU features:\n ", fff_version());
    for (size_t i = 0; i < count && i < MOST_FEATURES; i++) {
        printf(" %s%s", features[i].present ? "" : "no-", features[i].name);
    }
    puts(count == 0 ? " none that this library asks about\n\ninstruction sets:" : "\n\ninstruction sets:");
    for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
        print_isa((fff_isa)isa, features, count);
    }
    bool recorded = print_sleef();
    return print_choice() && recorded ? EXIT_HOLDS : EXIT_FAILS;
}

const struct command cpu_command = {
    .name = "cpu",
    .summary = "what this machine can run, and what is chosen",
    .text =
        "Prints the CPU's features, the instruction sets that can be used here, which SLEEF is loaded and whether its "
        "functions return the recorded bits, which instruction set is chosen, and why. The exit status is 1 if "
        "none can be chosen, or if SLEEF's bits are others.",
    .run = run,
};
