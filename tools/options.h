/* The commands' options, each described once: getopt_long()'s arrays, --help and the man page are made of the same
 * table.
 *
 *     fff COMMAND [OPTION]... [OPERAND]...
 *
 * Options may stand before and after operands; `--` ends them; `--name VALUE` and `--name=VALUE` are the same; a long
 * name may be cut where it stays clear; of an option given twice the last holds. */
#ifndef FFF_TOOLS_OPTIONS_H
#define FFF_TOOLS_OPTIONS_H

#include <fff/fff.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum option_type {
    OPTION_FLAG,   /* bool */
    OPTION_TEXT,   /* const char *, as it stands in argv */
    OPTION_NUMBER, /* size_t */
};

/* Tables of these end with a row of zeros. `help` and `-h` belong to every command and stand in no table. */
struct command_option {
    const char *name; /* long, without dashes */
    char letter;      /* short; 0: none */
    enum option_type type;
    const char *argument; /* what help calls the value; NULL for a flag */
    size_t offset;        /* of the value in the structure that read_options() fills */
    size_t least, most;   /* of a number; most 0: SIZE_MAX */
    const char *text;     /* what it does, for people: a sentence or two, wrapped where it is printed */
};

/* A name and what it means, for help. Tables end with a row of zeros. */
struct command_note {
    const char *name, *text;
};

struct command {
    const char *name;     /* NULL: `fff` itself */
    const char *operands; /* as help shows them; NULL: none are taken */
    int least_operands, most_operands;
    const char *summary; /* half a line, for the list of commands */
    const char *text;    /* paragraphs, with an empty line between them */
    const struct command_option *options;
    int (*run)(int argc, char **argv);                      /* argv[0] is the command's name; an exit status */
    const struct command *const *commands;                  /* `fff` itself: its commands, NULL at the end */
    const struct command_note *environment, *exit_statuses; /* likewise */
};

struct operands {
    int count;
    char **values;
};

/* Reads a command line: options into the structure at `values`, which holds the defaults, and the rest, at its place in
 * argv, into *operands. For a command with commands it stops at the first operand. False where nothing is left to do:
 * help was printed, or wrong usage told in one line on stderr; then *status is the exit status. */
bool read_options(const struct command *command, int argc, char **argv, void *values, struct operands *operands,
                  int *status);

/* One line on stderr: the command, what is wrong, how to get help. Returns EXIT_BAD_INPUT. */
int usage_error(const struct command *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A whole number of decimal digits, from least to most. False after usage_error(), which names the option (with its
 * dashes) and the text. */
bool read_number(const struct command *command, const char *option, const char *text, size_t least, size_t most,
                 size_t *number);

/* The instruction set of that name, usable here and never FFF_ISA_AUTO; NULL and "auto" leave the choice to FFF_ISA,
 * else to the library. False after a line on stderr that says which of --isa and FFF_ISA names none, and lists the
 * names. */
bool read_isa(const struct command *command, const char *name, fff_isa *isa);

/* Likewise those that a name stands for, in order: NULL and "all" mean every usable one; at most FFF_ISA_COUNT - 1. How
 * many they are; 0 after a line on stderr. FFF_ISA is looked at unless the name is a single one's, so that a wrong
 * value does not pass unseen. */
size_t read_isas(const struct command *command, const char *name, fff_isa *isas);

void print_help(const struct command *command, FILE *stream);

#endif
