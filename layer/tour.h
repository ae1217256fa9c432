/* In which order the backward pass goes from row to row. */
#ifndef FFF_TOUR_H
#define FFF_TOUR_H

#include "layer/visits.h"

/* Tokens that have met a row, one after another in the sorted entries. */
struct fff_meeting {
    size_t row;       /* of those that were met */
    size_t at, count; /* entries */
};

/* What is done with the rows that some tokens have met, and by what that is bound. A tour is told of each row once,
 * with all of these tokens, or several times, with some of them each time, in their order; of no row without one. */
struct fff_tour {
    const struct fff_part *part;
    const struct fff_visits *visits;
    size_t first_token, end_token;
    size_t first_row, row_step; /* of those that were met, one in so many */
    size_t token_bytes;         /* that each of a row's tokens has read */
    bool writes;                /* what belongs to a row is read and written, not read alone */
    void (*visit)(const struct fff_tour *tour, const struct fff_meeting *meeting);
    void (*fetch)(const struct fff_tour *tour, size_t row); /* into L2, which is the next; or NULL */
    void *context;                                          /* of these two */
};

void fff_run_tour(const struct fff_tour *tour);

#endif
