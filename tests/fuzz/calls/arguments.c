#include "tests/fuzz/calls/calls.h"

#include <stdio.h>
#include <string.h>

size_t choose_near(struct choices *choices, size_t right) {
    return choose(choices, 12) == 1 ? choose_size(choices) : right;
}

static void *choose_place(struct choices *choices, size_t free) {
    enum { NOWHERE, ANYWHERE, NEAR, OVER, KINDS = 24 };
    size_t aligned = (free + 3) / 4 * 4, place = aligned;
    switch (choose(choices, KINDS)) {
    case NOWHERE + 1: return NULL;
    case ANYWHERE + 1: place = choose_two_bytes(choices); break;
    case NEAR + 1: place = free + choose(choices, 64); break;
    case OVER + 1: place = aligned - 4 * choose(choices, 32); break;
    default: break;
    }
    return arena + place % ARENA;
}

static void add(struct call *call, struct matrix m) {
    call->matrices[call->count++] = m;
    if (m.rows == 0 || m.columns == 0) {
        return;
    }
    call->refused = call->refused || !matrix_is_possible(&m);
    if (!call->refused && matrix_is_there(&m)) {
        size_t elements = (m.rows - 1) * m.row_stride + m.columns;
        call->free = (size_t)((const unsigned char *)m.data - arena) + elements * m.element;
    }
}

void *add_rows(struct choices *choices, struct call *call, size_t element, size_t rows, size_t columns, bool written,
               size_t *stride) {
    void *data = choose_place(choices, call->free);
    *stride = choose_near(choices, columns + (choose(choices, 3) == 1 ? choose(choices, 8) : 0));
    call->refused = call->refused || (rows > 0 && *stride < columns);
    add(call, (struct matrix){data, element, rows, *stride, columns, 1, written});
    return data;
}

void *add_list(struct choices *choices, struct call *call, size_t element, size_t count, bool written) {
    void *data = choose_place(choices, call->free);
    add(call, (struct matrix){data, element, 1, count, count, 1, written});
    return data;
}

void *add_workspace(struct choices *choices, struct call *call, fff_status needs, size_t needed, size_t *size) {
    *size = choose_near(choices, needed + choose(choices, 5));
    void *data = choose_place(choices, call->free);
    call->refused = call->refused || needs != FFF_OK || *size < needed || data == NULL;
    add(call, (struct matrix){data, 1, 1, *size, *size, 1, true});
    return data;
}

static void run_tasks(void *context, size_t count, void (*task)(void *argument, size_t index), void *argument) {
    struct conductor *conductor = context;
    for (size_t i = count; i-- > 0;) {
        if (i != 0 || conductor->conduct != LEAVES_ONE_OUT) {
            task(argument, i);
        }
    }
    if (conductor->conduct == RUNS_ONE_TWICE) {
        task(argument, count - 1);
    } else if (conductor->conduct == RUNS_ONE_TOO_MANY) {
        task(argument, count);
    }
    conductor->wrong = conductor->wrong || conductor->conduct != HONEST;
}

const fff_runner *choose_runner(struct choices *choices, struct call *call) {
    call->concurrency = 1;
    if (choose(choices, 4) != 1) {
        return NULL;
    }
    call->conductor.conduct = (enum conduct)(choose(choices, 2) == 0 ? HONEST : choose(choices, CONDUCTS));
    call->runner = (fff_runner){choose(choices, 16) == 1 ? NULL : run_tasks, &call->conductor, choose_size(choices)};
    call->concurrency = call->runner.concurrency;
    call->refused = call->refused || (call->runner.run == NULL && call->concurrency > 1);
    return &call->runner;
}

/* ---- Trying a call ------------------------------------------------------------------------------- */

static unsigned char before[ARENA], marks[ARENA]; /* of the call that is about to be made */

bool is_tried(const struct subject *subject, struct call *call, bool checks_borrowed) {
    bool there = true, lists = true;
    memcpy(before, arena, ARENA);
    memset(marks, 0, ARENA);
    for (size_t i = 0; i < call->count; i++) {
        there = there && matrix_is_there(&call->matrices[i]);
    }
    for (size_t i = 0; i < call->list_count; i++) {
        const struct matrix *list = &call->matrices[call->lists[i]];
        lists = lists && (matrix_is_there(list) || !matrix_is_possible(list));
    }
    bool share = mark_matrices(call->matrices, call->count, marks);
    bool share_borrowed = mark_matrices(subject->borrowed, subject->borrowed_count, marks);
    if (call->refused) {
        return lists;
    }
    call->refused = share || (share_borrowed && checks_borrowed);
    return there && (call->refused || !share_borrowed);
}

static void print(const struct call *call, const char *name) {
    for (size_t i = 0; i < call->count; i++) {
        const struct matrix *m = &call->matrices[i];
        fprintf(stderr, "%s %zu: at %td, %zu x %zu of %zu bytes, %zu apart%s\n", name, i,
                m->data == NULL ? -1 : (const unsigned char *)m->data - arena, m->rows, m->columns, m->element,
                m->row_stride, m->written ? ", written" : "");
    }
}

void check(const struct call *call, const char *name, fff_status status) {
    enum { BLOCK = 256 }; /* of which most have not changed */
    bool refused = call->refused || call->wrong_numbers;
    if (refused ? status == FFF_OK : status != (call->conductor.wrong ? FFF_ERROR_RUNNER : FFF_OK)) {
        print(call, name);
        fuzz_fail(refused ? "should be refused" : "should be allowed", status);
    }
    for (size_t i = 0; i < ARENA; i++) {
        if (i % BLOCK == 0 && memcmp(arena + i, before + i, BLOCK) == 0) {
            i += BLOCK - 1;
            continue;
        }
        bool may = refused ? marks[i] == WORKSPACE : (marks[i] & (WORKSPACE | WRITTEN)) != 0;
        if (arena[i] != before[i] && !may) {
            print(call, name);
            fprintf(stderr, "byte %zu was written\n", i);
            fuzz_fail("that should not be", status);
        }
    }
}
