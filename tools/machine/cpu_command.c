#include "tools/commands.h"
#include "tools/machine/sleef.h"

#include <fff/fff.h>
#include <stdlib.h>

enum { MOST_FEATURES = 32 };

struct features {
    fff_cpu_feature of[MOST_FEATURES];
    size_t count;
};

static struct features list_features(size_t (*list)(fff_cpu_feature *features, size_t capacity)) {
    struct features features;
    size_t count = list(features.of, MOST_FEATURES);
    features.count = count < MOST_FEATURES ? count : MOST_FEATURES;
    return features;
}

static void print_features(const char *title, const struct features *features, const char *none) {
    printf("%s:\n ", title);
    for (size_t i = 0; i < features->count; i++) {
        printf(" %s%s", features->of[i].present ? "" : "no-", features->of[i].name);
    }
    printf("%s\n\n", features->count == 0 ? none : "");
}

/* With which optional features int8 weights run, or for want of which they do without. */
static void print_int8(fff_isa isa, const struct features *optional) {
    bool wanted = false, all = true;
    for (size_t i = 0; i < optional->count; i++) {
        wanted = wanted || optional->of[i].isa == isa;
        all = all && (optional->of[i].isa != isa || optional->of[i].present);
    }
    if (wanted) {
        fputs(all ? "; int8 weights with" : "; int8 weights without", stdout);
    }
    for (size_t i = 0; i < optional->count; i++) {
        if (optional->of[i].isa == isa && (all || !optional->of[i].present)) {
            printf(" %s", optional->of[i].name);
        }
    }
}

/* "usable", or why not. */
static void print_isa(fff_isa isa, const struct features *features, const struct features *optional) {
    fff_status status = fff_isa_usable(isa);
    printf("  %-12s", fff_isa_name(isa));
    if (status == FFF_ERROR_ISA_NOT_BUILT) {
        puts("not built");
        return;
    }
    printf("built, %s", status == FFF_OK ? "usable" : "not usable: this machine lacks");
    for (size_t i = 0; i < features->count; i++) {
        bool needed =
            features->of[i].isa == isa || (isa == FFF_ISA_X86_AVX512 && features->of[i].isa == FFF_ISA_X86_AVX2);
        if (needed && !features->of[i].present) {
            printf(" %s", features->of[i].name);
        }
    }
    if (status == FFF_OK) {
        print_int8(isa, optional);
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
    const struct features features = list_features(fff_cpu_features);
    const struct features optional = list_features(fff_cpu_optional_features);
    printf("libfff %s\n\n", fff_version());
    print_features("CPU features", &features, " none that this library asks about");
    print_features("optional CPU features, which make int8 weights faster", &optional, " none");
    puts("instruction sets:");
    for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
        print_isa((fff_isa)isa, &features, &optional);
    }
    bool recorded = print_sleef();
    return print_choice() && recorded ? EXIT_HOLDS : EXIT_FAILS;
}

const struct command cpu_command = {
    .name = "cpu",
    .summary = "what this machine can run, and what is chosen",
    .text =
        "Prints the CPU's features, the instruction sets that can be used here and how each runs int8 weights, "
        "which SLEEF is loaded and whether its functions return the recorded bits, which instruction set is chosen, "
        "and why. The exit status is 1 if none can be chosen, or if SLEEF's bits are others.",
    .run = run,
};
