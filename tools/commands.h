/* The commands of `fff`. Exit status: 0 success, 1 a check failed, 2 wrong usage, unreadable input or output that
 * cannot be written. */
#ifndef FFF_TOOLS_COMMANDS_H
#define FFF_TOOLS_COMMANDS_H

#include "tools/options.h"

enum { EXIT_HOLDS = 0, EXIT_FAILS = 1, EXIT_BAD_INPUT = 2 };

/* What is said where whole models were left out (FFF_HAVE_MODELS 0). */
#define WITHOUT_MODELS "this fff was built without models (utf8proc was absent)"

extern const struct command fff_command; /* `fff` itself, which has all others */
extern const struct command cpu_command, verify_command, bench_command, bert_command, make_checkpoint_command,
    demo_command, help_command;

/* The command of that name; NULL if there is none. */
const struct command *find_command(const char *name);
/* usage_error() for that, with the names there are. */
int unknown_command(const struct command *command, const char *name);

#endif
