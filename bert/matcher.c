#include "bert/matcher.h"

#include <stdlib.h>

/* ---- Order ----------------------------------------------------------------------------------- */

/* The point at `depth`, counted from the pattern's end. */
static int32_t from_end(const struct fff_pattern *pattern, size_t depth) {
    return pattern->points[pattern->count - 1 - depth];
}

static size_t common_end(const struct fff_pattern *a, const struct fff_pattern *b) {
    size_t shorter = a->count < b->count ? a->count : b->count, depth = 0;
    while (depth < shorter && from_end(a, depth) == from_end(b, depth)) {
        depth++;
    }
    return depth;
}

/* As reversed texts; a text stands before what it begins. */
static int by_reversed_points(const void *left, const void *right) {
    const struct fff_pattern *a = left, *b = right;
    size_t depth = common_end(a, b);
    if (depth < a->count && depth < b->count) {
        return from_end(a, depth) < from_end(b, depth) ? -1 : 1;
    }
    return (a->count > b->count) - (a->count < b->count);
}

/* ---- The automaton --------------------------------------------------------------------------- */

/* The child of `node` with that point, or 0: the root is nobody's child. */
static uint32_t child_of(const struct fff_matcher *matcher, uint32_t node, int32_t point) {
    uint32_t low = matcher->first_child[node], high = matcher->first_child[node + 1];
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (matcher->point[middle] < point) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < matcher->first_child[node + 1] && matcher->point[low] == point ? low : 0;
}

static uint32_t step(const struct fff_matcher *matcher, uint32_t node, int32_t point) {
    uint32_t child = child_of(matcher, node, point);
    while (child == 0 && node != 0) {
        node = matcher->shorter[node];
        child = child_of(matcher, node, point);
    }
    return child;
}

static bool reserve(struct fff_matcher *matcher) {
    size_t nodes = 1;
    for (size_t i = 0; i < matcher->pattern_count; i++) {
        const struct fff_pattern *pattern = &matcher->patterns[i];
        size_t common = i > 0 ? common_end(pattern - 1, pattern) : 0;
        nodes += pattern->count - common;
        matcher->twin = common == pattern->count ? i : matcher->twin;
    }
    if (nodes >= INT32_MAX) {
        return false;
    }
    matcher->node_count = nodes;
    matcher->first_child = calloc(nodes + 1, sizeof *matcher->first_child);
    matcher->shorter = calloc(nodes, sizeof *matcher->shorter);
    matcher->point = calloc(nodes, sizeof *matcher->point);
    matcher->longest = calloc(nodes, sizeof *matcher->longest);
    return matcher->first_child != NULL && matcher->shorter != NULL && matcher->point != NULL &&
           matcher->longest != NULL;
}

/* Nodes level by level. ranges[2 * node] and the next are where those of the sorted patterns begin and end that end as
 * the node says. */
static void build(struct fff_matcher *matcher, uint32_t *ranges) {
    const struct fff_pattern *patterns = matcher->patterns;
    uint32_t next = 1;
    size_t depth = 0;
    for (uint32_t node = 0, level_end = 1; node < matcher->node_count; node++) {
        if (node == level_end) {
            depth++;
            level_end = next;
        }
        matcher->first_child[node] = next;
        matcher->first_child[node + 1] = next;
        matcher->longest[node] = node > 0 ? matcher->longest[matcher->shorter[node]] : FFF_NO_PATTERN;
        uint32_t shorter = matcher->shorter[node];
        for (size_t i = ranges[2 * (size_t)node]; i < ranges[2 * (size_t)node + 1]; i++) {
            if (patterns[i].count == depth) {
                matcher->longest[node] = (int32_t)i;
                continue;
            }
            int32_t point = from_end(&patterns[i], depth);
            if (next == matcher->first_child[node] || matcher->point[next - 1] != point) {
                matcher->point[next] = point;
                matcher->shorter[next] = node > 0 ? step(matcher, shorter, point) : 0;
                ranges[2 * (size_t)next] = (uint32_t)i;
                next++;
            }
            ranges[2 * (size_t)(next - 1) + 1] = (uint32_t)i + 1;
        }
        matcher->first_child[node + 1] = next;
    }
}

bool fff_matcher_create(struct fff_matcher *matcher, struct fff_pattern *patterns, size_t count) {
    *matcher = (struct fff_matcher){.patterns = patterns, .pattern_count = count};
    if (count > 0) {
        qsort(patterns, count, sizeof *patterns, by_reversed_points);
    }
    uint32_t *ranges = reserve(matcher) ? calloc(matcher->node_count, 2 * sizeof *ranges) : NULL;
    if (ranges == NULL || count >= INT32_MAX) {
        free(ranges);
        fff_matcher_free(matcher);
        return false;
    }
    ranges[1] = (uint32_t)count;
    build(matcher, ranges);
    free(ranges);
    for (size_t i = 0; i < count; i++) {
        patterns[i].points = NULL;
    }
    return true;
}

void fff_matcher_free(struct fff_matcher *matcher) {
    free(matcher->patterns);
    free(matcher->first_child);
    free(matcher->shorter);
    free(matcher->point);
    free(matcher->longest);
    *matcher = (struct fff_matcher){0};
}

void fff_matcher_run(const struct fff_matcher *matcher, const int32_t *points, size_t count, int32_t *found) {
    uint32_t node = 0;
    for (size_t i = count; i-- > 0;) {
        node = step(matcher, node, points[i]);
        found[i] = matcher->longest[node];
    }
}
