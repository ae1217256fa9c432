/* Runners that do what they should, in any way, and runners that do not: each call notices, and nothing is corrupted.
 */
#include "layer/plan.h"
#include "tests/support.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { IN = 17, OUT = 9, MOST_TASKS = 5, BATCH = 100, PARTS = 3 };

/* ---- A layer, its input, and what comes of it without a runner ------------------------------- */

enum function { FORWARD, ROUTE, ACCUMULATE, FUNCTIONS };

struct results {
    float *output, *logits;
    uint32_t *nodes;
};

struct subject {
    fff_layer *layer;
    size_t path;
    float *input;
    struct results expected, actual;
    void *workspace;
    size_t workspace_size;
};

static struct results make_results(size_t path) {
    return (struct results){
        .output = test_allocate(BATCH * OUT, sizeof(float)),
        .logits = test_allocate(BATCH * path, sizeof(float)),
        .nodes = test_allocate(BATCH * path, sizeof(uint32_t)),
    };
}

static void free_results(struct results *results) {
    free(results->output);
    free(results->logits);
    free(results->nodes);
}

/* Accumulation is always given what is expected of routing. */
static fff_status call(const struct subject *s, enum function function, const struct results *to,
                       const fff_runner *runner) {
    const struct results *from = &s->expected;
    switch (function) {
    case FORWARD:
        return fff_forward(s->layer, BATCH, s->input, IN, to->output, OUT, s->workspace, s->workspace_size, runner);
    case ROUTE:
        return fff_route(s->layer, BATCH, s->input, IN, to->nodes, s->path, to->logits, s->path, s->workspace,
                         s->workspace_size, runner);
    case ACCUMULATE:
        return fff_accumulate(s->layer, BATCH, from->nodes, s->path, from->logits, s->path, to->output, OUT,
                              s->workspace, s->workspace_size, runner);
    case FUNCTIONS: break;
    }
    return FFF_ERROR_OPTION;
}

/* The trees of a layer; or of its second part, if it has small ones before and behind. */
struct shape {
    size_t depth, trees;
    bool amid;
};

/* Planned for a small cache, so that large trees are walked together, in two rounds each. */
static struct subject make_subject(struct shape shape, uint64_t *state) {
    size_t rows = shape.trees * fff_nodes_per_tree(shape.depth);
    float *in = test_allocate(rows * IN, sizeof(float)), *out = test_allocate(rows * OUT, sizeof(float));
    fill_floats(FILL_NORMAL, in, rows * IN, state);
    fill_floats(FILL_NORMAL, out, rows * OUT, state);
    fff_layer_desc descs[PARTS];
    for (size_t i = 0; i < PARTS; i++) {
        descs[i] = (fff_layer_desc){
            .struct_size = sizeof *descs,
            .input_width = IN,
            .output_width = OUT,
            .depth = i == 1 ? shape.depth : 1,
            .trees = i == 1 ? shape.trees : 1,
            .input_weights = {in, IN, 1},
            .output_weights = {out, OUT, 1},
            .next = shape.amid && i + 1 < PARTS ? &descs[i + 1] : NULL,
        };
    }
    fff_layer *layer = test_create_layer(&descs[shape.amid ? 0 : 1], FFF_ISA_GENERIC);
    size_t path = fff_layer_path_length(layer);
    struct subject s = {
        .layer = layer,
        .path = path,
        .input = test_allocate(BATCH * IN, sizeof(float)),
        .expected = make_results(path),
        .actual = make_results(path),
    };
    for (size_t i = 0; i < layer->part_count; i++) {
        layer->parts[i].l2_bytes = 4 << 10;
        fff_plan_part(&layer->parts[i]);
    }
    assert_int_equal(fff_workspace_size(s.layer, BATCH, MOST_TASKS, &s.workspace_size), FFF_OK);
    s.workspace = test_allocate(s.workspace_size, 1);
    memset(s.workspace, 0xff, s.workspace_size);
    fill_floats(FILL_NORMAL, s.input, BATCH * IN, state);
    assert_int_equal(call(&s, ROUTE, &s.expected, NULL), FFF_OK);
    assert_int_equal(call(&s, FORWARD, &s.expected, NULL), FFF_OK);
    free(in);
    free(out);
    return s;
}

static void free_subject(struct subject *s) {
    fff_layer_destroy(s->layer);
    free(s->input);
    free_results(&s->expected);
    free_results(&s->actual);
    free(s->workspace);
}

static void forget(struct subject *s) {
    memset(s->actual.output, 0x5a, BATCH * OUT * sizeof(float));
    memset(s->actual.logits, 0x5a, BATCH * s->path * sizeof(float));
    memset(s->actual.nodes, 0x5a, BATCH * s->path * sizeof(uint32_t));
}

static void expect_right(const struct subject *s, enum function function) {
    if (function == ROUTE) {
        assert_memory_equal(s->actual.nodes, s->expected.nodes, BATCH * s->path * sizeof(uint32_t));
        assert_same_floats(s->actual.logits, s->expected.logits, BATCH * s->path, "logits");
    } else {
        assert_same_floats(s->actual.output, s->expected.output, BATCH * OUT, "output");
    }
}

/* ---- Runners --------------------------------------------------------------------------------- */

typedef void task_function(void *argument, size_t index);

enum habit {
    /* as they should be */
    IN_ORDER,
    REVERSED,
    ON_THREADS,
    RIGHT_HABITS,
    /* as they should not */
    NONE = RIGHT_HABITS,
    WITHOUT_FIRST,
    WITHOUT_LAST,
    ONE_TWICE,                /* and every other once */
    ONE_IN_PLACE_OF_ANOTHER,  /* as many calls as there should be */
    FIRST_ONLY_AS_OFTEN,      /* likewise */
    ONE_256_TIMES_MORE,       /* a count of 8 bits would come round */
    ONE_BEYOND,               /* index `count` as well */
    FAR_BEYOND,               /* index SIZE_MAX as well */
    BEYOND_IN_PLACE_OF_FIRST, /* as many calls as there should be */
    EACH_TWICE_ON_THREADS,    /* at the same time */
    HABITS
};

/* Does as `habit` says in round `when`, and in all others as it should. */
struct unreliable {
    enum habit habit;
    size_t when, rounds;
    task_function *task; /* of the last round, for those who come late */
    void *argument;
    size_t count;
};

struct pair {
    task_function *task;
    void *argument;
};

static void run_one_of_pair(void *given, size_t index) {
    const struct pair *pair = given;
    pair->task(pair->argument, index / 2);
}

static void run_range(size_t first, size_t end, task_function *task, void *argument) {
    for (size_t i = first; i < end; i++) {
        task(argument, i);
    }
}

static void run_badly(enum habit habit, size_t count, task_function *task, void *argument) {
    struct pair pair = {task, argument};
    switch (habit) {
    case WITHOUT_FIRST: run_range(1, count, task, argument); break;
    case WITHOUT_LAST: run_range(0, count - 1, task, argument); break;
    case ONE_TWICE:
        run_range(0, count, task, argument);
        task(argument, count / 2);
        break;
    case ONE_IN_PLACE_OF_ANOTHER:
        run_range(0, count - 1, task, argument);
        task(argument, 0);
        break;
    case FIRST_ONLY_AS_OFTEN:
        for (size_t i = 0; i < count; i++) {
            task(argument, 0);
        }
        break;
    case ONE_256_TIMES_MORE:
        run_range(0, count, task, argument);
        for (int i = 0; i < 256; i++) {
            task(argument, 0);
        }
        break;
    case ONE_BEYOND: run_range(0, count + 1, task, argument); break;
    case FAR_BEYOND:
        run_range(0, count, task, argument);
        task(argument, SIZE_MAX);
        break;
    case BEYOND_IN_PLACE_OF_FIRST: run_range(1, count + 1, task, argument); break;
    case EACH_TWICE_ON_THREADS: test_run_on_threads(NULL, 2 * count, run_one_of_pair, &pair); break;
    default: break; /* NONE */
    }
}

static void run(void *context, size_t count, task_function *task, void *argument) {
    struct unreliable *self = context;
    self->task = task;
    self->argument = argument;
    self->count = count;
    bool now = self->rounds++ == self->when;
    if (now && self->habit >= RIGHT_HABITS) {
        run_badly(self->habit, count, task, argument);
    } else if (self->habit == ON_THREADS) {
        test_run_on_threads(NULL, count, task, argument);
    } else {
        for (size_t i = 0; i < count; i++) {
            task(argument, self->habit == REVERSED ? count - 1 - i : i);
        }
    }
}

/* ---- Tests ----------------------------------------------------------------------------------- */

/* How many rounds a call takes: two for each tree that all tasks walk down together. */
static size_t rounds_of(struct subject *s, enum function function, size_t tasks) {
    struct unreliable right = {.habit = IN_ORDER};
    const fff_runner runner = {run, &right, tasks};
    assert_int_equal(call(s, function, &s->actual, &runner), FFF_OK);
    return right.rounds;
}

static void check_right_habit(struct subject *s, enum function function, size_t tasks, enum habit habit) {
    struct unreliable right = {.habit = habit};
    const fff_runner runner = {run, &right, tasks};
    forget(s);
    assert_int_equal(call(s, function, &s->actual, &runner), FFF_OK);
    expect_right(s, function);
    assert_int_equal(right.count, tasks);
}

static void check_right_habits(struct subject *s, enum function function, size_t tasks) {
    for (int habit = 0; habit < RIGHT_HABITS; habit++) {
        check_right_habit(s, function, tasks, (enum habit)habit);
    }
}

/* Every bad habit in every round: noticed there, no round after it; and the workspace serves again. */
static void check_bad_habits(struct subject *s, enum function function, size_t tasks) {
    size_t rounds = rounds_of(s, function, tasks);
    for (int habit = RIGHT_HABITS; habit < HABITS; habit++) {
        for (size_t when = 0; when < rounds; when++) {
            struct unreliable bad = {.habit = (enum habit)habit, .when = when};
            const fff_runner runner = {run, &bad, tasks};
            fff_status status = call(s, function, &s->actual, &runner);
            if (status != FFF_ERROR_RUNNER || bad.rounds != when + 1) {
                fail_msg("habit %d in round %zu of %zu: '%s' after %zu", habit, when, rounds, fff_status_text(status),
                         bad.rounds);
            }
        }
        check_right_habit(s, function, tasks, IN_ORDER);
    }
}

static void for_functions(void (*check)(struct subject *, enum function, size_t), const char *name) {
    uint64_t state = test_random(name);
    const struct shape shapes[] = {{3, 1, false}, {6, 1, false}, {6, 3, false}, {0, 40, false}, {6, 1, true}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct subject s = make_subject(shapes[i], &state);
        for (int function = 0; function < FUNCTIONS; function++) {
            for (size_t tasks = 2; tasks <= MOST_TASKS; tasks += getenv("FFF_TEST_SHORT") != NULL ? 3 : 1) {
                check(&s, (enum function)function, tasks);
            }
        }
        free_subject(&s);
    }
}

static void test_right_habits(void **unused) {
    (void)unused;
    for_functions(check_right_habits, "right habits");
}

static void test_bad_habits(void **unused) {
    (void)unused;
    for_functions(check_bad_habits, "bad habits");
}

/* Both ways of sharing work are among those tried. */
static void test_rounds(void **unused) {
    (void)unused;
    uint64_t state = test_random("rounds");
    struct subject own = make_subject((struct shape){0, 40, false}, &state);
    struct subject together = make_subject((struct shape){6, 3, false}, &state);
    struct subject amid = make_subject((struct shape){6, 3, true}, &state);
    assert_int_equal(rounds_of(&own, FORWARD, 2), 1);
    assert_int_equal(rounds_of(&together, FORWARD, 2), 2 * 3);
    assert_int_equal(rounds_of(&together, ROUTE, 2), 2 * 3);
    assert_int_equal(rounds_of(&amid, FORWARD, 2), 1 + 2 * 3 + 1);
    assert_int_equal(rounds_of(&amid, ACCUMULATE, 2), 1);
    free_subject(&own);
    free_subject(&together);
    free_subject(&amid);
}

/* Tasks that are called when the call has returned do nothing, whether they had run or not. */
static void check_late_calls(struct subject *s, enum function function, size_t tasks) {
    const enum habit habits[] = {IN_ORDER, NONE, WITHOUT_FIRST, WITHOUT_LAST};
    struct results before = make_results(s->path);
    for (size_t i = 0; i < sizeof habits / sizeof *habits; i++) {
        struct unreliable late = {.habit = habits[i]};
        const fff_runner runner = {run, &late, tasks};
        forget(s);
        assert_int_equal(call(s, function, &s->actual, &runner), habits[i] == IN_ORDER ? FFF_OK : FFF_ERROR_RUNNER);
        memcpy(before.output, s->actual.output, BATCH * OUT * sizeof(float));
        memcpy(before.nodes, s->actual.nodes, BATCH * s->path * sizeof(uint32_t));
        run_range(0, late.count + 1, late.task, late.argument);
        assert_memory_equal(before.output, s->actual.output, BATCH * OUT * sizeof(float));
        assert_memory_equal(before.nodes, s->actual.nodes, BATCH * s->path * sizeof(uint32_t));
    }
    free_results(&before);
}

static void test_late_calls(void **unused) {
    (void)unused;
    for_functions(check_late_calls, "late calls");
}

/* A runner that does not wait for its last task's thread. */
struct impatient {
    pthread_t thread;
    task_function *task;
    void *argument;
    size_t last;
    bool started;
};

static void *run_last(void *given) {
    struct impatient *self = given;
    self->task(self->argument, self->last);
    return NULL;
}

static void run_impatiently(void *context, size_t count, task_function *task, void *argument) {
    struct impatient *self = context;
    if (self->started) {
        run_range(0, count, task, argument);
        return;
    }
    *self = (struct impatient){.task = task, .argument = argument, .last = count - 1, .started = true};
    assert_int_equal(pthread_create(&self->thread, NULL, run_last, self), 0);
    run_range(0, count - 1, task, argument);
}

/* The last task may have ended in time, by chance: then all is well, and the results are this thread's to read. Else
 * it goes on or does not begin; what it uses is all still there. */
static void check_impatient(struct subject *s, enum function function, size_t tasks) {
    struct impatient impatient = {.started = false};
    const fff_runner runner = {run_impatiently, &impatient, tasks};
    fff_status status = call(s, function, &s->actual, &runner);
    if (status == FFF_OK) {
        expect_right(s, function);
    } else {
        assert_int_equal(status, FFF_ERROR_RUNNER);
    }
    pthread_join(impatient.thread, NULL);
    check_right_habit(s, function, tasks, IN_ORDER);
}

static void test_impatient(void **unused) {
    (void)unused;
    for_functions(check_impatient, "impatient");
}

/* A thread that keeps a round's task, and calls it in later rounds. Nothing but the library orders what it reads after
 * what others write since: flags are relaxed. */
struct keeper {
    pthread_t thread;
    task_function *task; /* of the first round, as all that follows */
    void *argument;
    size_t count, rounds;
    size_t when;          /* the round whose tasks it is to run, in place of the runner */
    unsigned patience;    /* or how long it waits, before it calls tasks for ever */
    atomic_bool go, stop; /* what it is told */
    atomic_bool done;     /* what it tells, not relaxed */
};

static void *run_in_place(void *given) {
    struct keeper *self = given;
    while (!atomic_load_explicit(&self->go, memory_order_relaxed)) {
        sched_yield();
    }
    run_range(0, self->count, self->task, self->argument);
    atomic_store(&self->done, true);
    return NULL;
}

static void run_by_keeper(void *context, size_t count, task_function *task, void *argument) {
    struct keeper *self = context;
    if (self->rounds++ == 0) {
        self->task = task;
        self->argument = argument;
        self->count = count;
        assert_int_equal(pthread_create(&self->thread, NULL, run_in_place, self), 0);
    }
    if (self->rounds - 1 != self->when) {
        run_range(0, count, task, argument);
        return;
    }
    atomic_store_explicit(&self->go, true, memory_order_relaxed);
    while (!atomic_load(&self->done)) {
        sched_yield();
    }
}

/* A call that is left over from one round is one of the round in which it comes. */
static void check_left_over(struct subject *s, enum function function, size_t tasks) {
    size_t rounds = rounds_of(s, function, tasks);
    for (size_t when = 1; when < rounds; when++) {
        struct keeper keeper = {.when = when};
        const fff_runner runner = {run_by_keeper, &keeper, tasks};
        forget(s);
        assert_int_equal(call(s, function, &s->actual, &runner), FFF_OK);
        assert_int_equal(pthread_join(keeper.thread, NULL), 0);
        expect_right(s, function);
    }
}

static void test_left_over(void **unused) {
    (void)unused;
    for_functions(check_left_over, "left over");
}

static void *run_for_ever(void *given) {
    struct keeper *self = given;
    for (unsigned i = 0; i < self->patience; i++) {
        (void)atomic_load_explicit(&self->stop, memory_order_relaxed);
    }
    do { /* also when the call has returned, once at least */
        run_range(0, self->count + 1, self->task, self->argument);
    } while (!atomic_load_explicit(&self->stop, memory_order_relaxed));
    return NULL;
}

static void run_beside_keeper(void *context, size_t count, task_function *task, void *argument) {
    struct keeper *self = context;
    run_range(0, count, task, argument);
    if (self->rounds++ == 0) {
        self->task = task;
        self->argument = argument;
        self->count = count;
        assert_int_equal(pthread_create(&self->thread, NULL, run_for_ever, self), 0);
    }
}

/* At any time, between rounds too: it is noticed, or comes to nothing. */
static void check_for_ever(struct subject *s, enum function function, size_t tasks) {
    for (unsigned patience = 1; patience < (is_short() ? 1 << 8 : 1 << 16); patience *= 2) {
        struct keeper keeper = {.patience = patience};
        const fff_runner runner = {run_beside_keeper, &keeper, tasks};
        forget(s);
        fff_status status = call(s, function, &s->actual, &runner);
        atomic_store_explicit(&keeper.stop, true, memory_order_relaxed);
        assert_int_equal(pthread_join(keeper.thread, NULL), 0);
        if (status == FFF_OK) {
            expect_right(s, function);
        } else {
            assert_int_equal(status, FFF_ERROR_RUNNER);
        }
        check_right_habit(s, function, tasks, IN_ORDER);
    }
}

static void test_for_ever(void **unused) {
    (void)unused;
    for_functions(check_for_ever, "for ever");
}

/* The runner's description may lie where the call writes. */
static void test_runner_in_workspace(void **unused) {
    (void)unused;
    uint64_t state = test_random("runner in workspace");
    struct subject s = make_subject((struct shape){6, 3, false}, &state);
    struct unreliable right = {.habit = IN_ORDER};
    size_t offset = 0;
    for (; offset + sizeof(fff_runner) <= s.workspace_size; offset += 512) {
        fff_runner *runner = (fff_runner *)(void *)((char *)s.workspace + offset);
        *runner = (fff_runner){run, &right, 2};
        forget(&s);
        assert_int_equal(call(&s, FORWARD, &s.actual, runner), FFF_OK);
        expect_right(&s, FORWARD);
    }
    assert_true(offset > 0);
    free_subject(&s);
}

/* With one task there is no need of a runner. */
static void test_single_task(void **unused) {
    (void)unused;
    uint64_t state = test_random("single task");
    struct subject s = make_subject((struct shape){6, 1, false}, &state);
    for (size_t concurrency = 0; concurrency < 2; concurrency++) {
        struct unreliable none = {.habit = NONE};
        const fff_runner runner = {run, &none, concurrency};
        forget(&s);
        assert_int_equal(call(&s, FORWARD, &s.actual, &runner), FFF_OK);
        expect_right(&s, FORWARD);
        assert_int_equal(none.rounds, 0);
    }
    free_subject(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rounds),
        cmocka_unit_test(test_right_habits),
        cmocka_unit_test(test_bad_habits),
        cmocka_unit_test(test_late_calls),
        cmocka_unit_test(test_impatient),
        cmocka_unit_test(test_left_over),
        cmocka_unit_test(test_for_ever),
        cmocka_unit_test(test_single_task),
        cmocka_unit_test(test_runner_in_workspace),
    };
    test_start("test_runner");
    return cmocka_run_group_tests_name("runner", tests, NULL, NULL);
}
