/* Random layers with all that a description can ask for, which several tests hold against the definition. */
#ifndef FFF_TESTS_SUBJECT_H
#define FFF_TESTS_SUBJECT_H

#include "tests/support.h"

enum { MOST_PARTS = 4, FEW = 70, MANY = 400 /* that all tasks walk together, where a tree is large */ };

struct subject {
    size_t parts, path;
    fff_layer_desc desc[MOST_PARTS];
    float factors[MOST_PARTS];
    void *owned[MOST_PARTS * 8 + 2];
    size_t owned_count;
    size_t tokens;
    float *input;
};

/* Of such widths, filled with one kind of numbers; and what it owns. */
struct subject make_subject(enum fill kind, size_t in, size_t out, uint64_t *state);
void free_subject(struct subject *s);

/* The parts' list, once the subject is where it stays. */
void link_parts(struct subject *s);

/* Some more numbers, which the subject owns. */
float *random_floats(struct subject *s, enum fill kind, size_t count, uint64_t *state);

/* The sizes of a part's matrices, in rows: of nodes, and of leaves' neurons. */
void count_rows(const fff_layer_desc *desc, size_t *nodes, size_t *neurons);

#endif
