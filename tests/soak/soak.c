/* soak [--seconds N] [--cases N] [--seed N]: random layers on every usable instruction set, by every way of calling, in
 * random batches, on threads, in random floating-point modes of the caller, against the reference, bit for bit. Runs
 * for as long (60 seconds unless told) or as many cases, or until it is interrupted; ends with 1 if any bit differed.
 * Case i of a run has the seed N + i, so `--seed` with the seed of a case that failed and `--cases 1` repeat it. */
#include <errno.h>
#include <fenv.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined __x86_64__
#include <xmmintrin.h>
#endif

#include "tests/soak/cases.h"
#include "tools/random.h"

/* ---- The caller's floating-point mode ------------------------------------------------------------ */

struct mode {
    int rounding;
    bool flush; /* denormals to zero, both ways */
};

static struct mode random_mode(uint64_t *state) {
    static const int ROUNDINGS[] = {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
    if (random_below(state, 2) == 0) {
        return (struct mode){FE_TONEAREST, false};
    }
    return (struct mode){ROUNDINGS[random_below(state, 4)], random_below(state, 2) == 0};
}

#if defined __x86_64__
enum { FLUSH_BITS = 0x8040, STICKY_BITS = 0x3f };
static uint64_t control_word(void) {
    return _mm_getcsr() & ~(unsigned)STICKY_BITS;
}
static void flush_to_zero(void) {
    _mm_setcsr(_mm_getcsr() | FLUSH_BITS);
}
#elif defined __aarch64__
static uint64_t control_word(void) {
    uint64_t control;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    return control;
}
static void flush_to_zero(void) {
    uint64_t control = control_word() | (uint64_t)1 << 24;
    __asm__ volatile("msr fpcr, %0" : : "r"(control) : "memory");
}
#else
static uint64_t control_word(void) {
    return (uint64_t)fegetround();
}
static void flush_to_zero(void) {
}
#endif

/* Returns what leave_mode() wants. */
static uint64_t enter_mode(struct mode mode) {
    fesetround(mode.rounding);
    if (mode.flush) {
        flush_to_zero();
    }
    return control_word();
}

/* Whether the mode was still the same; then the usual one is back. */
static bool leave_mode(uint64_t entered) {
    bool same = control_word() == entered;
    fesetenv(FE_DFL_ENV);
    return same;
}

/* ---- Runners ------------------------------------------------------------------------------------- */

enum { MOST_TASKS = 8 };

static void run_backwards(void *context, size_t count, void (*task)(void *argument, size_t index), void *argument) {
    (void)context;
    for (size_t i = count; i-- > 0;) {
        task(argument, i);
    }
}

struct thread_task {
    pthread_t thread;
    void (*task)(void *argument, size_t index);
    void *argument;
    size_t index;
};

static void *run_task(void *given) {
    struct thread_task *of = given;
    of->task(of->argument, of->index);
    return NULL;
}

/* A thread a task; a new thread has the floating-point mode of the one that makes it. */
static void run_on_threads(void *context, size_t count, void (*task)(void *argument, size_t index), void *argument) {
    (void)context;
    struct thread_task tasks[MOST_TASKS];
    for (size_t i = 0; i < count; i++) {
        tasks[i] = (struct thread_task){.task = task, .argument = argument, .index = i};
        if (pthread_create(&tasks[i].thread, NULL, run_task, &tasks[i]) != 0) {
            fputs("soak: no thread\n", stderr);
            exit(2);
        }
    }
    for (size_t i = 0; i < count; i++) {
        pthread_join(tasks[i].thread, NULL);
    }
}

/* ---- What is counted ------------------------------------------------------------------------------ */

struct counts {
    uint64_t cases, layers, tokens, values, differing_bits, other_failures, open;
    uint64_t evaluations[FFF_ISA_COUNT]; /* tokens x calls that were compared */
};

static uint64_t all_evaluations(const struct counts *counts) {
    uint64_t sum = 0;
    for (size_t isa = 0; isa < FFF_ISA_COUNT; isa++) {
        sum += counts->evaluations[isa];
    }
    return sum;
}

/* A case under way, and what the reference says of it. */
struct run {
    const struct soak_case *of;
    uint64_t seed;
    struct counts *counts;
    uint32_t *nodes;
    float *logits, *output;
    unsigned reported;
};

enum { MOST_REPORTED = 3 /* differences of one case that are printed */ };

static bool first_reports(struct run *run) {
    if (run->reported == 0) {
        printf("seed %llu: repeat with --seed %llu --cases 1\n", (unsigned long long)run->seed,
               (unsigned long long)run->seed);
        soak_print_case(run->of);
    }
    return run->reported++ < MOST_REPORTED;
}

/* Something other than bits: a status, a byte beside the output, the caller's mode. */
static void fail(struct run *run, fff_isa isa, const char *what) {
    run->counts->other_failures++;
    if (first_reports(run)) {
        printf("  %s: %s\n", fff_isa_name(isa), what);
    }
}

static void expect_ok(struct run *run, fff_isa isa, fff_status status) {
    if (status != FFF_OK) {
        fail(run, isa, fff_status_text(status));
    }
}

static void differ(struct run *run, fff_isa isa, const char *what, size_t token, size_t index, uint32_t bits,
                   double actual, double expected) {
    run->counts->differing_bits += (uint64_t)__builtin_popcount(bits);
    if (first_reports(run)) {
        printf("  %s: %s of token %zu, %zu: %a, should be %a\n", fff_isa_name(isa), what, token, index, actual,
               expected);
    }
}

static void compare_floats(struct run *run, fff_isa isa, const char *what, size_t count, size_t stride,
                           const float *actual, const float *expected) {
    size_t tokens = run->of->tokens;
    for (size_t t = 0; t < tokens; t++, actual += stride, expected += count) {
        if (memcmp(actual, expected, count * sizeof *actual) == 0) {
            continue;
        }
        for (size_t i = 0; i < count; i++) {
            uint32_t a, b;
            memcpy(&a, &actual[i], sizeof a);
            memcpy(&b, &expected[i], sizeof b);
            if (a != b && !(isnan(actual[i]) && isnan(expected[i]))) {
                differ(run, isa, what, t, i, a ^ b, (double)actual[i], (double)expected[i]);
            }
        }
    }
    run->counts->values += tokens * count;
}

static void compare_nodes(struct run *run, fff_isa isa, size_t stride, const uint32_t *actual) {
    const uint32_t *expected = run->nodes;
    size_t tokens = run->of->tokens, path = run->of->path;
    for (size_t t = 0; t < tokens; t++, actual += stride, expected += path) {
        for (size_t i = 0; i < path; i++) {
            if (actual[i] != expected[i]) {
                differ(run, isa, "node", t, i, actual[i] ^ expected[i], (double)actual[i], (double)expected[i]);
            }
        }
    }
    run->counts->values += tokens * path;
}

/* Outputs of 16 bits, rounded once from the float32 ones. */
static void compare_halves(struct run *run, fff_isa isa, fff_weight_type type, size_t stride, const uint16_t *actual) {
    size_t tokens = run->of->tokens, width = run->of->output_width;
    unsigned infinity = type == FFF_WEIGHT_BF16 ? 0x7f80 : 0x7c00;
    for (size_t t = 0; t < tokens; t++, actual += stride) {
        for (size_t i = 0; i < width; i++) {
            float output = run->output[t * width + i];
            uint16_t expected = reference_encode(type, reference_round(type, output));
            bool not_number = (actual[i] & 0x7fffu) > infinity;
            if (isnan(output) ? !not_number : actual[i] != expected) {
                differ(run, isa, "16-bit output", t, i, actual[i] ^ expected, actual[i], expected);
            }
        }
    }
    run->counts->values += tokens * width;
}

/* ---- Memory that a call writes to ---------------------------------------------------------------------- */

enum { CANARY = 0xa5 };

/* Rows with a gap behind each, which nobody may write to. */
struct rows {
    unsigned char *data;
    size_t rows, row_bytes, stride_bytes, stride; /* the last one in elements */
};

static struct rows make_rows(size_t rows, size_t width, size_t size, uint64_t *state) {
    size_t stride = width + random_below(state, 4);
    struct rows made = {.rows = rows, .row_bytes = width * size, .stride_bytes = stride * size, .stride = stride};
    made.data = soak_allocate(rows * stride, size);
    memset(made.data, CANARY, rows * stride * size);
    return made;
}

static void free_rows(struct run *run, fff_isa isa, struct rows *rows) {
    bool whole = true;
    for (size_t row = 0; row < rows->rows; row++) {
        for (size_t i = rows->row_bytes; i < rows->stride_bytes; i++) {
            whole = whole && rows->data[row * rows->stride_bytes + i] == CANARY;
        }
    }
    if (!whole) {
        fail(run, isa, "an element beside the output was written");
    }
    free(rows->data);
}

/* ---- Ways of calling ----------------------------------------------------------------------------------- */

enum way { FORWARD, FORWARD_PATHS, ROUTE_AND_ACCUMULATE, FORWARD_TYPED, WAYS };

/* A call of a layer for all tokens of a case, in batches. */
struct call {
    const fff_layer *layer;
    fff_isa isa;
    enum way way;
    struct mode mode;
    fff_runner runner;
    size_t most; /* tokens a batch */
    fff_weight_type output_type;
    const void *input; /* of the case's type, where the way is FORWARD_TYPED */
    struct rows nodes, logits, output;
    void *workspace;
    size_t workspace_size;
};

static fff_status call_batch(const struct call *call, const struct soak_case *of, size_t first, size_t count) {
    const fff_runner *runner = call->runner.run != NULL ? &call->runner : NULL;
    size_t in = of->input_width;
    const float *input = of->input + first * in;
    void *output = call->output.data + first * call->output.stride_bytes;
    uint32_t *nodes = (uint32_t *)(void *)call->nodes.data + first * call->nodes.stride;
    float *logits = (float *)(void *)call->logits.data + first * call->logits.stride;
    size_t output_stride = call->output.stride, node_stride = call->nodes.stride, logit_stride = call->logits.stride;
    void *workspace = call->workspace;
    size_t size = call->workspace_size;
    switch (call->way) {
    case FORWARD: return fff_forward(call->layer, count, input, in, output, output_stride, workspace, size, runner);
    case FORWARD_PATHS:
        return fff_forward_paths(call->layer, count, input, in, output, output_stride, nodes, node_stride, logits,
                                 logit_stride, workspace, size, runner);
    case ROUTE_AND_ACCUMULATE: {
        fff_status status =
            fff_route(call->layer, count, input, in, nodes, node_stride, logits, logit_stride, workspace, size, runner);
        return status != FFF_OK ? status
                                : fff_accumulate(call->layer, count, nodes, node_stride, logits, logit_stride, output,
                                                 output_stride, workspace, size, runner);
    }
    case FORWARD_TYPED: {
        size_t bytes = of->input_type == FFF_WEIGHT_F32 ? 4 : 2;
        return fff_forward_typed(call->layer, count, of->input_type,
                                 (const unsigned char *)call->input + first * in * bytes, in, call->output_type, output,
                                 output_stride, workspace, size, runner);
    }
    case WAYS: break;
    }
    return FFF_ERROR_OPTION;
}

/* The inputs as 16-bit numbers, which they can be; NULL where they are float32. */
static uint16_t *encode_input(const struct soak_case *of) {
    if (of->input_type == FFF_WEIGHT_F32) {
        return NULL;
    }
    size_t count = of->tokens * of->input_width;
    uint16_t *halves = soak_allocate(count, sizeof *halves);
    for (size_t i = 0; i < count; i++) {
        halves[i] = reference_encode(of->input_type, of->input[i]);
    }
    return halves;
}

static void allocate_call(struct run *run, struct call *call, uint64_t *state) {
    const struct soak_case *of = run->of;
    size_t concurrency = call->runner.run != NULL ? call->runner.concurrency : 1;
    call->nodes = make_rows(of->tokens, of->path, sizeof(uint32_t), state);
    call->logits = make_rows(of->tokens, of->path, sizeof(float), state);
    call->output = make_rows(of->tokens, of->output_width, call->output_type == FFF_WEIGHT_F32 ? 4 : 2, state);
    fff_status status = call->way == FORWARD_TYPED
                            ? fff_workspace_size_typed(call->layer, call->most, concurrency, of->input_type,
                                                       call->output_type, &call->workspace_size)
                            : fff_workspace_size(call->layer, call->most, concurrency, &call->workspace_size);
    expect_ok(run, call->isa, status);
    call->workspace = soak_allocate(call->workspace_size, 1);
}

static void free_call(struct run *run, struct call *call) {
    free(call->workspace);
    free_rows(run, call->isa, &call->nodes);
    free_rows(run, call->isa, &call->logits);
    free_rows(run, call->isa, &call->output);
}

/* In the caller's mode, batch by batch. */
static void make_call(struct run *run, const struct call *call, uint64_t *state) {
    for (size_t first = 0, count; first < run->of->tokens; first += count) {
        size_t left = run->of->tokens - first;
        count = random_below(state, 2) == 0 ? call->most : 1 + random_below(state, call->most);
        count = count < left ? count : left;
        uint64_t entered = enter_mode(call->mode);
        fff_status status = call_batch(call, run->of, first, count);
        if (!leave_mode(entered)) {
            fail(run, call->isa, "the caller's floating-point mode is another one afterwards");
        }
        expect_ok(run, call->isa, status);
    }
}

static void compare_call(struct run *run, const struct call *call) {
    size_t path = run->of->path, width = run->of->output_width;
    if (call->way == FORWARD_PATHS || call->way == ROUTE_AND_ACCUMULATE) {
        compare_nodes(run, call->isa, call->nodes.stride, (const uint32_t *)(const void *)call->nodes.data);
        compare_floats(run, call->isa, "logit", path, call->logits.stride,
                       (const float *)(const void *)call->logits.data, run->logits);
    }
    if (call->output_type == FFF_WEIGHT_F32) {
        compare_floats(run, call->isa, "output", width, call->output.stride,
                       (const float *)(const void *)call->output.data, run->output);
    } else {
        compare_halves(run, call->isa, call->output_type, call->output.stride,
                       (const uint16_t *)(const void *)call->output.data);
    }
    run->counts->evaluations[call->isa] += run->of->tokens;
}

/* What the reference says, given the logits of a first call. */
static void ask_reference(struct run *run, const struct call *call) {
    const struct soak_case *of = run->of;
    float *scratch = soak_allocate(of->input_width, sizeof *scratch);
    for (size_t t = 0; t < of->tokens; t++) {
        reference_token(&of->layer, of->input + t * of->input_width,
                        (const float *)(const void *)call->logits.data + t * call->logits.stride, scratch,
                        run->nodes + t * of->path, run->logits + t * of->path, run->output + t * of->output_width,
                        &run->counts->open);
    }
    free(scratch);
}

static fff_runner random_runner(uint64_t *state) {
    uint64_t choice = random_below(state, 16);
    if (choice < 8) {
        return (fff_runner){.run = NULL};
    }
    return (fff_runner){.run = choice == 15 ? run_on_threads : run_backwards,
                        .concurrency = 1 + random_below(state, choice == 15 ? 4 : MOST_TASKS)};
}

/* One layer, by some ways: of the generic kernels, which take as long as the reference, by fewer. The very first call
 * of a case is one that tells logits. */
static void try_layer(struct run *run, const fff_layer *layer, fff_isa isa, const void *typed_input, uint64_t *state) {
    const struct soak_case *of = run->of;
    size_t calls = isa == FFF_ISA_GENERIC ? 1 + random_below(state, 2) : 3 + random_below(state, 6);
    for (size_t i = 0; i < calls; i++) {
        bool first = run->nodes[0] == UINT32_MAX;
        struct call call = {
            .layer = layer,
            .isa = isa,
            .way = first ? FORWARD_PATHS : (enum way)random_below(state, WAYS),
            .mode = random_mode(state),
            .runner = random_runner(state),
            .most = random_below(state, 3) == 0 ? of->tokens : 1 + random_below(state, of->tokens),
            .input = typed_input,
        };
        if (call.way == FORWARD_TYPED) {
            call.output_type = (fff_weight_type)random_below(state, FFF_WEIGHT_I8);
        }
        allocate_call(run, &call, state);
        make_call(run, &call, state);
        if (first) {
            ask_reference(run, &call);
        }
        compare_call(run, &call);
        free_call(run, &call);
    }
}

static void try_case(uint64_t seed, struct counts *counts) {
    static struct soak_case of; /* the parts point into it */
    soak_make_case(&of, seed);
    struct run run = {
        .of = &of,
        .seed = seed,
        .counts = counts,
        .nodes = soak_allocate(of.tokens * of.path, sizeof(uint32_t)),
        .logits = soak_allocate(of.tokens * of.path, sizeof(float)),
        .output = soak_allocate(of.tokens * of.output_width, sizeof(float)),
    };
    run.nodes[0] = UINT32_MAX; /* the reference has not been asked yet */
    uint64_t state = ~seed;
    uint16_t *halves = encode_input(&of);
    for (int isa = 1; isa < FFF_ISA_COUNT; isa++) {
        if (fff_isa_usable((fff_isa)isa) != FFF_OK) {
            continue;
        }
        fff_layer *layer = NULL;
        for (size_t i = 0; i < of.part_count; i++) {
            of.desc[i].isa = (fff_isa)isa;
        }
        uint64_t entered = enter_mode(random_mode(&state));
        fff_status status = fff_layer_create(&of.desc[0], &layer);
        if (!leave_mode(entered)) {
            fail(&run, (fff_isa)isa, "the caller's floating-point mode is another one after fff_layer_create()");
        }
        expect_ok(&run, (fff_isa)isa, status);
        if (layer != NULL) {
            try_layer(&run, layer, (fff_isa)isa, halves != NULL ? (const void *)halves : (const void *)of.input,
                      &state);
        }
        fff_layer_destroy(layer);
        counts->layers++;
    }
    counts->cases++;
    counts->tokens += of.tokens;
    free(halves);
    free(run.nodes);
    free(run.logits);
    free(run.output);
    soak_free_case(&of);
}

/* ---- The program ------------------------------------------------------------------------------------- */

static volatile sig_atomic_t interrupted;

static void interrupt(int signal_number) {
    (void)signal_number;
    interrupted = 1;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void print_line(const struct counts *counts, double seconds) {
    uint64_t evaluations = all_evaluations(counts);
    printf(
        "%.0f s: %llu layers, %llu tokens, %llu layer evaluations (%.0f a second), %llu values, %llu differing bits, "
        "%llu other failures\n",
        seconds, (unsigned long long)counts->layers, (unsigned long long)counts->tokens,
        (unsigned long long)evaluations, (double)evaluations / seconds, (unsigned long long)counts->values,
        (unsigned long long)counts->differing_bits, (unsigned long long)counts->other_failures);
    fflush(stdout);
}

static void print_summary(const struct counts *counts) {
    printf("%llu cases; layer evaluations by instruction set:", (unsigned long long)counts->cases);
    for (int isa = 1; isa < FFF_ISA_COUNT; isa++) {
        if (counts->evaluations[isa] > 0) {
            printf(" %s %llu", fff_isa_name((fff_isa)isa), (unsigned long long)counts->evaluations[isa]);
        }
    }
    printf("\nlogits of exact routes so near their bound that docs/numerics.md leaves open which of two it is: %llu\n",
           (unsigned long long)counts->open);
}

struct options {
    double seconds;
    uint64_t cases, seed;
};

/* False if an argument is none of those that there are. */
static bool read_options(int count, char **arguments, struct options *options) {
    for (int i = 1; i < count; i += 2) {
        char *end = NULL;
        if (i + 1 == count) {
            return false;
        }
        errno = 0;
        if (strcmp(arguments[i], "--seconds") == 0) {
            options->seconds = strtod(arguments[i + 1], &end);
        } else if (strcmp(arguments[i], "--cases") == 0) {
            options->cases = strtoull(arguments[i + 1], &end, 10);
        } else if (strcmp(arguments[i], "--seed") == 0) {
            options->seed = strtoull(arguments[i + 1], &end, 10);
        } else {
            return false;
        }
        if (errno != 0 || end == arguments[i + 1] || *end != '\0') {
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
    struct options options = {.seconds = INFINITY, .cases = UINT64_MAX, .seed = usual_seed()};
    if (!read_options(count, arguments, &options)) {
        fputs("usage: soak [--seconds N] [--cases N] [--seed N]\n", stderr);
        return 2;
    }
    if (isinf(options.seconds) && options.cases == UINT64_MAX) {
        options.seconds = 60.0;
    }
    signal(SIGINT, interrupt);
    signal(SIGTERM, interrupt);
    printf("soak: --seed %llu repeats this run\n", (unsigned long long)options.seed);
    fflush(stdout);
    struct counts counts = {0};
    double start = now(), said = start;
    do {
        try_case(options.seed + counts.cases, &counts);
        if (now() - said >= 60.0) {
            said = now();
            print_line(&counts, said - start);
        }
    } while (!interrupted && counts.cases < options.cases && now() - start < options.seconds);
    print_line(&counts, now() - start);
    print_summary(&counts);
    return counts.differing_bits > 0 || counts.other_failures > 0;
}
