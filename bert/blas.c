#include "bert/blas.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { LONGEST_SYMBOL = 64, LONGEST_REASON = 384 };

/* What distributions call it; then any other CBLAS, which may be slow. */
static const char *const usual_names[] = {"libopenblas.so.0", "libopenblas.so.3", "libopenblasp.so.0",
                                          "libopenblas.so",   "libcblas.so.3",    "libblas.so.3"};
/* Before all names in a library, so that it does not clash with another. */
static const char *const prefixes[] = {"", "scipy_"};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct fff_blas loaded;
static char failure[LONGEST_REASON + 96]; /* empty: loaded */

/* Sets *function, a pointer to a function, or leaves it. */
static bool find(void *library, const char *prefix, const char *name, void *function) {
    char whole[LONGEST_SYMBOL];
    snprintf(whole, sizeof whole, "%s%s", prefix, name);
    void *symbol = dlsym(library, whole);
    if (symbol != NULL) {
        memcpy(function, &symbol, sizeof symbol); /* POSIX promises that it fits; C has no conversion */
    }
    return symbol != NULL;
}

/* The first function that is wanting, or NULL. */
static const char *find_functions(void *library, const char *prefix, struct fff_blas *blas) {
    return !find(library, prefix, "cblas_sgemm", &blas->sgemm)   ? "cblas_sgemm"
           : !find(library, prefix, "cblas_dgemm", &blas->dgemm) ? "cblas_dgemm"
           : !find(library, prefix, "cblas_sgemv", &blas->sgemv) ? "cblas_sgemv"
                                                                 : NULL;
}

/* One thread, whichever library it is, and what OpenBLAS tells of itself. */
static void hold_and_ask(void *library, const char *prefix, struct fff_blas *blas) {
    void (*set_threads)(int) = NULL;
    char *(*tell)(void) = NULL;
    if (find(library, prefix, "openblas_set_num_threads", &set_threads) ||
        find(library, "", "MKL_Set_Num_Threads", &set_threads)) {
        set_threads(1);
    }
    if (find(library, prefix, "openblas_get_config", &tell)) {
        blas->version = tell();
    }
    if (find(library, prefix, "openblas_get_corename", &tell)) {
        blas->kernels = tell();
    }
}

/* The path that the loader found it under, else the name. */
static const char *file_of(const struct fff_blas *blas, const char *name) {
    Dl_info info;
    void *address;
    memcpy(&address, &blas->sgemm, sizeof address);
    return dladdr(address, &info) != 0 && info.dli_fname != NULL ? info.dli_fname : name;
}

/* A path may lead to something that would be waited for; a name alone is looked up by the loader. */
static bool may_be_library(const char *name) {
    struct stat status;
    return strchr(name, '/') == NULL || stat(name, &status) != 0 || S_ISREG(status.st_mode);
}

/* Whether the library of that name will do; else why not. */
static bool open_library(const char *name, char why[LONGEST_REASON]) {
    void *library = may_be_library(name) ? dlopen(name, RTLD_NOW | RTLD_LOCAL) : NULL;
    if (library == NULL) {
        const char *reason = may_be_library(name) ? dlerror() : NULL;
        snprintf(why, LONGEST_REASON, "%s", reason != NULL ? reason : "it is not a file");
        return false;
    }
    struct fff_blas blas = {.file = NULL};
    const char *wanting = NULL;
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        const char *absent = find_functions(library, prefixes[i], &blas);
        if (absent == NULL) {
            hold_and_ask(library, prefixes[i], &blas);
            wanting = NULL;
            break;
        }
        wanting = wanting == NULL ? absent : wanting;
    }
    if (wanting != NULL) {
        snprintf(why, LONGEST_REASON, "%s has no function %s", name, wanting);
        (void)dlclose(library);
        return false;
    }
    if (blas.version != NULL && strstr(blas.version, "USE64BITINT") != NULL) {
        snprintf(why, LONGEST_REASON, "%s counts in 64-bit integers, where 32-bit ones are wanted", name);
        return false; /* not closed: its threads may run */
    }
    blas.file = file_of(&blas, name);
    loaded = blas;
    return true;
}

static void load(void) {
    const char *named = getenv("FFF_BLAS");
    char why[LONGEST_REASON] = "", other[LONGEST_REASON] = "";
    /* Read while the library is loaded: threads that are never wanted are not started. An emulator may hang in them. */
    (void)setenv("OPENBLAS_NUM_THREADS", "1", 1);
    (void)setenv("MKL_THREADING_LAYER", "SEQUENTIAL", 1);
    if (named != NULL && *named != '\0') {
        if (!open_library(named, why)) {
            snprintf(failure, sizeof failure, "FFF_BLAS names no CBLAS that can be used: %s", why);
        }
        return;
    }
    for (size_t i = 0; i < sizeof usual_names / sizeof *usual_names; i++) {
        if (open_library(usual_names[i], i == 0 ? why : other)) {
            return;
        }
    }
    /* The likeliest one tells best what is wrong. */
    snprintf(failure, sizeof failure, "no CBLAS is found (install OpenBLAS, or name a library by FFF_BLAS): %s", why);
}

const struct fff_blas *fff_blas_load(char *error, size_t error_size) {
    (void)pthread_once(&once, load);
    if (failure[0] != '\0') {
        snprintf(error, error_size, "%s", failure);
        return NULL;
    }
    return &loaded;
}

const struct fff_blas *fff_blas(void) {
    return &loaded;
}
