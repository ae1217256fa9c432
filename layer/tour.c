/* Tokens are to stay in L2 from row to row, and what belongs to a row is to be read once, if that can be. The upper
 * levels' rows are few, and all tokens meet them: a block of tokens at a time. The lower ones go subtree by subtree, or
 * leaf by leaf, each level by level: there the tokens are the same few all the time. If they are more than a block,
 * routes being skewed, they go block by block as well. Blocks are in the order of tokens, so that no sum depends on
 * them.
 */
#include "layer/tour.h"

#include "layer/size.h"

enum { LEAST_BLOCK = 16 /* tokens */ };

/* ---- Blocks of tokens ------------------------------------------------------------------------- */

/* Tokens that take half of L2. */
static size_t block_of(const struct fff_tour *tour) {
    return fff_max(tour->part->l2_bytes / 2 / fff_max(tour->token_bytes, 1), LEAST_BLOCK);
}

/* In how many blocks so many tokens go. */
static size_t blocks_of(const struct fff_tour *tour, size_t tokens) {
    return tokens == 0 ? 1 : (tokens - 1) / block_of(tour) + 1;
}

/* Of so many of all tokens, those of the tour, if it has its share of them. */
static size_t of_tour(const struct fff_tour *tour, size_t tokens) {
    size_t all = fff_max(tour->visits->token_count, 1);
    return (size_t)(((uint64_t)tokens * (tour->end_token - tour->first_token) + all - 1) / all);
}

/* ---- Rows, one after another ------------------------------------------------------------------ */

/* Some of those that were met; some tokens. */
struct span {
    size_t first, end;
};

/* The first of a row's entries whose token is not below this one. */
static size_t first_entry_of(const struct fff_visits *visits, size_t row, size_t token) {
    size_t first = visits->starts[row], end = visits->starts[row + 1];
    while (first < end) {
        size_t middle = first + (end - first) / 2;
        if (visits->tokens[middle] < token) {
            first = middle + 1;
        } else {
            end = middle;
        }
    }
    return first;
}

/* The first of the tour's rows from `row` on, before `end`, that any of the tokens have met; if there is none, one not
 * before. */
static struct fff_meeting next_meeting(const struct fff_tour *tour, struct span tokens, size_t row, size_t end) {
    const struct fff_visits *visits = tour->visits;
    bool all = tokens.first == 0 && tokens.end == visits->token_count;
    struct fff_meeting meeting = {.row = row};
    for (; meeting.row < end; meeting.row += tour->row_step) {
        meeting.at = all ? visits->starts[meeting.row] : first_entry_of(visits, meeting.row, tokens.first);
        size_t behind = all ? visits->starts[meeting.row + 1] : first_entry_of(visits, meeting.row, tokens.end);
        meeting.count = behind - meeting.at;
        if (meeting.count > 0) {
            break;
        }
    }
    return meeting;
}

static void visit_rows(const struct fff_tour *tour, struct span tokens, struct span rows) {
    size_t step = tour->row_step, first = rows.first + (tour->first_row + step - rows.first % step) % step;
    struct fff_meeting now = next_meeting(tour, tokens, first, rows.end), next;
    for (; now.row < rows.end; now = next) {
        next = next_meeting(tour, tokens, now.row + step, rows.end);
        if (next.row < rows.end && tour->fetch != NULL) {
            tour->fetch(tour, next.row);
        }
        tour->visit(tour, &now);
    }
}

/* Rows that so many of all tokens have met. */
static void visit_group(const struct fff_tour *tour, const struct span *rows, size_t count, size_t met) {
    size_t blocks = blocks_of(tour, of_tour(tour, met)), tokens = tour->end_token - tour->first_token;
    for (size_t block = 0; block < blocks; block++) {
        struct span some = {tour->first_token + fff_share_start(tokens, blocks, block),
                            tour->first_token + fff_share_start(tokens, blocks, block + 1)};
        for (size_t i = 0; i < count; i++) {
            visit_rows(tour, some, rows[i]);
        }
    }
}

/* ---- Trees, leaves ---------------------------------------------------------------------------- */

/* The first of those that were met whose number is not below this one. */
static size_t first_row_from(const struct fff_visits *visits, size_t number) {
    size_t first = 0, end = visits->row_count;
    while (first < end) {
        size_t middle = first + (end - first) / 2;
        if (fff_row_of_visit(visits, middle) < number) {
            first = middle + 1;
        } else {
            end = middle;
        }
    }
    return first;
}

/* Those with numbers from `first` to `end`. */
static struct span rows_between(const struct fff_visits *visits, size_t first, size_t end) {
    return (struct span){first_row_from(visits, first), first_row_from(visits, end)};
}

/* How many tokens have met the first of some rows. */
static size_t tokens_of(const struct fff_visits *visits, struct span rows) {
    return rows.first < rows.end ? visits->starts[rows.first + 1] - visits->starts[rows.first] : 0;
}

/* The subtrees of a tree whose roots are of level `top`. */
static void visit_subtrees(const struct fff_tour *tour, size_t tree, size_t top) {
    const struct fff_trees *trees = &tour->part->trees;
    size_t root = tree * trees->node_count;
    for (size_t subtree = 0; subtree < (size_t)1 << top; subtree++) {
        struct span levels[FFF_MAX_DEPTH + 1];
        size_t count = 0, met = 0;
        for (size_t level = top; level < trees->level_count; level++) {
            size_t wide = (size_t)1 << (level - top), first = root + ((size_t)1 << level) - 1 + subtree * wide;
            levels[count] = rows_between(tour->visits, first, first + wide);
            met = fff_max(met, tokens_of(tour->visits, levels[count]));
            count++;
        }
        visit_group(tour, levels, count, met);
    }
}

/* Whether subtrees are worth it, from level `top` on, by what is read and written: each tree then meets all tokens
 * twice, and each row is met once. Block by block, all trees together meet tokens once, but each row is met again for
 * each block. */
static bool subtrees_pay(const struct fff_tour *tour, size_t top) {
    const struct fff_visits *visits = tour->visits;
    size_t tokens = tour->end_token - tour->first_token, blocks = blocks_of(tour, tokens), again = 0;
    if (blocks == 1 || top == tour->part->trees.level_count) {
        return false;
    }
    for (size_t row = 0; row < visits->row_count; row++) {
        again += fff_min(of_tour(tour, visits->starts[row + 1] - visits->starts[row]), blocks) - 1;
    }
    return (2 * tour->part->trees.tree_count - 1) * tokens < (tour->writes ? 2 : 1) * again;
}

static void visit_trees(const struct fff_tour *tour) {
    const struct fff_visits *visits = tour->visits;
    const struct fff_trees *trees = &tour->part->trees;
    size_t top = 0; /* the level of subtrees whose tokens are a block, if routes are even */
    while (top < trees->level_count && (tour->end_token - tour->first_token) >> top > block_of(tour)) {
        top++;
    }
    if (!subtrees_pay(tour, top)) {
        const struct span all = {0, visits->row_count};
        visit_group(tour, &all, 1, visits->token_count);
        return;
    }
    for (size_t tree = 0; tree < trees->tree_count; tree++) {
        size_t root = tree * trees->node_count;
        const struct span upper = rows_between(visits, root, root + ((size_t)1 << top) - 1);
        visit_group(tour, &upper, 1, visits->token_count);
        visit_subtrees(tour, tree, top);
    }
}

static void visit_leaves(const struct fff_tour *tour) {
    const struct fff_visits *visits = tour->visits;
    size_t width = tour->part->leaves.width;
    for (struct span leaf = {0, 0}; leaf.first < visits->row_count; leaf.first = leaf.end) {
        size_t number = fff_row_of_visit(visits, leaf.first) / width;
        while (leaf.end < visits->row_count && fff_row_of_visit(visits, leaf.end) / width == number) {
            leaf.end++;
        }
        visit_group(tour, &leaf, 1, tokens_of(visits, leaf));
    }
}

void fff_run_tour(const struct fff_tour *tour) {
    if (tour->first_token < tour->end_token) {
        (tour->part->leaves.width > 0 ? visit_leaves : visit_trees)(tour);
    }
}
