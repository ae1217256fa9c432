/* fff help: what a command does, in a terminal's columns or as the man page's source. */
#include "tools/commands.h"

#include <limits.h>
#include <string.h>

enum { COLUMNS = 80, TEXT_COLUMN = 25 };

static const struct command_option help_option = {.name = "help", .letter = 'h', .text = "Print this text."};

/* ---- For a terminal -------------------------------------------------------------------------- */

/* A text wrapped between two columns, the first of which has been reached already. */
static void print_wrapped(FILE *stream, const char *text, int indent) {
    int column = indent;
    while (*text != '\0') {
        int length = (int)strcspn(text, " \n");
        if (column > indent && column + 1 + length > COLUMNS) {
            fprintf(stream, "\n%*s", indent, "");
            column = indent;
        }
        if (column > indent) {
            fputc(' ', stream);
            column++;
        }
        fprintf(stream, "%.*s", length, text);
        column += length;
        text += length;
        if (*text == '\n') {
            fprintf(stream, "\n%*s", text[1] != '\n' ? indent : 0, "");
            column = indent;
        }
        text += *text != '\0';
    }
    fputc('\n', stream);
}

/* A name, from column `indent`, and its text beside or below it. */
static void print_row(FILE *stream, const char *name, const char *text) {
    int used = fprintf(stream, "  %s", name);
    if (used + 2 > TEXT_COLUMN) {
        fputc('\n', stream);
        used = 0;
    }
    fprintf(stream, "%*s", TEXT_COLUMN - used, "");
    print_wrapped(stream, text, TEXT_COLUMN);
}

static void print_notes(FILE *stream, const char *title, const struct command_note *note) {
    if (note != NULL) {
        fprintf(stream, "\n%s:\n", title);
    }
    for (; note != NULL && note->name != NULL; note++) {
        print_row(stream, note->name, note->text);
    }
}

static void print_option(FILE *stream, const struct command_option *option) {
    char letter[8] = "    ", name[64];
    if (option->letter != '\0') {
        snprintf(letter, sizeof letter, "-%c, ", option->letter);
    }
    snprintf(name, sizeof name, "%s--%s%s%s", letter, option->name, option->argument != NULL ? " " : "",
             option->argument != NULL ? option->argument : "");
    print_row(stream, name, option->text);
}

void print_help(const struct command *command, FILE *stream) {
    fprintf(stream, "usage: fff%s%s [OPTION]...", command->name != NULL ? " " : "",
            command->name != NULL ? command->name : "");
    fprintf(stream, "%s%s\n\n", command->operands != NULL ? " " : "",
            command->operands != NULL ? command->operands : "");
    print_wrapped(stream, command->text, 0);
    if (command->commands != NULL) {
        fputs("\nCommands:\n", stream);
    }
    for (const struct command *const *other = command->commands; other != NULL && *other != NULL; other++) {
        print_row(stream, (*other)->name, (*other)->summary);
    }
    fputs("\nOptions:\n", stream);
    for (const struct command_option *option = command->options; option != NULL && option->name != NULL; option++) {
        print_option(stream, option);
    }
    print_option(stream, &help_option);
    print_notes(stream, "Environment", command->environment);
    print_notes(stream, "Exit status", command->exit_statuses);
}

/* ---- For man --------------------------------------------------------------------------------- */

/* A text in mdoc(7), a sentence a line; what could be taken for markup is escaped. */
static void print_mdoc_text(const char *text) {
    for (char before = '\n'; *text != '\0'; text++) {
        if (text[0] == '\n' && text[1] == '\n') {
            fputs("\n.Pp\n", stdout);
            before = *++text;
            continue;
        }
        bool line_ends = *text == ' ' && before == '.';
        if (before == '\n' && (*text == '.' || *text == '\'')) {
            fputs("\\&", stdout);
        }
        switch (*text) {
        case '-': fputs("\\-", stdout); break;
        case '\\': fputs("\\e", stdout); break;
        default: putchar(line_ends ? '\n' : *text);
        }
        before = *text;
        if (line_ends) {
            before = '\n';
        }
    }
    putchar('\n');
}

static void print_mdoc_name(const struct command_option *option) {
    if (option->letter != '\0') {
        printf(" Fl %c ,", option->letter);
    }
    printf(" Fl -%s", option->name);
    if (option->argument != NULL) {
        printf(" Ar %s", option->argument);
    }
    putchar('\n');
}

static void print_mdoc_synopsis(const struct command *command) {
    puts(".Nm");
    if (command->name != NULL) {
        printf(".Cm %s\n", command->name);
    }
    for (const struct command_option *option = command->options; option != NULL && option->name != NULL; option++) {
        printf(".Op");
        print_mdoc_name(option);
    }
    if (command->operands != NULL) {
        printf(".Ar %s\n", command->operands);
    }
}

static void print_mdoc_options(const struct command *command) {
    puts(".Bl -tag -width Ds");
    for (const struct command_option *option = command->options; option != NULL && option->name != NULL; option++) {
        printf(".It");
        print_mdoc_name(option);
        print_mdoc_text(option->text);
    }
    printf(".It");
    print_mdoc_name(&help_option);
    print_mdoc_text(help_option.text);
    puts(".El");
}

static void print_mdoc_notes(const char *section, const char *macro, const struct command_note *note) {
    printf(".Sh %s\n.Bl -tag -width Ds\n", section);
    for (; note->name != NULL; note++) {
        printf(".It %s%s\n", macro, note->name);
        print_mdoc_text(note->text);
    }
    puts(".El");
}

static void print_mdoc(void) {
    fputs(".\\\" Written by: fff help --mdoc\n"
          ".Dd November 28, 2026\n"
          ".Dt FFF 1\n"
          ".Os libfff\n"
          ".Sh NAME\n"
          ".Nm fff\n"
          ".Nd verify, run and time fast feedforward layers and models\n"
          ".Sh SYNOPSIS\n",
          stdout);
    print_mdoc_synopsis(&fff_command);
    for (const struct command *const *command = fff_command.commands; *command != NULL; command++) {
        print_mdoc_synopsis(*command);
    }
    puts(".Sh DESCRIPTION");
    print_mdoc_text(fff_command.text);
    print_mdoc_options(&fff_command);
    for (const struct command *const *command = fff_command.commands; *command != NULL; command++) {
        printf(".Ss fff %s\n", (*command)->name);
        print_mdoc_text((*command)->text);
        print_mdoc_options(*command);
    }
    print_mdoc_notes("ENVIRONMENT", "Ev ", fff_command.environment);
    print_mdoc_notes("EXIT STATUS", "", fff_command.exit_statuses);
    fputs(".Sh SEE ALSO\n"
          ".Pa include/fff/fff.h ,\n"
          ".Pa docs/equivalence.md\n"
          "and\n"
          ".Pa docs/bert.md\n"
          "in the source.\n",
          stdout);
}

/* ---- The command ----------------------------------------------------------------------------- */

struct request {
    bool mdoc;
};

static int run(int argc, char **argv) {
    struct request request = {0};
    struct operands operands;
    int status;
    if (!read_options(&help_command, argc, argv, &request, &operands, &status)) {
        return status;
    }
    if (request.mdoc) {
        if (operands.count > 0) {
            return usage_error(&help_command, "--mdoc is of all commands, not of '%s'", operands.values[0]);
        }
        print_mdoc();
        return EXIT_HOLDS;
    }
    const struct command *command = operands.count > 0 ? find_command(operands.values[0]) : &fff_command;
    if (command == NULL) {
        return unknown_command(&help_command, operands.values[0]);
    }
    print_help(command, stdout);
    return EXIT_HOLDS;
}

static const struct command_option options[] = {
    {.name = "mdoc",
     .type = OPTION_FLAG,
     .offset = offsetof(struct request, mdoc),
     .text = "Print the source of the man page, which tells of all commands."},
    {0},
};

const struct command help_command = {
    .name = "help",
    .operands = "[COMMAND]",
    .most_operands = 1,
    .summary = "tell what a command does, and its options",
    .text =
        "Prints what a command does and its options, as 'fff COMMAND --help' does; without a command, all commands.",
    .options = options,
    .run = run,
};
