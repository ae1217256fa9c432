#include "tools/demo/folder.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FOLDER = 256, FILES = 4, PATH = FOLDER + 64 };

/* Made before they are needed, since a signal's handler may only call the simplest functions; until then nothing has
 * these names. */
static char folder[FOLDER], files[FILES][PATH];

void demo_folder_remove(void) {
    for (size_t i = 0; i < FILES; i++) {
        (void)unlink(files[i]);
    }
    (void)rmdir(folder);
}

/* The signal's default action ends the program when the handler returns. */
static void remove_and_end(int signal_number) {
    demo_folder_remove();
    (void)raise(signal_number);
}

static void watch_signals(void) {
    const int ending[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof ending / sizeof *ending; i++) {
        struct sigaction action = {.sa_handler = remove_and_end, .sa_flags = (int)SA_RESETHAND}, before;
        if (sigaction(ending[i], NULL, &before) == 0 && before.sa_handler == SIG_DFL) {
            (void)sigaction(ending[i], &action, NULL);
        }
    }
}

bool demo_folder_make(char *error, size_t error_size) {
    static const char *const names[FILES] = {"config.json", "config.json.unfinished", "model.safetensors",
                                             "model.safetensors.unfinished"};
    const char *temporary = getenv("TMPDIR");
    int length = snprintf(folder, sizeof folder, "%s/fff_demo_XXXXXX", temporary != NULL ? temporary : "/tmp");
    if (length < 0 || (size_t)length >= sizeof folder) {
        snprintf(error, error_size, "TMPDIR is too long");
        return false;
    }
    watch_signals();
    if (mkdtemp(folder) == NULL) {
        snprintf(error, error_size, "no temporary folder can be made as %s: %s", folder, strerror(errno));
        return false;
    }
    for (size_t i = 0; i < FILES; i++) {
        snprintf(files[i], sizeof files[i], "%s/%s", folder, names[i]);
    }
    return true;
}

const char *demo_folder(void) {
    return folder;
}
