/* soak [--seconds N] [--cases N] [--seed N] [--line SECONDS]: random layers on every usable instruction set, by every
 * way of calling, forward and backward, in random batches, on threads, planned for caches of random sizes, in random
 * floating-point modes of the caller, against the reference, bit for bit. Runs for as long (60 seconds unless told) or
 * as many cases, or until it is interrupted; ends with 1 if any bit differed. A line tells the state every 60 seconds
 * unless told. Case i of a run has the seed N + i, so `--seed` with the seed of a case that failed and `--cases 1`
 * repeat it. */
#include "layer/plan.h"
#include "tests/soak/mode.h"
#include "tests/soak/run.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- A case ----------------------------------------------------------------------------------------- */

/* As if the machine had another second-level cache, whose size decides in what order rows and tokens are taken. */
static void plan_for_cache(fff_layer *layer, uint64_t *state) {
    if (chance(state, 3)) {
        return;
    }
    size_t bytes = (size_t)1024 << random_below(state, 12);
    for (size_t i = 0; i < layer->part_count; i++) {
        layer->parts[i].l2_bytes = bytes;
        fff_plan_part(&layer->parts[i]);
    }
}

/* The layer of the case for the run's instruction set; NULL if it could not be made. What it borrows changes
 * afterwards.
 */
static fff_layer *create_layer(struct soak_run *run, struct soak_case *of, uint64_t *state) {
    fff_layer *layer = NULL;
    for (size_t i = 0; i < of->part_count; i++) {
        of->desc[i].isa = run->isa;
    }
    run->doing = "fff_layer_create()";
    soak_flip_borrowed(of);
    uint64_t entered = mode_enter(mode_draw(state));
    fff_status status = fff_layer_create(&of->desc[0], &layer);
    soak_leave(run, status, FFF_OK, entered);
    soak_flip_borrowed(of);
    if (layer != NULL) {
        plan_for_cache(layer, state);
    }
    return layer;
}

/* The case under way. */
static struct soak_case of; /* the parts point into it */
static struct soak_run run;

static void try_case(uint64_t seed, bool quick, struct soak_counts *counts) {
    soak_make_case(&of, seed, quick);
    run = (struct soak_run){.of = &of, .seed = seed, .counts = counts, .doing = ""};
    struct soak_forward forward = soak_begin_forward(&of);
    struct soak_backward backward = {0};
    bool begun = false;
    uint64_t state = ~seed;
    for (int isa = 1; isa < FFF_ISA_COUNT; isa++) {
        run.isa = (fff_isa)isa;
        if (fff_isa_usable(run.isa) != FFF_OK) {
            continue;
        }
        fff_layer *layer = create_layer(&run, &of, &state);
        if (layer != NULL) {
            soak_try_forward(&run, &forward, layer, &state);
            if (!begun) {
                backward = soak_begin_backward(&of, &forward, &state);
                begun = true;
            }
            soak_try_given_nodes(&run, &backward, layer, &state);
            soak_try_backward(&run, &backward, layer, &state);
            soak_try_given_rows(&run, layer, &state);
        }
        soak_try_numbers(&run, &state);
        fff_layer_destroy(layer);
        counts->layers++;
    }
    counts->cases++;
    counts->tokens += of.tokens;
    soak_end_forward(&forward);
    soak_end_backward(&backward, &of);
    soak_free_case(&of);
}

/* ---- What is printed ----------------------------------------------------------------------------------- */

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static uint64_t all_evaluations(const struct soak_counts *counts) {
    uint64_t sum = 0;
    for (int pass = 0; pass < SOAK_PASSES; pass++) {
        sum += soak_evaluations(counts, (enum soak_pass)pass);
    }
    return sum;
}

static void print_line(const struct soak_counts *counts, double seconds) {
    uint64_t evaluations = all_evaluations(counts);
    printf("%.0f s, CPU %.0f s: %llu layers, %llu layer evaluations (%llu of them backward), %llu values, "
           "%llu differing bits, %llu other failures\n",
           seconds, (double)clock() / CLOCKS_PER_SEC, (unsigned long long)counts->layers,
           (unsigned long long)evaluations, (unsigned long long)soak_evaluations(counts, SOAK_BACKWARD),
           (unsigned long long)counts->values, (unsigned long long)counts->differing_bits,
           (unsigned long long)counts->other_failures);
    fflush(stdout);
}

static void print_summary(const struct soak_counts *counts) {
    static const char *const PASSES[SOAK_PASSES] = {"forward", "backward", "given rows"};
    printf("%llu cases, %llu tokens; layer evaluations:\n", (unsigned long long)counts->cases,
           (unsigned long long)counts->tokens);
    for (int pass = 0; pass < SOAK_PASSES; pass++) {
        printf("  %s:", PASSES[pass]);
        for (int isa = 1; isa < FFF_ISA_COUNT; isa++) {
            if (fff_isa_usable((fff_isa)isa) == FFF_OK) {
                printf(" %s %llu", fff_isa_name((fff_isa)isa), (unsigned long long)counts->evaluations[pass][isa]);
            }
        }
        printf("\n");
    }
    printf("logits of exact routes so near their bound that docs/numerics.md leaves open which of two it is: %llu\n",
           (unsigned long long)counts->open);
}

/* ---- The program ------------------------------------------------------------------------------------- */

static volatile sig_atomic_t interrupted;

static void interrupt(int signal_number) {
    (void)signal_number;
    interrupted = 1;
}

/* Where a case ends the program it is said which one, and in which function. */
static char case_words[64];

static void say(const char *words) {
    ssize_t written = write(STDOUT_FILENO, words, strlen(words));
    (void)written;
}

static void say_last_words(int signal_number) {
    say("soak: a fault in ");
    say(run.doing);
    say(case_words);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

struct options {
    double seconds, line;
    uint64_t cases, seed;
};

/* False if an argument is none of those that there are. */
static bool read_options(int count, char **arguments, struct options *options) {
    for (int i = 1; i < count; i += 2) {
        char *end = NULL;
        double *seconds = strcmp(arguments[i], "--seconds") == 0 ? &options->seconds
                          : strcmp(arguments[i], "--line") == 0  ? &options->line
                                                                 : NULL;
        if (i + 1 == count) {
            return false;
        }
        errno = 0;
        if (seconds != NULL) {
            *seconds = strtod(arguments[i + 1], &end);
        } else if (strcmp(arguments[i], "--cases") == 0) {
            options->cases = strtoull(arguments[i + 1], &end, 10);
        } else if (strcmp(arguments[i], "--seed") == 0) {
            options->seed = strtoull(arguments[i + 1], &end, 10);
        } else {
            return false;
        }
        if (errno != 0 || end == arguments[i + 1] || *end != '\0' || (seconds != NULL && !isfinite(*seconds))) {
            return false;
        }
    }
    return true;
}

/* That of all tests of a run, or the clock: far enough from the next second's that cases do not repeat. */
static uint64_t usual_seed(void) {
    const char *given = getenv("FFF_TEST_SEED");
    return (given != NULL ? strtoull(given, NULL, 0) : (uint64_t)time(NULL)) * 1000000;
}

int main(int count, char **arguments) {
    struct options options = {.seconds = INFINITY, .line = 60.0, .cases = UINT64_MAX, .seed = usual_seed()};
    if (!read_options(count, arguments, &options)) {
        fputs("usage: soak [--seconds N] [--cases N] [--seed N] [--line SECONDS]\n", stderr);
        return 2;
    }
    if (isinf(options.seconds) && options.cases == UINT64_MAX) {
        options.seconds = 60.0;
    }
    signal(SIGINT, interrupt);
    signal(SIGTERM, interrupt);
    if (!FFF_UNDER_ASAN) { /* which says more */
        signal(SIGSEGV, say_last_words);
        signal(SIGABRT, say_last_words);
        signal(SIGFPE, say_last_words);
    }
    printf("soak: --seed %llu repeats this run\n", (unsigned long long)options.seed);
    fflush(stdout);
    const bool quick = getenv("FFF_TEST_SHORT") != NULL; /* as for all tests, under emulators */
    struct soak_counts counts = {0};
    double start = now(), said = start;
    do {
        snprintf(case_words, sizeof case_words, "; repeat with --seed %llu --cases 1\n",
                 (unsigned long long)(options.seed + counts.cases));
        try_case(options.seed + counts.cases, quick, &counts);
        if (now() - said >= options.line) {
            said = now();
            print_line(&counts, said - start);
        }
    } while (!interrupted && counts.cases < options.cases && now() - start < options.seconds);
    print_line(&counts, now() - start);
    print_summary(&counts);
    return counts.differing_bits > 0 || counts.other_failures > 0;
}
