#include "tools/options.h"

#include "bert/report.h"
#include "tools/commands.h"
#include "tools/machine/isas.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Long options are returned as FIRST_LONG + their row, above all letters. */
enum { MOST_OPTIONS = 32, FIRST_LONG = UCHAR_MAX + 1, LONGEST_NAME = 64, LONGEST_TEXT = 8192 };

/* A table in getopt_long()'s terms; its last row is help's. */
struct parser {
    const struct command *command;
    void *values;
    size_t count; /* of the table's rows, without help */
    struct option rows[MOST_OPTIONS + 2];
    char letters[2 * MOST_OPTIONS + 4];
};

int usage_error(const struct command *command, const char *format, ...) {
    const char *space = command->name != NULL ? " " : "", *name = command->name != NULL ? command->name : "";
    char text[LONGEST_TEXT], shown[LONGEST_TEXT];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fff_escape(shown, sizeof shown, text, strlen(text));
    fprintf(stderr, "fff%s%s: %s; see 'fff%s%s --help'\n", space, name, shown, space, name);
    return EXIT_BAD_INPUT;
}

/* ---- Values ---------------------------------------------------------------------------------- */

bool read_number(const struct command *command, const char *option, const char *text, size_t least, size_t most,
                 size_t *number) {
    char *end = NULL;
    errno = 0;
    unsigned long long value = *text >= '0' && *text <= '9' ? strtoull(text, &end, 10) : 0; /* no blanks, no sign */
    if (end == NULL || *end != '\0') {
        usage_error(command, "option '%s': '%s' is no whole number", option, text);
        return false;
    }
    if (errno != 0 || value < least || value > most) {
        usage_error(command, "option '%s': %s is not from %zu to %zu", option, text, least, most);
        return false;
    }
    *number = (size_t)value;
    return true;
}

/* The names of the instruction sets, each with a comma before it. */
static void append_isa_names(char *text, size_t size) {
    for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
        size_t used = strlen(text);
        snprintf(text + used, size - used, ", %s", fff_isa_name((fff_isa)isa));
    }
}

static bool choose_isa(const struct command *command, const char *name, const char *other_names, fff_isa *isa) {
    fff_isa asked = FFF_ISA_AUTO;
    fff_status status = name != NULL ? fff_isa_by_name(name, &asked) : FFF_OK;
    bool by_environment = status == FFF_OK && asked == FFF_ISA_AUTO;
    if (status == FFF_OK) {
        status = fff_isa_choose(asked, isa);
    }
    if (status == FFF_OK) {
        return true;
    }
    char names[128];
    snprintf(names, sizeof names, "%sauto", other_names);
    append_isa_names(names, sizeof names);
    const char *value = by_environment ? getenv("FFF_ISA") : name;
    usage_error(command, "%s '%s': %s; the names are %s",
                by_environment ? "the environment's FFF_ISA is" : "option '--isa':", value != NULL ? value : "",
                fff_status_text(status), names);
    return false;
}

bool read_isa(const struct command *command, const char *name, fff_isa *isa) {
    return choose_isa(command, name, "", isa);
}

size_t read_isas(const struct command *command, const char *name, fff_isa *isas) {
    bool all = name == NULL || strcmp(name, "all") == 0;
    if (!choose_isa(command, all ? NULL : name, "all, ", isas)) {
        return 0;
    }
    return all ? usable_isas(isas) : 1;
}

/* ---- Parsing --------------------------------------------------------------------------------- */

static void describe(struct parser *parser) {
    const struct command_option *options = parser->command->options;
    char *letter = parser->letters;
    if (parser->command->commands != NULL) {
        *letter++ = '+'; /* what follows the first operand is another command's */
    }
    *letter++ = ':'; /* tells a missing value from an unknown option */
    for (; options != NULL && options[parser->count].name != NULL && parser->count < MOST_OPTIONS; parser->count++) {
        const struct command_option *option = &options[parser->count];
        bool has_value = option->type != OPTION_FLAG;
        parser->rows[parser->count] = (struct option){option->name, has_value ? required_argument : no_argument, NULL,
                                                      FIRST_LONG + (int)parser->count};
        if (option->letter != '\0') {
            *letter++ = option->letter;
            if (has_value) {
                *letter++ = ':';
            }
        }
    }
    *letter++ = 'h';
    *letter = '\0';
    parser->rows[parser->count] = (struct option){"help", no_argument, NULL, 'h'};
}

/* The row that getopt_long() meant by a long option's number or by a letter; `count` if it is help's or none's. */
static size_t row_of(const struct parser *parser, int returned) {
    size_t row = 0;
    if (returned >= FIRST_LONG) {
        return (size_t)(returned - FIRST_LONG);
    }
    while (row < parser->count && parser->command->options[row].letter != returned) {
        row++;
    }
    return row;
}

/* The same as people write it. */
static void spell(const struct parser *parser, int returned, char *name) {
    size_t row = row_of(parser, returned);
    if (returned >= FIRST_LONG || returned == 'h') {
        snprintf(name, LONGEST_NAME, "--%s", parser->rows[row].name);
    } else {
        snprintf(name, LONGEST_NAME, isgraph(returned) ? "-%c" : "-\\x%02x", returned & UCHAR_MAX);
    }
}

/* A long option that getopt_long() did not find, or found more than once. */
static int refuse_name(const struct parser *parser, const char *word) {
    char candidates[256] = "";
    const char *name = word + strspn(word, "-");
    size_t length = strcspn(name, "="), found = 0;
    for (size_t row = 0; row <= parser->count; row++) {
        if (strncmp(parser->rows[row].name, name, length) == 0) {
            size_t used = strlen(candidates);
            snprintf(candidates + used, sizeof candidates - used, "%s--%s", found++ > 0 ? ", " : "",
                     parser->rows[row].name);
        }
    }
    int shown = (int)(length + (size_t)(name - word));
    return found > 1 ? usage_error(parser->command, "option '%.*s' may be any of %s", shown, word, candidates)
                     : usage_error(parser->command, "unknown option '%.*s'", shown, word);
}

/* What getopt_long() could not read: ':' a missing value, else '?'. */
static int refuse(const struct parser *parser, int returned, const char *word) {
    char name[LONGEST_NAME];
    if (optopt == 0) {
        return refuse_name(parser, word);
    }
    spell(parser, optopt, name);
    if (returned == ':') {
        const struct command_option *option = &parser->command->options[row_of(parser, optopt)];
        return usage_error(parser->command, "option '%s' needs its %s", name, option->argument);
    }
    bool known = optopt >= FIRST_LONG || optopt == 'h';
    return usage_error(parser->command, known ? "option '%s' takes no value" : "unknown option '%s'", name);
}

static bool take(const struct parser *parser, int returned, char *value) {
    size_t row = row_of(parser, returned);
    const struct command_option *option = &parser->command->options[row];
    void *place = (char *)parser->values + option->offset;
    char name[LONGEST_NAME];
    spell(parser, returned, name);
    switch (option->type) {
    case OPTION_FLAG: *(bool *)place = true; return true;
    case OPTION_TEXT: *(const char **)place = value; return true;
    case OPTION_NUMBER:
        return read_number(parser->command, name, value, option->least, option->most > 0 ? option->most : SIZE_MAX,
                           place);
    }
    return false;
}

static bool fits(const struct command *command, const struct operands *operands) {
    if (operands->count > command->most_operands) {
        usage_error(command, "unexpected argument '%s'", operands->values[command->most_operands]);
        return false;
    }
    if (operands->count < command->least_operands) {
        usage_error(command, "no %.*s given", (int)strcspn(command->operands, ". ["), command->operands);
        return false;
    }
    return true;
}

bool read_options(const struct command *command, int argc, char **argv, void *values, struct operands *operands,
                  int *status) {
    struct parser parser = {.command = command, .values = values};
    describe(&parser);
    *status = EXIT_BAD_INPUT;
    opterr = 0; /* the messages here also say how to get help */
    optind = 0; /* GNU and musl: start anew, fff's own options have been read */
    int returned;
    while ((returned = getopt_long(argc, argv, parser.letters, parser.rows, NULL)) != -1) {
        if (returned == 'h') {
            print_help(command, stdout);
            *status = EXIT_HOLDS;
            return false;
        }
        if (returned == ':' || returned == '?') {
            *status = refuse(&parser, returned, argv[optind - 1]);
            return false;
        }
        if (!take(&parser, returned, optarg)) {
            return false;
        }
    }
    *operands = (struct operands){argc > optind ? argc - optind : 0, argv + optind};
    return fits(command, operands);
}
