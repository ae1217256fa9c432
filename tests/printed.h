/* What a function of the command prints to standard output. For POSIX systems. */
#ifndef FFF_TESTS_PRINTED_H
#define FFF_TESTS_PRINTED_H

#include "tests/support.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static FILE *captured;
static int standard_output;

static void capture(void) {
    fflush(stdout);
    captured = tmpfile();
    assert_non_null(captured);
    standard_output = dup(STDOUT_FILENO);
    assert_true(dup2(fileno(captured), STDOUT_FILENO) >= 0);
}

/* Fails unless what was printed since has these words. */
static void expect_printed(const char *expected) {
    char text[4096] = "";
    fflush(stdout);
    assert_true(dup2(standard_output, STDOUT_FILENO) >= 0);
    close(standard_output);
    rewind(captured);
    (void)!fread(text, 1, sizeof text - 1, captured);
    fclose(captured);
    if (strstr(text, expected) == NULL) {
        fail_msg("'%s' should contain '%s'", text, expected);
    }
}

#endif
