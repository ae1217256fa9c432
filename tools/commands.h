/* The subcommands of `fff`. Each gets its own arguments, argv[0] being its name, and returns the exit
 * status: 0 success, 1 a check failed, 2 wrong usage or unreadable input. */
#ifndef FFF_TOOLS_COMMANDS_H
#define FFF_TOOLS_COMMANDS_H

enum { EXIT_HOLDS = 0, EXIT_FAILS = 1, EXIT_BAD_INPUT = 2 };

/* What is said where whole models were left out (FFF_HAVE_MODELS 0). */
#define WITHOUT_MODELS "this fff was built without models (utf8proc was absent)"

int command_cpu(int argc, char **argv);
int command_verify(int argc, char **argv);
int command_demo(int argc, char **argv);
int command_bert(int argc, char **argv);
int command_make_checkpoint(int argc, char **argv);

#endif
