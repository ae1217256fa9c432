/* What is being done, for whoever waits at a terminal: one line on stderr, written over again and again. Nothing where
 * stderr is no terminal. */
#ifndef FFF_TOOLS_PROGRESS_H
#define FFF_TOOLS_PROGRESS_H

void show_progress(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Erases the line: before anything else is printed, and at the end. */
void end_progress(void);

#endif
