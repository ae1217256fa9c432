/* fff: look at this machine, verify layers and models, run and time them. */
#include "tools/commands.h"
#include "tools/machine/sleef.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

static const struct command *const commands[] = {
    &cpu_command,  &verify_command, &bench_command, &bert_command, &make_checkpoint_command,
    &demo_command, &help_command,   NULL,
};

struct request {
    bool version;
};

static const struct command_option options[] = {
    {.name = "version",
     .letter = 'V',
     .offset = offsetof(struct request, version),
     .text = "Print the versions of fff and of the SLEEF that is loaded."},
    {0},
};

static const struct command_note environment[] = {
    {"FFF_ISA", "The instruction set to use where --isa names none: generic, x86_avx2, x86_avx512 or arm_neon."},
    {"FFF_BLAS", "The shared library to take dense products from, with cblas_sgemm, cblas_dgemm and cblas_sgemv; "
                 "OpenBLAS unless set."},
    {"OPENBLAS_CORETYPE", "Whose kernels OpenBLAS is to use, where it does not know this CPU."},
    {"TMPDIR", "Where temporary files are made; /tmp if unset or empty."},
    {0},
};

static const struct command_note exit_statuses[] = {
    {"0", "All holds."},
    {"1", "A check failed."},
    {"2", "Wrong usage, unreadable input, or output that cannot be written."},
    {0},
};

const struct command fff_command = {
    .operands = "COMMAND [ARGUMENT]...",
    .most_operands = INT_MAX,
    .text =
        "A fast feedforward network (FFF) replaces a dense feedforward layer by binary trees of neurons, of which each "
        "token uses one path a tree. fff shows that the library computes what the dense definition says, and how "
        "fast.\n\n"
        "Options may stand before and after the other arguments; -- ends them; long names may be cut where they "
        "stay clear; of an option given twice the last holds.",
    .options = options,
    .commands = commands,
    .environment = environment,
    .exit_statuses = exit_statuses,
};

const struct command *find_command(const char *name) {
    const struct command *const *command = commands;
    while (*command != NULL && strcmp((*command)->name, name) != 0) {
        command++;
    }
    return *command;
}

int unknown_command(const struct command *command, const char *name) {
    char names[256] = "";
    for (const struct command *const *each = commands; *each != NULL; each++) {
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", used > 0 ? ", " : "", (*each)->name);
    }
    return usage_error(command, "unknown command '%s', there are %s", name, names);
}

static int run(int argc, char **argv) {
    struct request request = {0};
    struct operands operands;
    int status;
    if (!read_options(&fff_command, argc, argv, &request, &operands, &status)) {
        return status;
    }
    if (request.version) {
        char sleef[SLEEF_TEXT];
        describe_sleef(sleef, sizeof sleef);
        printf("fff %s (SLEEF %s; built with %s)\n", fff_version(), sleef, fff_sleef_version());
        return EXIT_HOLDS;
    }
    if (operands.count == 0) {
        print_help(&fff_command, stderr);
        return EXIT_BAD_INPUT;
    }
    const struct command *command = find_command(operands.values[0]);
    return command != NULL ? command->run(operands.count, operands.values)
                           : unknown_command(&fff_command, operands.values[0]);
}

/* A standard stream that the caller closed would be the next file opened. In its place stands one that fails. */
static void hold_standard_streams(void) {
    for (int stream = STDIN_FILENO; stream <= STDERR_FILENO; stream++) {
        if (fcntl(stream, F_GETFD) == -1) {
            (void)open("/dev/null", stream == STDIN_FILENO ? O_WRONLY : O_RDONLY);
        }
    }
}

int main(int argc, char **argv) {
    hold_standard_streams();
    int status = run(argc, argv);
    if (fflush(stdout) != 0 || ferror(stdout) != 0) {
        fputs("fff: standard output cannot be written: what was printed is not whole\n", stderr);
        return EXIT_BAD_INPUT;
    }
    return status;
}
