#include "tools/commands.h"

#include <fff/fff.h>
#include <stdio.h>
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
    for (size_t i = 0; i < count; i++) {
        if (features[i].isa == isa && !features[i].present) {
            printf(" %s", features[i].name);
        }
    }
    puts("");
}

static int run(int argc, char **argv) {
    struct operands operands;
    int exit_status;
    if (!read_options(&cpu_command, argc, argv, NULL, &operands, &exit_status)) {
        return exit_status;
    }
    fff_cpu_feature features[MOST_FEATURES];
    size_t count = fff_cpu_features(features, MOST_FEATURES);
    printf("libfff %s, SLEEF %s\n\nCPU features:\n ", fff_version(), fff_sleef_version());
    for (size_t i = 0; i < count; i++) {
        printf(" %s%s", features[i].present ? "" : "no-", features[i].name);
    }
    puts(count == 0 ? " none that this library asks about\n\ninstruction sets:" : "\n\ninstruction sets:");
    for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
        print_isa((fff_isa)isa, features, count);
    }
    const char *named = getenv("FFF_ISA");
    fff_isa chosen;
    fff_status status = fff_isa_choose(FFF_ISA_AUTO, &chosen);
    if (status != FFF_OK) {
        printf("\nchosen: none, FFF_ISA is '%s': %s\n", named != NULL ? named : "", fff_status_text(status));
        return EXIT_FAILS;
    }
    fff_isa asked;
    int by_name = named != NULL && fff_isa_by_name(named, &asked) == FFF_OK && asked == chosen;
    printf("\nchosen: %s, %s\n", fff_isa_name(chosen),
           by_name ? "because FFF_ISA names it" : "the best usable one (FFF_ISA does not name another)");
    return EXIT_HOLDS;
}

const struct command cpu_command = {
    .name = "cpu",
    .summary = "what this machine can run, and what is chosen",
    .text = "Prints the CPU's features, the instruction sets that can be used here, which one is chosen, and why.",
    .run = run,
};
