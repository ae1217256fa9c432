/* What the parts of fuzz_calls.c share: a layer, and a call to one of the functions that compute with it. */
#ifndef FFF_TESTS_FUZZ_CALLS_H
#define FFF_TESTS_FUZZ_CALLS_H

#include "tests/fuzz/arena.h"

#include <fff/fff.h>

enum {
    MOST_PARTS = 2,
    MOST_DEPTH = 3,
    MOST_TREES = 3,
    MOST_LEAF = 3,
    MOST_NEURONS = MOST_TREES * (1 << MOST_DEPTH) * MOST_LEAF, /* of a part */
    MOST_MATRICES = 24,
};

/* A layer that can be made, of small parts. What they borrow begins the arena. */
struct subject {
    fff_layer_desc parts[MOST_PARTS];
    size_t part_count, nodes[MOST_PARTS], neurons[MOST_PARTS], path[MOST_PARTS], whole_path;
    bool float32; /* all rows are stored so */
    fff_layer *layer;
    struct matrix borrowed[MOST_PARTS * 6];
    size_t borrowed_count, free; /* the first byte that is nobody's */
};
void make_subject(struct choices *choices, struct subject *subject);

/* ---- A call's arguments ------------------------------------------------------------------------- */

/* A runner that does all, in reverse; or less, or more. */
enum conduct { HONEST, LEAVES_ONE_OUT, RUNS_ONE_TWICE, RUNS_ONE_TOO_MANY, CONDUCTS };
struct conductor {
    enum conduct conduct;
    bool wrong;
};

/* What is known of a call before it is made; it begins as zeros, but for `free`. */
struct call {
    struct matrix matrices[MOST_MATRICES];    /* of which some may be nothing */
    size_t count, free;                       /* the first byte after the last matrix that was put somewhere */
    bool refused;                             /* for what is known without reading any of it */
    bool wrong_numbers;                       /* for what is read */
    size_t lists[MOST_PARTS + 1], list_count; /* matrices that are read before all else is checked */
    struct conductor conductor;
    fff_runner runner;
    size_t concurrency;
};

/* A size that is right, or any. */
size_t choose_near(struct choices *choices, size_t right);

/* Adds an argument somewhere, mostly where nothing else is, and notes whether it must be refused: a matrix of rows, of
 * which the library is given a stride that must be at least their width; a list; and bytes, enough for a call that
 * needs so many, unless `needs` says that there can be none. */
void *add_rows(struct choices *choices, struct call *call, size_t element, size_t rows, size_t columns, bool written,
               size_t *stride);
void *add_list(struct choices *choices, struct call *call, size_t element, size_t count, bool written);
void *add_workspace(struct choices *choices, struct call *call, fff_status needs, size_t needed, size_t *size);

/* Mostly none. */
const fff_runner *choose_runner(struct choices *choices, struct call *call);

/* Whether a call can be tried at all: all that is described is there, or must be refused before it is read. What is
 * written may not be what the layer borrows, which only fff_backward() checks. */
bool is_tried(const struct subject *subject, struct call *call, bool checks_borrowed);

/* After a call: what it returned, and what it did to the arena. One that fails may have used what is nothing but its
 * workspace. */
void check(const struct call *call, const char *name, fff_status status);

/* ---- Nodes and rows that are read ---------------------------------------------------------------- */

/* All in matrices of 32-bit numbers that are there. */
uint32_t *row_of(const struct matrix *matrix, size_t row);

/* One number of a matrix, now and then, becomes any. */
void spoil(struct choices *choices, const struct matrix *matrix);

/* Paths, one number of them perhaps not. */
void write_nodes(struct choices *choices, const struct subject *subject, const struct matrix *nodes);

/* Whether they are what the header asks for; and of part `wanted`, if `met` is not NULL, which neurons are met. */
bool read_nodes(const struct subject *subject, const struct matrix *nodes, size_t wanted, bool *met);

/* Any rows below a limit, one of them perhaps not. */
void write_rows(struct choices *choices, const struct matrix *rows, size_t limit);
bool rows_are_below(const struct matrix *rows, size_t limit, bool ascending);

/* ---- Calls --------------------------------------------------------------------------------------- */

enum forward_function { FORWARD, ROUTE, FORWARD_PATHS, ACCUMULATE, FORWARD_TYPED, FORWARD_FUNCTIONS };
void call_forward(struct choices *choices, const struct subject *subject, enum forward_function function);
void call_rows(struct choices *choices, const struct subject *subject, bool sum); /* or dot products */
void call_visited(struct choices *choices, const struct subject *subject);
void call_backward(struct choices *choices, const struct subject *subject);
void call_activation(struct choices *choices, const struct subject *subject, bool derivative);
void call_adam(struct choices *choices, const struct subject *subject);

#endif
