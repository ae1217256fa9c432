#include "tools/files/temporary.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_NAMES = 8, LONGEST_PATH = 4096 + 32 };

/* What a signal's handler removes: it may only call the simplest functions. The last ones lie in the first. */
static char paths[MOST_NAMES][LONGEST_PATH];
static atomic_bool is_used[MOST_NAMES];

static const int ending[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGXFSZ, SIGXCPU};
enum { ENDING = sizeof ending / sizeof *ending };

static void remove_path(const char *path) {
    if (unlink(path) != 0) {
        (void)rmdir(path);
    }
}

/* The signal's default action ends the program when the handler returns. */
static void remove_and_end(int signal_number) {
    for (size_t i = MOST_NAMES; i-- > 0;) {
        if (is_used[i]) {
            remove_path(paths[i]);
        }
    }
    (void)raise(signal_number);
}

static void watch_signals(void) {
    static bool watched;
    for (size_t i = 0; i < ENDING && !watched; i++) {
        struct sigaction action = {.sa_handler = remove_and_end, .sa_flags = (int)SA_RESETHAND}, before;
        if (sigaction(ending[i], NULL, &before) == 0 && before.sa_handler == SIG_DFL) {
            (void)sigaction(ending[i], &action, NULL);
        }
    }
    watched = true;
}

/* Between the two nothing is made that is not known yet. */
static void hold_signals(sigset_t *before) {
    sigset_t held;
    sigemptyset(&held);
    for (size_t i = 0; i < ENDING; i++) {
        sigaddset(&held, ending[i]);
    }
    pthread_sigmask(SIG_BLOCK, &held, before);
}

static void release_signals(const sigset_t *before) {
    int why = errno;
    pthread_sigmask(SIG_SETMASK, before, NULL);
    errno = why;
}

bool temporary_name(const char *path) {
    size_t length = strlen(path), i = 0;
    while (i < MOST_NAMES && is_used[i]) {
        i++;
    }
    if (i == MOST_NAMES || length >= LONGEST_PATH) {
        errno = i == MOST_NAMES ? ENOSPC : ENAMETOOLONG;
        return false;
    }
    watch_signals();
    memcpy(paths[i], path, length + 1);
    is_used[i] = true;
    return true;
}

FILE *temporary_file(const char *path) {
    sigset_t before;
    hold_signals(&before);
    FILE *stream = fopen(path, "wbx");
    if (stream != NULL && !temporary_name(path)) {
        int why = errno;
        fclose(stream);
        remove_path(path);
        stream = NULL;
        errno = why;
    }
    release_signals(&before);
    return stream;
}

bool temporary_folder(char *path) {
    sigset_t before;
    hold_signals(&before);
    bool made = mkdtemp(path) != NULL;
    if (made && !temporary_name(path)) {
        int why = errno;
        remove_path(path);
        made = false;
        errno = why;
    }
    release_signals(&before);
    return made;
}

void temporary_remove(const char *path) {
    for (size_t i = 0; i < MOST_NAMES; i++) {
        if (is_used[i] && strcmp(paths[i], path) == 0) {
            remove_path(path);
            is_used[i] = false;
        }
    }
}
