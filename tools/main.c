/* fff: look at this machine, verify layer files, demonstrate. */
#include "tools/commands.h"

#include <fff/fff.h>
#include <stdio.h>
#include <string.h>

#if !FFF_HAVE_MODELS
int command_bert(int argc, char **argv) {
    (void)argc;
    (void)argv;
    fputs("fff bert: " WITHOUT_MODELS "\n", stderr);
    return EXIT_BAD_INPUT;
}
#endif

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"cpu", command_cpu},   {"verify", command_verify},
    {"demo", command_demo}, {"make-checkpoint", command_make_checkpoint},
    {"bert", command_bert},
};

static void print_usage(FILE *stream) {
    fputs("usage: fff cpu                                 what this machine can run, and what is chosen\n"
          "       fff verify PATH... [--isa NAME|all] [--json] [--text FILE | --ids FILE | --expected FILE]\n"
          "                                               check layer files, and models (directories), on every\n"
          "                                               instruction set; on lines of text or of ids, or on what is\n"
          "                                               in a file with results: expected.safetensors, if there\n"
          "       fff demo                                make, verify and time a 1x11 layer, 768 wide, and a model\n"
          "       fff bert DIR --text TEXT [--isa NAME] [--feedforward stored|trees|masked|dense]\n"
          "                                               what a model predicts at [MASK], or its embedding\n"
          "       fff bert DIR --bench [--isa NAME] [--length N] [--sequences N] [--rounds N]\n"
          "                                               time a model, with its trees and dense\n"
          "       fff make-checkpoint DIR [--layers N] [--hidden N] [--heads N] [--trees N] [--depth N | --dense N]\n"
          "                               [--vocab N] [--max-length N] [--labels N] [--untied] [--seed N]\n"
          "                                               write a seeded model; 1x11, 16 layers unless told\n"
          "       fff --version\n"
          "\n"
          "The environment's FFF_ISA names the instruction set to use where none is asked for.\n"
          "Exit status: 0 all holds, 1 a check failed, 2 wrong usage or unreadable input.\n",
          stream);
}

int main(int argc, char **argv) {
    if (argc >= 2 && strcmp(argv[1], "--version") == 0) {
        printf("fff %s (SLEEF %s)\n", fff_version(), fff_sleef_version());
        return 0;
    }
    if (argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        print_usage(stdout);
        return 0;
    }
    for (size_t i = 0; argc >= 2 && i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            return commands[i].run(argc - 1, argv + 1);
        }
    }
    print_usage(stderr);
    return EXIT_BAD_INPUT;
}
