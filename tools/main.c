/* fff: look at this machine, verify layer files, demonstrate. */
#include "tools/commands.h"

#include <fff/fff.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} commands[] = {{"cpu", command_cpu},
                {"verify", command_verify},
                {"demo", command_demo},
                {"make-checkpoint", command_make_checkpoint}};

static void print_usage(FILE *stream) {
    fputs("usage: fff cpu                                      what this machine can run, and what is chosen\n"
          "       fff verify PATH... [--isa NAME|all] [--json]  check layer files on every instruction set\n"
          "       fff demo                                     make, verify and time a 1x11 layer, 768 wide\n"
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
