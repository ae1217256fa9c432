/* A description of a layer that may be wrong, and what the header says about it. */
#ifndef FFF_TESTS_FUZZ_DESCRIPTION_H
#define FFF_TESTS_FUZZ_DESCRIPTION_H

#include "tests/fuzz/arena.h"

#include <fff/fff.h>

enum { DESCRIBED_TAIL = 64, LARGEST_DESC = 4096 /* of any version */ };

/* A part's description, and what a later version of the library might have behind it. */
struct described {
    fff_layer_desc desc;
    unsigned char tail[DESCRIBED_TAIL];
};

/* Any description, of the first part or of one that is to go with it. Its bad_weight, allocator and next are NULL. */
void choose_part(struct choices *choices, const fff_layer_desc *first, struct described *described);

enum expectation {
    ALLOWED,
    REFUSED,
    BY_WEIGHTS, /* allowed, unless some of the weights or their scales do not fit their types */
    A_LIE,      /* some of what is described is not there, and may be read: not to be tried */
};

/* Of `count` parts, each linked to the next. */
enum expectation expect(const struct described *parts, size_t count);

#endif
