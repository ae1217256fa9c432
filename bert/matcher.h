/* Finds patterns in text, all of them at once, in time linear in the text: for each position the longest pattern that
 * begins there. Aho and Corasick's automaton ("Efficient string matching", CACM 18(6), 1975) over reversed patterns,
 * which reads the text from its end. */
#ifndef FFF_BERT_MATCHER_H
#define FFF_BERT_MATCHER_H

#include "bert/text.h"

enum { FFF_NO_PATTERN = -1 };

/* `value` is the caller's: an id. */
struct fff_pattern {
    const int32_t *points;
    size_t count; /* at least 1 */
    int32_t value;
};

struct fff_matcher {
    struct fff_pattern *patterns; /* their points are gone once it is made */
    size_t pattern_count;
    size_t twin; /* a pattern that is equal to the one before it, or 0 */
    /* A node a distinct end of a pattern; 0 is the empty one. Children have successive numbers, by their point. */
    uint32_t *first_child; /* node_count + 1 */
    uint32_t *shorter;     /* the longest proper beginning that is a node, too: failure links */
    int32_t *point;
    int32_t *longest; /* pattern that the node begins with, or FFF_NO_PATTERN */
    size_t node_count;
};

/* Takes `patterns`, of malloc(), over whatever it returns. Of equal patterns one is found. False when out of memory. */
bool fff_matcher_create(struct fff_matcher *matcher, struct fff_pattern *patterns, size_t count);
void fff_matcher_free(struct fff_matcher *matcher);

/* found[i] is the index of the longest pattern that begins at points[i] and ends within `count`, or FFF_NO_PATTERN. */
void fff_matcher_run(const struct fff_matcher *matcher, const int32_t *points, size_t count, int32_t *found);

#endif
